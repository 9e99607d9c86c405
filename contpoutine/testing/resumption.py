"""The subject of the check: one run, whose continuations are kept and resumed again and again.

A control handler gives every continuation away instead of resuming it. `explore` resumes each of
them with each answer, more than once, in one of several orders; resumptions interleave, so whatever
one branch does to what it shares with another comes to light in the other's outcome.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from contpoutine.core.capture import provider
from contpoutine.core.handler import Handler, handle
from contpoutine.core.machine import run
from contpoutine.testing.reference import ENDS, Outcome, Questions, Throw, asks, raised, returned

Path = tuple[int, ...]


@dataclass(frozen=True)
class Order:
    """In which order waiting branches are resumed, and by which form of a handler's clause."""

    name: str
    begin: Callable[[], Callable[[int], int]] = field(repr=False)
    """Gives a function: how many wait -> the place of the next one."""
    plain: bool
    """The clause is a plain function, whose k(value) runs the rest at once."""


def in_orders(n: int) -> list[Order]:
    """The first `n` of: last come first, first come first, drawn at random (0), (1), ..."""
    made = [
        Order("last come first served", lambda: lambda waiting: waiting - 1, False),
        Order("first come first served", lambda: lambda waiting: 0, True),
    ]
    for seed in range(n - 2):
        made.append(Order(f"drawn at random ({seed})", partial(mixed, seed), seed % 2 == 1))
    return made[:n]


def mixed(seed: int) -> Callable[[int], int]:
    """Runs of neighbours, with jumps."""
    rng = random.Random(seed)
    return lambda waiting: rng.choice((0, waiting - 1, rng.randrange(waiting)))


class Kept:
    """A continuation that was given away, and how it is resumed."""

    def __init__(self, k: Any, plain: bool) -> None:
        self.k, self.plain = k, plain

    def resume(self, answer: Any) -> Any:
        if isinstance(answer, Throw):
            resumption = self.k.throw(answer.error())
        else:
            resumption = self.k(provider().keep(answer))
        return resumption if self.plain else run(resumption)


def keeping(questions: Questions, plain: bool) -> Handler:
    """A control handler that gives the continuations of what is asked away."""

    def give_away(self: Handler, msg: Any, k: Any) -> Outcome:
        return asks(msg, questions.answers(msg), Kept(k, plain))

    def clause(self: Handler, msg: Any, k: Any) -> Any:
        if questions.asked(msg):
            return give_away(self, msg, k)
        return (yield k((yield msg)))

    def plain_clause(self: Handler, msg: Any, k: Any) -> Any:
        return give_away(self, msg, k) if questions.asked(msg) else k(run(forward, msg))

    clauses = {f"on_{questions.effect}": plain_clause if plain else clause}
    return type("Keeping", (Handler,), clauses)()  # type: ignore[no-any-return]


def forward(msg: Any) -> Any:
    return (yield msg)


def outcome_of(call: Callable[[], Any]) -> Outcome:
    try:
        value = call()
    except ENDS as error:
        return raised(error)
    return value if isinstance(value, Outcome) else returned(value)


@dataclass
class Step:
    """One resumption: where it led, and what was resumed before it."""

    path: Path
    outcome: Outcome
    number: int
    parent: Any  # the continuation that was resumed, or None


def explore(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    questions: Questions,
    order: Order,
    *,
    times: int = 2,
    limit: int = 2000,
) -> Iterator[Step]:
    """Run once, then resume: each continuation `times` times with each answer, near the root.

    At most `limit` resumptions are made.
    """
    waiting: list[tuple[Path, Kept, int, Any]] = []
    handler = keeping(questions, order.plain)
    first = outcome_of(lambda: run(handle(handler, model), *args))

    def arrived(step: Step) -> Step:
        outcome = step.outcome
        if not outcome.ended:
            repeats = times if len(step.path) < 3 else 1
            for place, answer in enumerate(outcome.answers):
                waiting.extend([(step.path, outcome.value, place, answer)] * repeats)
        return step

    yield arrived(Step((), first, 0, None))
    number, pick = 0, order.begin()
    while waiting and number < limit:
        path, kept, place, answer = waiting.pop(pick(len(waiting)))
        number += 1
        outcome = outcome_of(partial(kept.resume, answer))
        yield arrived(Step((*path, place), outcome, number, kept.k))
