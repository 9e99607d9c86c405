"""Five dice, and their total."""

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

FACES = range(1, 7)
DIE = dist.UniformDraw(FACES)
BARE_DIE = tuple((face, -log(6)) for face in FACES)


def contpoutine() -> Run:
    total = 0
    for _ in range(5):
        total += yield cp.sample("die", DIE)
    return total


def bare() -> Run:
    total = 0
    for _ in range(5):
        total += yield BARE_DIE
    return total


def hand() -> Posterior:
    table: defaultdict[Any, float] = defaultdict(float)

    def throw(left: int, total: int, weight: float) -> None:
        if left:
            for face in FACES:
                throw(left - 1, total + face, weight / 6)
        else:
            table[total] += weight

    throw(5, 0, 1.0)
    return normalised(table)


if pyro is not None:
    PYRO_DIE = pyro_dist.Categorical(torch.ones(6) / 6)


def in_pyro() -> Any:
    total = torch.tensor(0)
    for i in range(5):
        total = total + 1 + pyro.sample(f"die{i}", PYRO_DIE)
    return total


MODEL = Model(
    name="dice",
    title="five dice",
    contpoutine=contpoutine,
    bare=bare,
    hand=hand,
    webppl="dice.wppl",
    pyro=in_pyro,
)
