"""Runs the systems side by side: first agreement, then time.

Each system runs each case once and the posteriors are compared; a system that disagrees ends the
benchmark before any time is printed. Then the systems take turns, A B C A B C, so that what else
the machine does meets them all alike; a round gives each system one time, long enough to be read
off the clock, and a ratio is the median over rounds of the ratio in the round. A system that took
longer than `SLOW` seconds in the first run is not run again: that run is its time.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from .case import Case, Posterior, Row
from .systems.bare_replay import Census, searched
from .systems.contpoutine import CLONE
from .systems.room import Room

SLOW = 1.0
READABLE = 0.05


class Labelled(Protocol):
    @property
    def label(self) -> str:
        """How a table calls it."""


class Disagreement(Exception):
    """Two systems gave different posteriors for one model, so their times mean nothing."""


@dataclass(frozen=True)
class Timing:
    """One system on one case: seconds of one enumeration, a number for each round."""

    system: str
    seconds: tuple[float, ...]
    ratio: float

    @property
    def median(self) -> float:
        return median(self.seconds)


@dataclass(frozen=True)
class Result:
    """A case, the size of its execution tree, and the timings, contpoutine's clone first."""

    case: Case
    census: Census
    timings: tuple[Timing, ...]

    def microseconds_per_branch(self, timing: Timing) -> float:
        return timing.median * 1e6 / self.census.branches


def warm_up(case: Case, rooms: Iterable[Room]) -> None:
    """Run everything once on a small case: the first call into a library is not like the others."""
    for room in rooms:
        for row in room.rows(case):
            row.run(1)


def compare(case: Case, rooms: Iterable[Room], rounds: int) -> Result:
    """All systems on one case: agreement, then paired rounds."""
    _, tree = searched(case)
    rows = [row for room in rooms for row in room.rows(case)]
    first = [row.run(1) for row in rows]
    agree(case, rows, [posterior for posterior, _ in first])
    say(f"{case.label}: {len(rows)} systems agree on {tree.leaves:,} leaves")

    return Result(case, tree, timed(rows, [seconds for _, seconds in first], rounds))


def timed(rows: Sequence[Row], first: Sequence[float], rounds: int) -> tuple[Timing, ...]:
    """Paired rounds of rows whose first run took so long; ratios are to the first row."""
    seconds = [[once] if once > SLOW else [] for once in first]
    for _ in range(rounds):
        for row, once, taken in zip(rows, first, seconds, strict=True):
            if once <= SLOW:
                taken.append(row.run(max(1, math.ceil(READABLE / once)))[1])
    return tuple(
        Timing(row.name, tuple(taken), paired_ratio(taken, seconds[0]))
        for row, taken in zip(rows, seconds, strict=True)
    )


def agree(case: Labelled, rows: Sequence[Row], posteriors: Sequence[Posterior]) -> None:
    """Raise `Disagreement` unless all posteriors are equal, each to its system's tolerance."""
    reference = posteriors[0]
    for row, posterior in zip(rows, posteriors, strict=True):
        for value in reference.keys() | posterior.keys():
            expected, got = reference.get(value, 0.0), posterior.get(value, 0.0)
            if not abs(expected - got) <= max(row.tolerance, rows[0].tolerance):
                raise Disagreement(
                    f"{case.label}: p({value!r}) is {expected!r} by {rows[0].name} "
                    f"and {got!r} by {row.name}; no times are given."
                )


def paired_ratio(taken: Sequence[float], base: Sequence[float]) -> float:
    """How many times as long as the base: by rounds where both ran them, else by medians."""
    if len(taken) == len(base):
        return median(mine / its for mine, its in zip(taken, base, strict=True))
    return median(taken) / median(base)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


__all__ = [
    "CLONE",
    "Disagreement",
    "Result",
    "Timing",
    "agree",
    "compare",
    "say",
    "timed",
    "warm_up",
]
