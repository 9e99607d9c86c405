"""A hidden Markov model with three states and an observation at each step; the last state.

3^T leaves. The rows of the two matrices are distributions made once, outside the model.
"""

from __future__ import annotations

from collections import defaultdict
from math import log
from typing import Any

import torch

import contpoutine as cp
import contpoutine.distributions as dist

from ..case import Model, Posterior, Run
from ..systems.bare_replay import normalised
from ..systems.pyro_queue import pyro, pyro_dist

TRANSITION = ((0.7, 0.2, 0.1), (0.1, 0.6, 0.3), (0.3, 0.3, 0.4))
EMISSION = ((0.8, 0.1, 0.1), (0.2, 0.6, 0.2), (0.1, 0.3, 0.6))
DATA = (0, 1, 2, 2, 0, 1, 1, 0, 2, 1)

NEXT_STATE = [dist.Finite[int](dict(enumerate(row))) for row in TRANSITION]
SYMBOL = [dist.Finite[int](dict(enumerate(row))) for row in EMISSION]
BARE_NEXT = tuple(tuple((k, log(p)) for k, p in enumerate(row)) for row in TRANSITION)
BARE_SYMBOL = tuple(tuple(log(p) for p in row) for row in EMISSION)


def contpoutine(steps: int) -> Run:
    state = 0
    for t in range(steps):
        state = yield cp.sample("z", NEXT_STATE[state])
        yield cp.sample("y", SYMBOL[state], obs=DATA[t])
    return state


def bare(steps: int) -> Run:
    state = 0
    for t in range(steps):
        state = yield BARE_NEXT[state]
        yield BARE_SYMBOL[state][DATA[t]]
    return state


def hand(steps: int) -> Posterior:
    table: defaultdict[Any, float] = defaultdict(float)

    def step(t: int, state: int, weight: float) -> None:
        if t == steps:
            table[state] += weight
            return
        seen = DATA[t]
        for following, p in enumerate(TRANSITION[state]):
            step(t + 1, following, weight * p * EMISSION[following][seen])

    step(0, 0, 1.0)
    return normalised(table)


if pyro is not None:
    PYRO_NEXT = [pyro_dist.Categorical(torch.tensor(row)) for row in TRANSITION]
    PYRO_SYMBOL = [pyro_dist.Categorical(torch.tensor(row)) for row in EMISSION]


def in_pyro(steps: int) -> Any:
    state = torch.tensor(0)
    for t in range(steps):
        state = pyro.sample(f"z{t}", PYRO_NEXT[state])
        pyro.sample(f"y{t}", PYRO_SYMBOL[state])
    return state


def observed(steps: int) -> dict[str, Any]:
    return {f"y{t}": torch.tensor(DATA[t]) for t in range(steps)}


MODEL = Model(
    name="hmm",
    title="hidden Markov, T={}",
    contpoutine=contpoutine,
    bare=bare,
    hand=hand,
    webppl="hmm.wppl",
    pyro=in_pyro,
    pyro_data=observed,
)
