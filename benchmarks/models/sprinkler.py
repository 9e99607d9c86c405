"""The grass is wet: did it rain?  Four executions, one of them impossible."""

from __future__ import annotations

from collections import defaultdict
from math import inf, log
from typing import Any

import torch

import contpoutine as cp
import contpoutine.distributions as dist

from ..case import Model, Posterior, Run
from ..systems.bare_replay import normalised
from ..systems.pyro_queue import pyro, pyro_dist


def contpoutine() -> Run:
    rain = yield cp.sample("rain", dist.Flip(0.2))
    on = yield cp.sample("sprinkler", dist.Flip(0.01 if rain else 0.4))
    wet = 0.99 if rain and on else 0.9 if on else 0.8 if rain else 0.0
    yield cp.sample("wet", dist.Flip(wet), obs=True)
    return rain


def flip(p: float) -> tuple[tuple[bool, float], ...]:
    return ((True, log(p)), (False, log(1 - p)))


def bare() -> Run:
    rain = yield flip(0.2)
    on = yield flip(0.01 if rain else 0.4)
    wet = 0.99 if rain and on else 0.9 if on else 0.8 if rain else 0.0
    yield log(wet) if wet else -inf
    return rain


def hand() -> Posterior:
    table: defaultdict[Any, float] = defaultdict(float)
    for rain, p_rain in ((True, 0.2), (False, 0.8)):
        p_on = 0.01 if rain else 0.4
        for on, p in ((True, p_on), (False, 1 - p_on)):
            wet = 0.99 if rain and on else 0.9 if on else 0.8 if rain else 0.0
            if wet:
                table[rain] += p_rain * p * wet
    return normalised(table)


def in_pyro() -> Any:
    rain = pyro.sample("rain", pyro_dist.Bernoulli(0.2))
    on = pyro.sample("sprinkler", pyro_dist.Bernoulli(0.01 if rain else 0.4))
    wet = 0.99 if rain and on else 0.9 if on else 0.8 if rain else 0.0
    pyro.sample("wet", pyro_dist.Bernoulli(wet))
    return rain


MODEL = Model(
    name="sprinkler",
    title="sprinkler",
    contpoutine=contpoutine,
    bare=bare,
    hand=hand,
    webppl="sprinkler.wppl",
    pyro=in_pyro,
    pyro_data=lambda: {"wet": torch.tensor(1.0)},
)
