"""Flips until the first success, without end: the 1,000 most probable executions, as a loop.

The k-th execution is k choices deep, so what is paid for each level of depth shows.
"""

from __future__ import annotations

from math import log

import contpoutine as cp
import contpoutine.distributions as dist

from ..case import Model, Posterior, Run
from ..systems.bare_replay import normalised

STOP = 0.3
BARE_STOP = ((True, log(STOP)), (False, log(1 - STOP)))


def contpoutine() -> Run:
    n = 0
    while not (yield cp.sample("stop", dist.Flip(STOP))):
        n += 1
    return n


def bare() -> Run:
    n = 0
    while not (yield BARE_STOP):
        n += 1
    return n


def hand(executions: int = 1000) -> Posterior:
    table: Posterior = {}
    weight = 1.0
    for n in range(executions):
        table[n] = weight * STOP
        weight *= 1 - STOP
    return normalised(table)


MODEL = Model(
    name="geometric",
    title="geometric, 1,000 executions",
    contpoutine=contpoutine,
    bare=bare,
    hand=hand,
    webppl="geometric.wppl",
)
