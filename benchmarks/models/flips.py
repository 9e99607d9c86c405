"""n fair coins, and how many show heads: a full binary tree with nothing to share or to prune."""

from __future__ import annotations

from collections import defaultdict
from math import exp, log
from typing import Any

import torch

import contpoutine as cp
import contpoutine.compat.pyro as direct
import contpoutine.distributions as dist

from ..case import Model, Posterior, Run
from ..systems.bare_replay import normalised
from ..systems.pyro_queue import pyro, pyro_dist

COIN = ((True, log(0.5)), (False, log(0.5)))
HALF = torch.tensor(0.5)


def contpoutine(n: int) -> Run:
    heads = 0
    for _ in range(n):
        heads += yield cp.sample("x", dist.Flip(0.5))
    return heads


def in_direct_style(n: int) -> Any:
    heads = 0
    for _ in range(n):
        heads += direct.sample("x", dist.Flip(0.5))
    return heads


def over_number(n: int) -> Run:
    heads = torch.zeros(())
    for _ in range(n):
        heads = heads + (yield cp.sample("x", dist.Bernoulli(0.5)))
    return heads


def over_tensor(n: int) -> Run:
    heads = torch.zeros(())
    for _ in range(n):
        heads = heads + (yield cp.sample("x", dist.Bernoulli(HALF)))
    return heads


def bare(n: int) -> Run:
    heads = 0
    for _ in range(n):
        heads += yield COIN
    return heads


def hand(n: int) -> Posterior:
    table: defaultdict[Any, float] = defaultdict(float)

    def toss(left: int, heads: int, weight: float) -> None:
        if left:
            toss(left - 1, heads + 1, weight * 0.5)
            toss(left - 1, heads, weight * 0.5)
        else:
            table[heads] += weight

    toss(n, 0, 1.0)
    return normalised(table)


def hand_torch(n: int) -> Posterior:
    table: defaultdict[Any, float] = defaultdict(float)

    def toss(left: int, heads: float, log_weight: float) -> None:
        if not left:
            table[heads] += exp(log_weight)
            return
        coin: Any = torch.distributions.Bernoulli(0.5)
        values = coin.enumerate_support()
        for value, log_prob in zip(values, coin.log_prob(values), strict=True):
            toss(left - 1, heads + value.item(), log_weight + log_prob.item())

    toss(n, 0.0, 0.0)
    return normalised(table)


def in_pyro(n: int) -> Any:
    heads = torch.zeros(())
    for i in range(n):
        heads = heads + pyro.sample(f"x{i}", pyro_dist.Bernoulli(0.5))
    return heads


MODEL = Model(
    name="flips",
    title="{} flips",
    contpoutine=contpoutine,
    bare=bare,
    hand=hand,
    webppl="flips.wppl",
    pyro=in_pyro,
    variants={
        "lifted": cp.compat.to_generator(in_direct_style, strict=True),
        "Bernoulli(0.5)": over_number,
        "Bernoulli(tensor)": over_tensor,
    },
    hand_torch=hand_torch,
)
