"""The log-probability of one recorded site, as a float or as a tensor.

A site is *plain* where a float says it all: no gradient can pass it, because its distribution is
finite or has plain numbers for parameters, and neither its value nor its scale and mask are tensors
that matter. Everything else is asked of the distribution's own `log_prob`, so gradients flow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contpoutine.distributions import FiniteDistribution, Unit
from contpoutine.distributions.choices import log_weight
from contpoutine.distributions.content import is_tensor
from contpoutine.errors import ShapeError

if TYPE_CHECKING:
    import torch


def is_plain(node: dict[str, Any]) -> bool:
    """Is `log_weight_of` the whole answer?"""
    if is_tensor(node["scale"]) or is_tensor(node["mask"]):
        return False
    fn = node["fn"]
    if isinstance(fn, FiniteDistribution):
        return not (isinstance(fn, Unit) and is_tensor(fn.parameters[0]))
    # Our scalar torch distributions keep the numbers that they were given.
    return (
        getattr(fn, "_numbers", None) is not None
        and not fn._tensors
        and not getattr(node["value"], "requires_grad", False)
    )


def log_weight_of(node: dict[str, Any]) -> float:
    """The log-probability of a plain site: natural logarithm, with scale and mask."""
    if node["mask"] is False:
        return 0.0
    weight = log_weight(node["fn"], node["value"], node["name"])
    return weight * float(node["scale"])


def site_log_prob(node: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probability of any site: as the distribution says, and with scale and mask."""
    import torch

    fn, value = node["fn"], node["value"]
    try:
        if isinstance(fn, torch.distributions.Distribution):
            from contpoutine.distributions.ask_torch import as_tensor

            value = as_tensor(fn, value)
        log_prob = fn.log_prob(value, *node["args"], **node["kwargs"])
    except Exception as error:
        misfit = _misfit(node)
        if misfit is not None:
            raise misfit from error
        error.add_note(
            f"this is the log-probability of the recorded site {node['name']!r}, whose value is "
            f"{value!r} and whose distribution is {fn!r}"
        )
        raise
    if not is_tensor(log_prob):
        log_prob = torch.tensor(float(log_prob), dtype=torch.float64)
    return log_prob, scale_and_mask(log_prob, node["scale"], node["mask"])


def _misfit(node: dict[str, Any]) -> ShapeError | None:
    """Do the shapes of value and distribution not broadcast?"""
    import torch

    fn, value = node["fn"], node["value"]
    if not is_tensor(value) or not isinstance(fn, torch.distributions.Distribution):
        return None
    wanted = tuple(fn.batch_shape + fn.event_shape)
    try:
        torch.broadcast_shapes(tuple(value.shape), wanted)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return ShapeError(
            f"the value of the recorded site {node['name']!r} has shape {tuple(value.shape)}, "
            f"which does not broadcast with its distribution's, {tuple(fn.batch_shape)} of draws "
            f"of shape {tuple(fn.event_shape)}"
        )
    return None


def scale_and_mask(log_prob: Any, scale: Any, mask: Any) -> Any:
    """A log-probability scaled, and zero where the mask is False. The number 0 stays what it is."""
    import torch

    if not is_tensor(log_prob):
        return log_prob
    if mask is False:
        return torch.zeros_like(log_prob)
    if is_tensor(scale) or scale != 1.0:
        log_prob = log_prob * scale
    if mask is None or mask is True:
        return log_prob
    return torch.where(mask, log_prob, log_prob.new_zeros(()))
