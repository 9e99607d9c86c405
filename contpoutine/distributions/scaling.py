"""The scale and the mask of a site, as the engine weighs them.

Each is a number (a bool), or a tensor that broadcasts against the batch shape of the site's
distribution. A log-probability counts once for each entry that it is broadcast to: a scalar site
under a mask with three entries of which two are true counts twice. What a mask leaves out is not
looked at: its value may be NaN or outside the support.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from contpoutine.distributions.choices import checked_weight, log_weight
from contpoutine.distributions.content import is_tensor
from contpoutine.distributions.finite import Unit
from contpoutine.errors import BadWeightError, ShapeError

if TYPE_CHECKING:
    import torch


def element_scales(msg: Any) -> list[float]:
    """What each element's log-probability is multiplied by: one number for each element of the
    batch, in row-major order; one for a site that has no batch.

    Raises:
        BadWeightError: a scale is negative or not finite.
        ShapeError: scale, mask and batch do not broadcast.
    """
    scale, mask = msg["scale"], msg["mask"]
    if is_tensor(scale) or is_tensor(mask):
        shape = tuple(getattr(msg["fn"], "batch_shape", ()))
        scales = _factors(msg, shape).sum_to_size(shape).reshape(-1).tolist()
    else:
        scales = [float(scale) if mask is None or mask else 0.0]
    for number in scales:
        if not 0.0 <= number < math.inf:
            raise BadWeightError(
                f"site {msg['name']!r}, performed at {msg.where}, is scaled by {number!r}; a scale "
                f"is a finite number, zero or more"
            )
    return scales


def scaled_log_weight(msg: Any) -> float:
    """The log-weight of a site whose value is decided, with its scale and mask.

    Raises:
        OutsideSupportError: the value is outside the support.
        BadWeightError: a log-probability is NaN or plus infinity.
        ShapeError: scale, mask and log-probability do not broadcast.
    """
    fn, value, name, scale, mask = msg["fn"], msg["value"], msg["name"], msg["scale"], msg["mask"]
    if mask is False:
        return 0.0
    if not is_tensor(scale) and not is_tensor(mask):
        weight = log_weight(fn, value, name)
        return weight if scale == 1.0 else weight * float(scale)
    import torch

    if isinstance(fn, Unit) and is_tensor(fn.parameters[0]):
        log_probs = fn.parameters[0].detach().double()
    elif isinstance(fn, torch.distributions.Distribution):
        from contpoutine.distributions.ask_torch import element_log_probs

        shape = tuple(fn.batch_shape)
        counted = _factors(msg, shape).sum_to_size(shape) != 0.0
        log_probs = element_log_probs(fn, value, name, counted)
    else:
        log_probs = torch.tensor(log_weight(fn, value, name), dtype=torch.float64)
    factors = _factors(msg, tuple(log_probs.shape))
    counted = torch.where(factors != 0.0, log_probs * factors, torch.zeros_like(factors))
    return checked_weight(float(counted.sum()), fn, name, value)


def _factors(msg: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """Scale times mask, broadcast with a batch of that shape, in float64."""
    import torch

    scale, mask = msg["scale"], msg["mask"]
    parts = [torch.ones(shape, dtype=torch.float64), torch.as_tensor(scale).detach().double()]
    if mask is not None:
        parts.append(torch.as_tensor(mask).double())
    try:
        wide: torch.Tensor = math.prod(parts)  # type: ignore[assignment]
    except RuntimeError:
        given = ", ".join(
            f"{what} of shape {tuple(part.shape)}"
            for what, part in zip(("a batch", "a scale", "a mask"), parts, strict=False)
        )
        raise ShapeError(
            f"site {msg['name']!r}, performed at {msg.where}, has {given}, which do not broadcast"
        ) from None
    return wide
