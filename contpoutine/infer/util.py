"""Small things that training loops ask for, under Pyro's names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from contpoutine.distributions.content import is_tensor

__all__ = ["torch_item", "zero_grads"]


def zero_grads(tensors: Iterable[Any]) -> None:
    """Set the gradient of each tensor that has one to zero."""
    for p in tensors:
        if p.grad is not None:
            p.grad = p.grad.detach() * 0.0 if p.grad.is_sparse else p.grad.new_zeros(p.grad.shape)


def torch_item(x: Any) -> Any:
    """The number in a tensor of one element; a number as it is."""
    return x.item() if is_tensor(x) else x
