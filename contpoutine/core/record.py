"""The answers that a computation was given, as an immutable list that branches share.

Replay is the definition of resumption: run again, with these answers. Each entry says what was
asked (type and name) and what was answered, newest entry first, so that two branches share the
part of the list that they have in common and appending costs O(1).
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple

STREAM = "_stream"
"""The key under which a message carries the states of the random number generators, where they are
the model's own (`poutine.seed`)."""


class Answer(NamedTuple):
    """One recorded answer.

    `error` is what was raised at the site, if not answered by a value, and `traceback` the one that
    it had then. `drawn` says that the value was drawn at random because no handler gave one.
    `pick` is for a value that the model may have made itself, and can change: which of the values
    that the site offered it was. A replay takes the one at that place of what is offered then.
    `seen` holds what handlers further out had put into the message, for those inside that see it
    again.
    `stream` is where a seeded model's random numbers go on after the site.
    """

    earlier: Answer | None
    type: str
    name: Any
    value: Any
    error: BaseException | None = None
    traceback: TracebackType | None = None
    drawn: bool = False
    pick: int | None = None
    seen: tuple[tuple[str, Any], ...] = ()
    stream: Any = None


def in_order(log: Answer | None) -> list[Answer]:
    """The recorded answers, first one first."""
    answers = []
    while log is not None:
        answers.append(log)
        log = log.earlier
    answers.reverse()
    return answers


def site(type_: str, name: Any) -> str:
    """How a site is named in an error message."""
    return f"{type_} {name!r}" if name is not None else str(type_)
