"""Flips until the first success, at most so many: one leaf at each depth.

What a leaf costs, against how deep it lies, is the difference between going on and starting over.
"""

from __future__ import annotations

from typing import Any

import torch

import contpoutine as cp
import contpoutine.distributions as dist

from ..case import Model, Posterior, Run
from ..systems.bare_replay import normalised
from ..systems.pyro_queue import pyro, pyro_dist
from .geometric import BARE_STOP, STOP

STOP_TENSOR = torch.tensor(STOP)


def contpoutine(depth: int) -> Run:
    for n in range(depth):
        if (yield cp.sample("stop", dist.Flip(STOP))):
            return n
    return depth


def over_number(depth: int) -> Run:
    for n in range(depth):
        if (yield cp.sample("stop", dist.Bernoulli(STOP))):
            return n
    return depth


def over_tensor(depth: int) -> Run:
    for n in range(depth):
        if (yield cp.sample("stop", dist.Bernoulli(STOP_TENSOR))):
            return n
    return depth


def bare(depth: int) -> Run:
    for n in range(depth):
        if (yield BARE_STOP):
            return n
    return depth


def hand(depth: int) -> Posterior:
    table: Posterior = {}
    weight = 1.0
    for n in range(depth):
        table[n] = weight * STOP
        weight *= 1 - STOP
    table[depth] = weight
    return normalised(table)


def in_pyro(depth: int) -> Any:
    for n in range(depth):
        if pyro.sample(f"stop{n}", pyro_dist.Bernoulli(STOP)):
            return torch.tensor(n)
    return torch.tensor(depth)


MODEL = Model(
    name="chain",
    title="geometric, depth {}",
    contpoutine=contpoutine,
    bare=bare,
    hand=hand,
    webppl="chain.wppl",
    pyro=in_pyro,
    variants={"Bernoulli(0.3)": over_number, "Bernoulli(tensor)": over_tensor},
)
