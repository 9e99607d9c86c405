"""The chest clinic of Lauritzen and Spiegelhalter (1988): X-ray and dyspnoea seen, cancer asked."""

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
from .sprinkler import flip


def p_xray(either: bool) -> float:
    return 0.98 if either else 0.05


def p_dyspnoea(bronchitis: bool, either: bool) -> float:
    if bronchitis:
        return 0.9 if either else 0.8
    return 0.7 if either else 0.1


def contpoutine() -> Run:
    visit = yield cp.sample("visit", dist.Flip(0.01))
    tuberculosis = yield cp.sample("tuberculosis", dist.Flip(0.05 if visit else 0.01))
    smoking = yield cp.sample("smoking", dist.Flip(0.5))
    lung = yield cp.sample("lung", dist.Flip(0.1 if smoking else 0.01))
    bronchitis = yield cp.sample("bronchitis", dist.Flip(0.6 if smoking else 0.3))
    either = tuberculosis or lung
    yield cp.sample("xray", dist.Flip(p_xray(either)), obs=True)
    yield cp.sample("dyspnoea", dist.Flip(p_dyspnoea(bronchitis, either)), obs=True)
    return lung


def bare() -> Run:
    visit = yield flip(0.01)
    tuberculosis = yield flip(0.05 if visit else 0.01)
    smoking = yield flip(0.5)
    lung = yield flip(0.1 if smoking else 0.01)
    bronchitis = yield flip(0.6 if smoking else 0.3)
    either = tuberculosis or lung
    yield log(p_xray(either))
    yield log(p_dyspnoea(bronchitis, either))
    return lung


def both(p: float) -> tuple[tuple[bool, float], tuple[bool, float]]:
    return (True, p), (False, 1 - p)


def hand() -> Posterior:
    table: defaultdict[Any, float] = defaultdict(float)
    for visit, p1 in both(0.01):
        for tuberculosis, p2 in both(0.05 if visit else 0.01):
            for smoking, p3 in both(0.5):
                for lung, p4 in both(0.1 if smoking else 0.01):
                    for bronchitis, p5 in both(0.6 if smoking else 0.3):
                        either = tuberculosis or lung
                        seen = p_xray(either) * p_dyspnoea(bronchitis, either)
                        table[lung] += p1 * p2 * p3 * p4 * p5 * seen
    return normalised(table)


def in_pyro() -> Any:
    visit = pyro.sample("visit", pyro_dist.Bernoulli(0.01))
    tuberculosis = pyro.sample("tuberculosis", pyro_dist.Bernoulli(0.05 if visit else 0.01))
    smoking = pyro.sample("smoking", pyro_dist.Bernoulli(0.5))
    lung = pyro.sample("lung", pyro_dist.Bernoulli(0.1 if smoking else 0.01))
    bronchitis = pyro.sample("bronchitis", pyro_dist.Bernoulli(0.6 if smoking else 0.3))
    either = bool(tuberculosis) or bool(lung)
    pyro.sample("xray", pyro_dist.Bernoulli(p_xray(either)))
    pyro.sample("dyspnoea", pyro_dist.Bernoulli(p_dyspnoea(bool(bronchitis), either)))
    return lung


MODEL = Model(
    name="asia",
    title="Asia",
    contpoutine=contpoutine,
    bare=bare,
    hand=hand,
    webppl="asia.wppl",
    pyro=in_pyro,
    pyro_data=lambda: {"xray": torch.tensor(1.0), "dyspnoea": torch.tensor(1.0)},
)
