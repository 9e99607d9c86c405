"""Asking a torch distribution: its whole support in one `log_prob` call, an observation in one.

It takes any subclass of torch's `Distribution`, also Pyro's and a user's own. The elements of a
batch, whether plain or under `Independent`, are choices of their own: a batch of three coins is
three choices of two values, and never one choice of all-heads or all-tails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.distributions import Distribution, Independent, constraints

from .choices import (
    Choices,
    ElementChoices,
    checked_choices,
    checked_weight,
    not_enumerable,
    outside_support,
)


def torch_choices(fn: Distribution, name: str) -> Choices | ElementChoices:
    """`choices` for any torch distribution with `enumerate_support`."""
    base = fn
    while isinstance(base, Independent):
        base = base.base_dist
    if base is not fn:
        ask = getattr(base, "_choices", None)
        answer: Choices | ElementChoices = ask(name) if ask else torch_choices(base, name)
        return answer
    if not fn.has_enumerate_support:
        raise not_enumerable(fn, name)
    with torch.no_grad():
        try:
            support = fn.enumerate_support()
        except NotImplementedError as error:
            raise not_enumerable(fn, name, str(error)) from error
        log_probs = fn.log_prob(support).double()
    if not fn.batch_shape:
        values = tuple([value.clone() for value in support.unbind(0)])
        return checked_choices(values, log_probs.tolist(), fn, name)
    count = fn.batch_shape.numel()
    per_element = support.expand(-1, *fn.batch_shape, *fn.event_shape)
    per_element = per_element.reshape(len(support), count, *fn.event_shape)
    rows = log_probs.reshape(len(support), count).t().tolist()
    elements = [
        checked_choices(tuple([v.clone() for v in per_element[:, i].unbind(0)]), row, fn, name)
        for i, row in enumerate(rows)
    ]
    return ElementChoices(elements, assembler(fn.batch_shape + fn.event_shape, support))


def assembler(shape: torch.Size, like: torch.Tensor) -> Callable[[Sequence[Any]], torch.Tensor]:
    """A function from one value for each element to a tensor of `shape`."""

    def assemble(values: Sequence[Any]) -> torch.Tensor:
        if not values:
            return like.new_empty(shape)
        return torch.stack(tuple(values)).reshape(shape)

    return assemble


def torch_log_weight(fn: Distribution, value: Any, name: str) -> float:
    """`log_weight` for any torch distribution."""
    tensor = as_tensor(fn, value)
    with torch.no_grad():
        check_support(fn, tensor, name)
        weight = float(fn.log_prob(tensor).double().sum())
    return checked_weight(weight, fn, name, value)


def as_tensor(fn: Distribution, value: Any) -> Any:
    """A number, list or boolean tensor as the tensor that torch's own `log_prob` can take.

    It gets the floating dtype of the parameters, because torch's losses refuse integers; a class
    with a `log_prob` of its own gets the value's natural dtype.
    """
    if isinstance(value, torch.Tensor) and value.dtype.is_floating_point:
        return value
    own = not type(fn).log_prob.__module__.startswith(("torch.", __package__ or "contpoutine"))
    dtype, device = (None, None) if own else _floating(fn)
    if isinstance(value, torch.Tensor):
        return value if dtype is None else value.to(dtype)
    try:
        return torch.as_tensor(value, dtype=dtype, device=device)
    except (TypeError, ValueError, RuntimeError):
        return value  # an observation that is no number: the distribution's own affair


def _floating(fn: Any) -> tuple[torch.dtype | None, torch.device | None]:
    """dtype and device of the first floating parameter."""
    for inner in (fn, getattr(fn, "base_dist", None)):
        for held in vars(inner).values() if inner is not None else ():
            if isinstance(held, torch.Tensor) and held.dtype.is_floating_point:
                return held.dtype, held.device
    return None, None


def check_support(fn: Distribution, value: Any, name: str) -> None:
    """Refuse an observation outside the support, where the support can say so."""
    if not isinstance(value, torch.Tensor):
        return
    try:
        support = fn.support
    except NotImplementedError:
        return
    if support is None or support is constraints.real:
        return
    inside: Any = support.check(value)  # type: ignore[no-untyped-call]
    if not bool(inside.all()):
        raise outside_support(fn, name, value, str(support))
