"""`python -m benchmarks.forks`: what one fork costs, beside `copy.deepcopy` of the same locals.

A suspended generator is forked again and again in C, as the enumeration does it, and each copy is
dropped without running; the time is that of both. Beside it, `copy.deepcopy` copies a dict of the
same locals: it knows nothing of the frame's position, its value stack or what the frame was given,
and is what a program without forks would use. The systems take turns; a time is the minimum over
rounds (other processes only add to it), the ratio that of the minima.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from contpoutine.core import native as extension

ROUNDS = 15
SECONDS = 0.02  # of one round of one system


def small(n: int) -> Generator[Any, Any, Any]:
    """Five scalar locals and a loop."""
    total, weight, name, flag = 0, 0.5, "x", True
    for i in range(n):
        answer = yield i
        total += answer if flag else 0
        weight *= 0.5
    return total, weight, name


def owner(n: int) -> Generator[Any, Any, Any]:
    """A list of a hundred integers, and a loop."""
    numbers = list(range(1000, 1100))
    for i in range(n):
        numbers[i] += yield i
    return numbers


def nested(n: int) -> Generator[Any, Any, Any]:
    """A dict of lists, two names for one of them, and a loop over an enumerate."""
    table = {key: [key, key] for key in range(1000, 1010)}
    last = table[1009]
    for i, key in enumerate(table):
        last.append((yield (i, key)))
    return table, n


@dataclass(frozen=True)
class Case:
    """A frame to fork, and what a fork of it is to cost at most, in microseconds."""

    name: str
    model: Callable[[int], Generator[Any, Any, Any]]
    goal: float | None


CASES = (
    Case("five scalar locals, one loop", small, 0.6),
    Case("a list of 100 integers, one loop", owner, 1.5),
    Case("a dict of 10 lists, an alias, a loop", nested, None),
)


@dataclass(frozen=True)
class Figure:
    """Microseconds of one fork, and of one deepcopy."""

    case: Case
    fork: float
    deepcopy: float

    @property
    def ratio(self) -> float:
        return self.deepcopy / self.fork


def measure(case: Case) -> Figure:
    frame: Any = case.model(10**6)
    twin: Any = case.model(10**6)
    next(frame), next(twin)
    values = dict(twin.gi_frame.f_locals)  # of another one: whoever asks leaves a dict in the frame
    native: Any = extension.native

    def forks(n: int) -> None:
        native.fork_again(frame, n)

    def copies(n: int) -> None:
        for _ in range(n):
            copy.deepcopy(values)

    best = [min(times) for times in zip(*_rounds((forks, copies)), strict=True)]
    return Figure(case, best[0] * 1e6, best[1] * 1e6)


def _rounds(systems: tuple[Callable[[int], None], ...]) -> Iterator[tuple[float, ...]]:
    repeats = [_repeats(system) for system in systems]
    for _ in range(ROUNDS):
        yield tuple(_time(system, n) for system, n in zip(systems, repeats, strict=True))


def _repeats(system: Callable[[int], None]) -> int:
    n = 1
    while _time(system, n) * n < SECONDS:
        n *= 2
    return n


def _time(system: Callable[[int], None], n: int) -> float:
    begin = time.perf_counter()
    system(n)
    return (time.perf_counter() - begin) / n


def main() -> int:
    if extension.native is None:
        print(f"no forks to time: {extension.reason}")
        return 1
    print("| frame                                |  fork µs | asked µs | deepcopy µs | ratio |")
    print("|--------------------------------------|---------:|---------:|------------:|------:|")
    for case in CASES:
        figure = measure(case)
        asked = "" if case.goal is None else f"{case.goal:.1f}"
        print(
            f"| {case.name:36} | {figure.fork:8.2f} | {asked:>8} | {figure.deepcopy:11.1f} "
            f"| {figure.ratio:5.1f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
