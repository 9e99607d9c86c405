"""Distributions: finite ones over any Python values, and torch's own under their own names.

`Flip`, `Finite`, `UniformDraw`, `RandInt` and `Delta` need no torch, and importing this package
does not import it. `Bernoulli`, `Categorical`, `Normal` and every other distribution of torch's is
there as well, from the moment it is asked for: subclasses of torch's classes, with cheap
validation, Pyro's `to_event` and `mask`, and a light path for scalar coins and categories.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from contpoutine.distributions import choices as choices
from contpoutine.distributions.finite import (
    Delta,
    Finite,
    FiniteDistribution,
    Flip,
    RandInt,
    UniformDraw,
    Unit,
)

__all__ = ["Delta", "Finite", "FiniteDistribution", "Flip", "RandInt", "UniformDraw", "Unit"]

if TYPE_CHECKING:
    from torch.distributions import *  # noqa: F403

    from contpoutine.distributions.bernoulli import Bernoulli as Bernoulli
    from contpoutine.distributions.categorical import Categorical as Categorical
    from contpoutine.distributions.empirical import Empirical as Empirical
    from contpoutine.distributions.normal import Normal as Normal
    from contpoutine.distributions.torch_distribution import Independent as Independent  # type: ignore[assignment]
    from contpoutine.distributions.torch_distribution import Masked as Masked


def __getattr__(name: str) -> Any:
    """A name of torch.distributions, kept after its first use."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    from contpoutine.distributions.torch_backed import named

    found = globals()[name] = named(name)
    return found


def __dir__() -> list[str]:
    from contpoutine.distributions.torch_backed import names

    return sorted({*globals(), *names()})
