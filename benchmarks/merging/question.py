"""A question, and the rows that answer it: who agrees is found out first, then the clock runs.

An entry belongs to a peer, and a peer that is not here is left out and named. The first entry of
every question is contpoutine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import contpoutine as cp

from ..case import Posterior, Program, Row, python_row
from ..runner import Timing, agree, say, timed

OURS = "contpoutine"
HAND = "by hand"


@dataclass(frozen=True)
class Entry:
    """A row, and whose it is."""

    peer: str
    row: Row


@dataclass(frozen=True)
class Question:
    """A model at a size and what is asked of it.

    Attributes:
        label: how the table calls it.
        entries: who answers it, contpoutine first.
        short: whether it stands in the short table as well.
    """

    label: str
    entries: tuple[Entry, ...]
    short: bool = False


@dataclass(frozen=True)
class Answer:
    """A question and how long each of its rows took."""

    question: Question
    timings: tuple[Timing, ...]


def ours(
    name: str,
    model: Program,
    *arguments: Any,
    tolerance: float = 1e-9,
    ask: Callable[[cp.infer.Posterior], Posterior] | None = None,
    **options: Any,
) -> Entry:
    """contpoutine, from the model to the numbers: the enumeration and what is asked of it."""
    ask = ask or returned

    def once() -> Posterior:
        return ask(cp.infer.enumerate(model, **options)(*arguments))

    return Entry(OURS, python_row(name, once, tolerance))


def by_hand(name: str, once: Callable[[], Posterior], tolerance: float = 1e-9) -> Entry:
    return Entry(HAND, python_row(name, once, tolerance))


def returned(posterior: cp.infer.Posterior) -> Posterior:
    """The marginal of the value that the model returns."""
    return dict(posterior.marginal())


def run(questions: Iterable[Question], rounds: int) -> list[Answer]:
    """Ask everything of everybody once, compare, and only then take times."""
    asked = []
    for question in questions:
        rows = [entry.row for entry in question.entries]
        first = [row.run(1) for row in rows]
        agree(question, rows, [posterior for posterior, _ in first])
        say(f"{question.label}: {len(rows)} agree")
        asked.append((question, rows, [seconds for _, seconds in first]))
    return [Answer(question, timed(rows, first, rounds)) for question, rows, first in asked]
