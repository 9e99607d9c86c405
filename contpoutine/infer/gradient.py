"""The log-evidence as a tensor, for autograd.

The derivative of the log-evidence by a log-weight is how often a posterior execution is expected to
use it. So the backward pass needs no graph of torch's with a node for each state: it hands every
tensor of log-weights the masses that are known already. They depend on the weights in their turn,
which is not followed: a second derivative is refused, and never a wrong number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from contpoutine.errors import SecondDerivativeError


class _LogEvidence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: float, masses: Sequence[list[float]], *weights: Any) -> Any:
        ctx.masses = masses
        ctx.save_for_backward(*weights)
        return torch.tensor(value, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, *above: Any) -> Any:
        gradients = []
        for masses, weight in zip(ctx.masses, ctx.saved_tensors, strict=True):
            mass = torch.tensor(masses, dtype=weight.dtype, device=weight.device)
            gradient = above[0].to(weight.device, weight.dtype) * mass.view(weight.shape)
            twice = torch.is_grad_enabled()  # somebody wants a derivative of this one
            gradients.append(_Last.apply(gradient, weight) if twice else gradient)  # type: ignore[no-untyped-call]
        return None, None, *gradients


class _Last(torch.autograd.Function):
    """The first argument, which depends on the second in a way that is not followed."""

    @staticmethod
    def forward(ctx: Any, gradient: Any, weight: Any) -> Any:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *above: Any) -> Any:
        raise SecondDerivativeError(
            "the log-evidence of a state graph can be differentiated once. For a second "
            "derivative, take differences of the first one."
        )


def differentiable(value: float, parts: Sequence[tuple[Any, list[float]]]) -> torch.Tensor:
    """`value`, with the derivatives by the tensors in `parts`."""
    weights = [weight for weight, _ in parts]
    masses = [masses for _, masses in parts]
    found: torch.Tensor = _LogEvidence.apply(value, masses, *weights)  # type: ignore[no-untyped-call]
    return found
