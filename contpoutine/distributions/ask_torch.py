"""Asking a torch distribution: its whole support in one `log_prob` call, an observation in one.

It takes any subclass of torch's `Distribution`, also Pyro's and a user's own. The elements of a
batch, whether plain or under `Independent`, are choices of their own: a batch of three coins is
three choices of two values, and never one choice of all-heads or all-tails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    ExponentialFamily,
    Independent,
    OneHotCategorical,
    constraints,
)
from torch.nn.functional import logsigmoid

from contpoutine.distributions.choices import (
    Choices,
    ElementChoices,
    checked_choices,
    checked_weight,
    not_enumerable,
    outside_support,
)
from contpoutine.distributions.exact import (
    categories_from_logits,
    categories_from_probs,
    coin_from_logit,
    coin_from_prob,
)
from contpoutine.distributions.value_tensors import value_tensors

# Torch classes that say nothing about what values their subclasses take.
_FRAMES = (Distribution, ExponentialFamily)


def torch_choices(fn: Distribution, name: str) -> Choices | ElementChoices:
    """`choices` for any torch distribution with `enumerate_support`."""
    while isinstance(fn, Independent):
        fn = fn.base_dist
    if not fn.has_enumerate_support:
        raise not_enumerable(fn, name)
    with torch.no_grad():
        values, rows = _table(fn, name)
    if not fn.batch_shape:
        return checked_choices(values[0], rows[0], fn, name)
    elements = [
        checked_choices(column, row, fn, name) for column, row in zip(values, rows, strict=True)
    ]
    return ElementChoices(elements, assembler(fn))


def _table(
    fn: Distribution, name: str
) -> tuple[Sequence[tuple[Any, ...]], Sequence[Sequence[float]]]:
    """The values and the log-probabilities of each element of the batch, in row-major order."""
    exact = exact_log_probs(fn)
    if exact is not None and not fn.event_shape:
        dtype = torch.int64 if isinstance(fn, Categorical) else fn._param.dtype  # type: ignore[attr-defined]
        count = len(exact[0]) if exact else 0
        return [value_tensors(count, dtype, _param_of(fn).device)] * len(exact), exact
    try:
        support = fn.enumerate_support()
    except NotImplementedError as error:
        raise not_enumerable(fn, name, str(error)) from error
    size = fn.batch_shape.numel()
    split = support.reshape(len(support), size, *fn.event_shape)
    values = [tuple([v.clone() for v in split[:, i].unbind(0)]) for i in range(size)]
    if exact is None:
        log_probs = fn.log_prob(support).double()  # one call for the whole support
        exact = log_probs.reshape(len(support), size).t().tolist()
    return values, exact


def exact_log_probs(fn: Distribution) -> list[tuple[float, ...]] | None:
    """Float64 log-probabilities of each element of a batch of coins or categories.

    None for any other class, and for a subclass with a `log_prob` of its own.
    """
    log_prob = type(fn).log_prob
    if log_prob is Bernoulli.log_prob:
        numbers = _param_of(fn).detach().double().reshape(-1).tolist()
        by_number = coin_from_prob if _has_probs(fn) else coin_from_logit
        return [by_number(x) for x in numbers]
    if log_prob is Categorical.log_prob or log_prob is OneHotCategorical.log_prob:
        param = _param_of(fn).detach().double()
        rows = param.reshape(-1, param.shape[-1]).tolist()
        by_row = categories_from_probs if _has_probs(fn) else categories_from_logits
        return [by_row(row) for row in rows]
    return None


def _param_of(fn: Any) -> torch.Tensor:
    """The parameter that `fn` was built from, whether probabilities or logits."""
    param: torch.Tensor = fn._param
    return param


def _has_probs(fn: Any) -> bool:
    return getattr(fn, "_categorical", fn).__dict__.get("probs") is _param_of(fn)


def assembler(fn: Distribution) -> Callable[[Sequence[Any]], torch.Tensor]:
    """A function from one value for each element to the tensor that the model receives."""
    shape = fn.batch_shape + fn.event_shape

    def assemble(values: Sequence[Any]) -> torch.Tensor:
        if not values:
            return torch.empty(shape)
        return torch.stack(tuple(values)).reshape(shape)

    return assemble


def torch_log_weight(fn: Distribution, value: Any, name: str) -> float:
    """`log_weight` for any torch distribution."""
    tensor = as_tensor(fn, value)
    with torch.no_grad():
        check_support(fn, tensor, name)
        log_prob = _exact_log_prob(fn, tensor)
        weight = float((fn.log_prob(tensor) if log_prob is None else log_prob).double().sum())
    return checked_weight(weight, fn, name, value)


def element_log_probs(
    fn: Distribution, value: Any, name: str, counted: torch.Tensor
) -> torch.Tensor:
    """The log-probability of each element of an observation, in float64.

    Only elements for which `counted` (of the batch shape) is true are checked.
    """
    tensor = as_tensor(fn, value)
    with torch.no_grad():
        check_support(fn, tensor, name, counted)
        log_prob = _exact_log_prob(fn, tensor)
        if log_prob is None:
            return fn.log_prob(tensor).double()
        while isinstance(fn, Independent):
            log_prob = log_prob.sum(tuple(range(-fn.reinterpreted_batch_ndims, 0)))
            fn = fn.base_dist
        return log_prob


def _exact_log_prob(fn: Distribution, value: torch.Tensor) -> torch.Tensor | None:
    """Float64 log-probabilities of observed coins and categories, impossible being -inf.

    They agree with `exact_log_probs`, so that an observation and a choice of the same value weigh
    the same. None for any other class, and for a subclass with a `log_prob` of its own.
    """
    while isinstance(fn, Independent):
        fn = fn.base_dist
    log_prob = type(fn).log_prob
    if log_prob is Bernoulli.log_prob:
        param = _param_of(fn).double()
        if _has_probs(fn):
            return torch.where(value == 1, param.log(), (-param).log1p())
        return logsigmoid(torch.where(value == 1, param, -param))
    if log_prob is Categorical.log_prob or log_prob is OneHotCategorical.log_prob:
        param = _param_of(fn).double()
        if _has_probs(fn):
            logs = (param / param.sum(-1, keepdim=True)).log()
        else:
            logs = param.log_softmax(-1)
        index = value.argmax(-1) if log_prob is OneHotCategorical.log_prob else value.long()
        shape = torch.broadcast_shapes(index.shape, logs.shape[:-1])  # type: ignore[no-untyped-call]
        logs = logs.expand(*shape, logs.shape[-1])
        return logs.gather(-1, index.expand(shape).unsqueeze(-1)).squeeze(-1)
    return None


def as_tensor(fn: Distribution, value: Any) -> Any:
    """A number, a list or a tensor of integers as the tensor that `log_prob` can take.

    For a class of torch's it gets the floating dtype of the parameters, because torch's losses
    refuse integers. Only the author knows what another class takes: there it is left as it is.
    """
    if isinstance(value, torch.Tensor) and value.dtype.is_floating_point:
        return value
    dtype, device = _floating(fn) if _is_torchs_own(type(fn)) else (None, None)
    if isinstance(value, torch.Tensor):
        return value if dtype is None else value.to(dtype)
    try:
        return torch.as_tensor(value, dtype=dtype, device=device)
    except (TypeError, ValueError, RuntimeError):
        return value  # an observation that is no number: the distribution's own affair


def _is_torchs_own(cls: type) -> bool:
    return any(
        base.__module__.startswith("torch.distributions.") and base not in _FRAMES
        for base in cls.__mro__
    )


def _floating(fn: Any) -> tuple[torch.dtype | None, torch.device | None]:
    """dtype and device of the first floating parameter."""
    for inner in (fn, getattr(fn, "base_dist", None)):
        for held in vars(inner).values() if inner is not None else ():
            if isinstance(held, torch.Tensor) and held.dtype.is_floating_point:
                return held.dtype, held.device
    return None, None


def check_support(
    fn: Distribution, value: Any, name: str, counted: torch.Tensor | None = None
) -> None:
    """Refuse an observation outside the support, where the support can say so.

    With `counted`, only the elements of the batch for which that is true are looked at.
    """
    if not isinstance(value, torch.Tensor):
        return
    try:
        support = fn.support
    except NotImplementedError:
        return
    if support is None or support is constraints.real:
        return
    inside: Any = support.check(value)  # type: ignore[no-untyped-call]
    if not bool((inside if counted is None else inside | ~counted).all()):
        raise outside_support(fn, name, value, str(support))
