"""A millisecond of deterministic work, then flips: work that going on does once."""

from __future__ import annotations

import time
from typing import Any

from ..case import Model, Posterior, Run
from . import flips


def work(seconds: float = 1e-3) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def contpoutine(n: int) -> Run:
    work()
    return (yield from flips.contpoutine(n))


def bare(n: int) -> Run:
    work()
    return (yield from flips.bare(n))


def hand(n: int) -> Posterior:
    work()
    return flips.hand(n)


def in_pyro(n: int) -> Any:
    work()
    return flips.in_pyro(n)


MODEL = Model(
    name="prefix",
    title="1 ms, then {} flips",
    contpoutine=contpoutine,
    bare=bare,
    hand=hand,
    webppl="prefix.wppl",
    pyro=in_pyro,
)
