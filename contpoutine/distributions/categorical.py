"""Categorical with a light scalar path; see `light`."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributions as td

from contpoutine.distributions.ask_torch import torch_choices, torch_log_weight
from contpoutine.distributions.choices import (
    Choices,
    ElementChoices,
    checked_choices,
    checked_weight,
    outside_support,
)
from contpoutine.distributions.exact import categories_from_logits, categories_from_probs
from contpoutine.distributions.light import LazyParameter, Light, keep, one_of, scalar_number
from contpoutine.distributions.numbers import refuse_request
from contpoutine.distributions.parameters import as_parameter
from contpoutine.distributions.symbolic import Symbolic, defer
from contpoutine.distributions.value_tensors import untouched, value_tensors
from contpoutine.errors import DistributionError

_CPU = torch.device("cpu")
_kept_probs: dict[Any, Choices] = {}
_kept_logits: dict[Any, Choices] = {}


class Categorical(Light, td.Categorical):
    """torch's `Categorical`: the index of a category, as an int64 tensor.

    `probs` is a tensor of shape `(..., K)`, or a list of K numbers: non-negative weights, which
    are normalised. `logits` are log-weights, also normalised. Every index of a batch is a choice of
    its own.

    `log_prob` is torch's own, in the dtype of the parameter; the weights of enumeration are
    float64 and exact, and a category of weight 0 is pruned.

    Raises:
        DistributionError: a weight is negative, NaN or infinite, all weights of a row are zero,
            or not exactly one of `probs` and `logits` is given.

    >>> Categorical([0.5, 0.25, 0.25]).log_prob(torch.tensor(0)).exp()
    tensor(0.5000)
    """

    _is_home = True
    _torch_class = td.Categorical
    _event_dims = 1

    probs = LazyParameter(td.Categorical, "probs")
    logits = LazyParameter(td.Categorical, "logits")

    def __init__(
        self,
        probs: torch.Tensor | list[Any] | None = None,
        logits: torch.Tensor | list[Any] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, given = one_of("Categorical", probs, logits)
        if not _is_plain_row(given):
            refuse_request(given)
            if isinstance(given, Symbolic):
                defer(self, type(self), probs=probs, logits=logits)
                return
            given = as_parameter(given)
            if not isinstance(given, torch.Tensor) or given.dim() < 1 or given.shape[-1] < 1:
                raise DistributionError(
                    f"Categorical takes one number for each category, in a list or along the "
                    f"last dimension of a tensor, and was given {given!r}. For one probability, "
                    f"write `Bernoulli(p)`."
                )
            if not given.dtype.is_floating_point:
                given = given.to(torch.get_default_dtype())
        self._sleep({name: given}, validate_args)
        if validate_args is None:
            self._check(name, given)

    def _check(self, name: str, given: Any) -> None:
        row = given if self._numbers is None else self._numbers[0]
        if not isinstance(row, torch.Tensor):
            fits = _row_fits(row, name)
        elif name == "probs":
            fits = bool((given >= 0).all() & given.isfinite().all() & (given.sum(-1) > 0).all())
        else:
            top = given.amax(-1)
            fits = bool(((top > -math.inf) & (top < math.inf)).all())
        if not fits:
            kind = "non-negative, finite" if name == "probs" else "no NaN and not plus infinity"
            raise DistributionError(
                f"Categorical: {name!r} must be {kind} and not all impossible, and is {given!r}"
            )

    def _choices(self, name: str) -> Choices | ElementChoices:
        numbers = self._current() if self._tensors else self._numbers
        if numbers is None or type(self) is not Categorical:
            return torch_choices(self, name)
        kept = _kept_logits if "logits" in self._arguments else _kept_probs
        found = kept.get(numbers)
        if found is None or not untouched(found.values):
            log_probs = self._log_probs(numbers[0])
            values = value_tensors(len(log_probs), torch.int64, _CPU)
            found = checked_choices(values, log_probs, self, name)
            keep(kept, numbers, found)
        return found

    def _log_probs(self, row: tuple[float, ...]) -> tuple[float, ...]:
        by_logits = "logits" in self._arguments
        return categories_from_logits(row) if by_logits else categories_from_probs(row)

    def _log_weight(self, value: Any, name: str) -> float:
        numbers, observed = self._current(), scalar_number(value)
        if numbers is None or observed is None or type(self) is not Categorical:
            return torch_log_weight(self, value, name)
        log_probs = self._log_probs(numbers[0])
        if not (0 <= observed < len(log_probs) and observed == int(observed)):
            raise outside_support(self, name, value, f"the integers 0 ... {len(log_probs) - 1}")
        return checked_weight(log_probs[int(observed)], self, name, value)


def _is_plain_row(given: Any) -> bool:
    return (
        isinstance(given, list | tuple)
        and len(given) > 0
        and all(type(x) is float or type(x) is int for x in given)
    )


def _row_fits(row: tuple[float, ...], name: str) -> bool:
    if name == "probs":
        return min(row) >= 0 and 0 < math.fsum(row) < math.inf
    return -math.inf < max(row) < math.inf and not any(math.isnan(x) for x in row)
