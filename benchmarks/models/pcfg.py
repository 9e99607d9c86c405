"""A recursive grammar, S -> S S | word, cut at a depth; how many words the sentence has.

A derivation cut at depth d has 1 + a(d-1)^2 leaves: 2, 5, 26, 677, 458,330 for d = 1 to 5.
"""

from __future__ import annotations

from collections import defaultdict
from math import log
from typing import Any, TypeAlias

import torch

import contpoutine as cp
import contpoutine.distributions as dist

from ..case import Model, Posterior, Run
from ..systems.bare_replay import normalised
from ..systems.pyro_queue import pyro, pyro_dist

SPLIT = 0.4
BARE_SPLIT = ((True, log(SPLIT)), (False, log(1 - SPLIT)))


def contpoutine(depth: int) -> Run:
    if depth == 0 or not (yield cp.sample("split", dist.Flip(SPLIT))):
        return 1
    left = yield contpoutine(depth - 1)
    right = yield contpoutine(depth - 1)
    return left + right


def bare(depth: int) -> Run:
    if depth == 0 or not (yield BARE_SPLIT):
        return 1
    left = yield from bare(depth - 1)
    right = yield from bare(depth - 1)
    return left + right


Pending: TypeAlias = "tuple[int, Pending] | None"


def hand(depth: int) -> Posterior:
    table: defaultdict[Any, float] = defaultdict(float)

    def derive(pending: Pending, words: int, weight: float) -> None:
        while pending is not None:
            depth, pending = pending
            if depth:
                derive((depth - 1, (depth - 1, pending)), words, weight * SPLIT)
                weight *= 1 - SPLIT
            words += 1
        table[words] += weight

    derive((depth, None), 0, 1.0)
    return normalised(table)


def in_pyro(depth: int, path: str = "") -> Any:
    """Pyro needs a name of its own for each site, so a site is named for its place in the tree."""
    if depth == 0 or not pyro.sample(f"split{path}", pyro_dist.Bernoulli(SPLIT)):
        return torch.tensor(1.0)
    return in_pyro(depth - 1, path + "l") + in_pyro(depth - 1, path + "r")


MODEL = Model(
    name="pcfg",
    title="PCFG, depth {}",
    contpoutine=contpoutine,
    bare=bare,
    hand=hand,
    webppl="pcfg.wppl",
    pyro=in_pyro,
)
