"""The geometric model as a true recursion: the k-th execution is k calls deep when it ends.

In contpoutine a generator that is yielded is a call on the interpreter's own stack. Plain
generators nest by `yield from`, a thousand of which are a RecursionError in Python, so the bare
replay has the loop instead.
"""

from __future__ import annotations

import contpoutine as cp
import contpoutine.distributions as dist

from ..case import Model, Run
from .geometric import STOP, bare, hand


def contpoutine() -> Run:
    if (yield cp.sample("stop", dist.Flip(STOP))):
        return 0
    return 1 + (yield contpoutine())


MODEL = Model(
    name="nested",
    title="geometric by recursion, 1,000 executions",
    contpoutine=contpoutine,
    bare=bare,
    hand=hand,
    webppl="nested.wppl",
)
