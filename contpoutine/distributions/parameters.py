"""Checking a torch distribution's parameters at the boundary, without torch's own price.

Torch's validation runs several tensor operations for each scalar. Here a scalar is read as a
Python number and compared; only a parameter with more elements goes through its constraint.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.distributions import Distribution, constraints

from contpoutine.errors import DistributionError


def as_parameter(value: Any) -> Any:
    """A list or tuple of numbers as a tensor; anything else as it is."""
    leaf = value
    while isinstance(leaf, list | tuple) and leaf:
        leaf = leaf[0]
    if leaf is value or not isinstance(leaf, int | float):
        return value
    tensor = torch.as_tensor(value)
    return tensor if tensor.dtype.is_floating_point else tensor.to(torch.get_default_dtype())


def check_parameters(fn: Distribution) -> None:
    """Refuse parameters that break their constraint.

    Raises:
        DistributionError: it names the distribution, the parameter, its value and the constraint.
    """
    held = vars(fn)
    for name, constraint in fn.arg_constraints.items():
        value = held.get(name)
        if isinstance(value, torch.Tensor) and not constraints.is_dependent(constraint):  # type: ignore[no-untyped-call]
            check_parameter(type(fn).__name__, name, value, constraint)


def check_parameter(owner: str, name: str, value: torch.Tensor, constraint: Any) -> None:
    """Refuse one tensor parameter that breaks its constraint."""
    try:
        if value.dim() == 0 and _number_fits(value.item(), constraint):
            return
        bad = ~constraint.check(value)
        if not bool(bad.any()):
            return
    except (RuntimeError, NotImplementedError):
        return  # no values to look at, under tracing or a meta device
    shown = repr(value.item()) if value.dim() == 0 else f"\n{value.detach()}"
    raise DistributionError(
        f"{owner}: the parameter {name!r} must satisfy {constraint!r}, and is {shown}"
    )


def _number_fits(x: float, constraint: Any) -> bool:
    """Whether a scalar surely fits; False sends it to the constraint itself."""
    if constraint is constraints.real:
        return not math.isnan(x)
    if constraint.is_discrete:
        return False
    low = getattr(constraint, "lower_bound", None)
    high = getattr(constraint, "upper_bound", math.inf)
    return isinstance(low, int | float) and isinstance(high, int | float) and low < x < high
