"""Types of what a model gets: `make check` holds these under mypy, nothing runs them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, assert_type

import torch

import contpoutine as cp
import contpoutine.distributions as dist


def typed() -> Generator[Any, Any, bool]:
    flip = yield from cp.sample("flip", dist.Flip(0.5))
    assert_type(flip, bool)
    letter = yield from cp.sample("letter", dist.UniformDraw(["a", "b"]))
    assert_type(letter, str)
    number = yield from cp.sample("number", dist.RandInt(0, 3))
    assert_type(number, int)
    tensor = yield from cp.sample("tensor", torch.distributions.Normal(0.0, 1.0))
    assert_type(tensor, torch.Tensor)
    named = yield from cp.deterministic("named", 3.5)
    assert_type(named, float)
    return flip


def calls_another() -> Generator[Any, Any, str]:
    flip = yield from typed()
    assert_type(flip, bool)
    return "yes" if flip else "no"
