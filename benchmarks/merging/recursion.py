"""Models that call themselves: a grammar, and a geometric variable that has no end.

Uncapped, a grammar of depth d makes sentences of up to 2^d words, so the answer itself is too long
to print at depth 30; there the number of words is capped, and what is above the cap is one value.
A geometric variable has infinitely many values, and no system can list them. Taken modulo 7 it has
seven, each the sum of an endless series; as a system of equations they are found without a budget.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import contpoutine as cp
import contpoutine.distributions as dist

from ..case import Posterior, Run
from ..models.pcfg import SPLIT
from . import flippy, webppl
from .question import Question, by_hand, ours

CAP = 20


def words(depth: int) -> Run:
    if depth == 0 or not (yield cp.sample("split", dist.Flip(SPLIT))):
        return 1
    left = yield words(depth - 1)
    right = yield words(depth - 1)
    return left + right


def capped_words(depth: int) -> Run:
    if depth == 0 or not (yield cp.sample("split", dist.Flip(SPLIT))):
        return 1
    left = yield capped_words(depth - 1)
    right = yield capped_words(depth - 1)
    return min(left + right, CAP)


def waiting() -> Run:
    """How often one waits, modulo 7."""
    if (yield cp.sample("stop", dist.Flip(0.3))):
        return 0
    waited = yield waiting()
    return (waited + 1) % 7


def words_by_tables(depth: int, cap: int | None = None) -> Posterior:
    @cache
    def table(depth: int) -> Posterior:
        if depth == 0:
            return {1: 1.0}
        below, found = table(depth - 1), defaultdict[int, float](float, {1: 1 - SPLIT})
        for left, p in below.items():
            for right, q in below.items():
                total = left + right if cap is None else min(left + right, cap)
                found[total] += SPLIT * p * q
        return dict(found)

    return table(depth)


def waiting_in_closed_form() -> Posterior:
    return {k: 0.3 * 0.7**k / (1 - 0.7**7) for k in range(7)}


def words_question(depth: int, short: bool = False) -> Question:
    return Question(
        f"PCFG, depth {depth}",
        (
            ours("merged", words, depth, merge=True),
            flippy.entry("FlipPy", "words", depth),
            webppl.entry("WebPPL, nested by hand", "words", depth),
            by_hand("recursion over tables", lambda: words_by_tables(depth)),
        ),
        short,
    )


def capped_question(depth: int, short: bool = False) -> Question:
    return Question(
        f"PCFG, depth {depth}, capped at {CAP} words",
        (
            ours("merged", capped_words, depth, merge=True),
            flippy.entry("FlipPy", "capped_words", depth),
            webppl.entry("WebPPL, nested by hand", "cappedWords", depth),
            by_hand("recursion over tables", lambda: words_by_tables(depth, CAP)),
        ),
        short,
    )


def waiting_question(short: bool = False) -> Question:
    return Question(
        "geometric modulo 7, no budget",
        (
            ours("merged", waiting, merge=True),
            by_hand("closed form", waiting_in_closed_form),
        ),
        short,
    )
