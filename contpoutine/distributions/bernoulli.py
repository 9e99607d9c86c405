"""Bernoulli with a light scalar path; see `light`."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributions as td
from torch.distributions import constraints

from contpoutine.distributions.ask_torch import torch_choices, torch_log_weight
from contpoutine.distributions.choices import (
    Choices,
    ElementChoices,
    checked_choices,
    checked_weight,
    outside_support,
)
from contpoutine.distributions.exact import coin_from_logit, coin_from_prob
from contpoutine.distributions.light import (
    LazyParameter,
    Light,
    default_dtype,
    keep,
    modes,
    one_of,
    scalar_number,
)
from contpoutine.distributions.numbers import plain_number, probability
from contpoutine.distributions.parameters import as_parameter, check_parameter
from contpoutine.distributions.symbolic import defer
from contpoutine.distributions.value_tensors import value_tensors
from contpoutine.errors import DistributionError, SymbolicValueError

_CPU = torch.device("cpu")
_kept_probs: dict[Any, Choices] = {}
_kept_logits: dict[Any, Choices] = {}


class Bernoulli(Light, td.Bernoulli):
    """torch's `Bernoulli`: 1 with probability `probs`, otherwise 0, as tensors.

    `probs` (or `logits`, the log-odds) is a number, a tensor of any shape or a list of numbers;
    each element of a batch is a choice of its own. Draws have the dtype of the parameter, torch's
    default dtype for a number. A scalar costs about a microsecond to build and to enumerate.

    `log_prob` is torch's own: differentiable, in the dtype of the parameter, and never below about
    -16 in float32. The weights of enumeration are float64 and exact: what has probability 0 is
    pruned.

    Raises:
        DistributionError: a probability is NaN or outside [0, 1], a logit is NaN, or not exactly
            one of `probs` and `logits` is given.

    >>> d = Bernoulli(0.25)
    >>> d.log_prob(torch.tensor(1.0)).exp()
    tensor(0.2500)
    >>> isinstance(d, torch.distributions.Bernoulli)
    True
    """

    _is_home = True
    _torch_class = td.Bernoulli

    probs = LazyParameter(td.Bernoulli, "probs")
    logits = LazyParameter(td.Bernoulli, "logits")

    def __init__(
        self,
        probs: torch.Tensor | float | list[Any] | None = None,
        logits: torch.Tensor | float | list[Any] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if (
            type(probs) is float
            and 0.0 <= probs <= 1.0
            and logits is None
            and validate_args is None
            and not modes()
        ):  # what a model writes most: spelled out, because it runs at every visit
            self._dtype = default_dtype()
            self._arguments = {"probs": probs}
            self._numbers = (probs,)
            return
        name, given = one_of("Bernoulli", probs, logits)
        given = as_parameter(given)
        if not isinstance(given, torch.Tensor):
            try:
                given = plain_number(given, f"Bernoulli({name})")
            except SymbolicValueError:
                defer(self, type(self), probs=probs, logits=logits)
                return
        self._sleep({name: given}, validate_args)
        if validate_args is None:
            self._check(name, given)

    def _check(self, name: str, given: Any) -> None:
        number = given if self._numbers is None else self._numbers[0]
        if isinstance(number, torch.Tensor):
            constraint = constraints.unit_interval if name == "probs" else constraints.real
            check_parameter("Bernoulli", name, number, constraint)
        elif name == "probs":
            probability(number, "Bernoulli(probs)")
        elif math.isnan(number):
            raise DistributionError("Bernoulli: 'logits' is NaN")

    def _choices(self, name: str) -> Choices | ElementChoices:
        numbers = self._current() if self._tensors else self._numbers
        if numbers is None or type(self) is not Bernoulli:
            return torch_choices(self, name)
        kept = _kept_logits if "logits" in self._arguments else _kept_probs
        key = (self._dtype, numbers)
        found = kept.get(key)
        if found is not None:
            zero, one = found[0]  # spelled out, not `untouched`: it runs at every visit
            if not (zero._version or one._version or zero.requires_grad or one.requires_grad):
                return found
        values = value_tensors(2, self._dtype, _CPU)
        found = checked_choices(values, self._log_probs(numbers[0]), self, name)
        keep(kept, key, found)
        return found

    def _log_probs(self, number: float) -> tuple[float, float]:
        return coin_from_logit(number) if "logits" in self._arguments else coin_from_prob(number)

    def _log_weight(self, value: Any, name: str) -> float:
        numbers, observed = self._current(), scalar_number(value)
        if numbers is None or observed is None or type(self) is not Bernoulli:
            return torch_log_weight(self, value, name)
        if observed not in (0.0, 1.0):
            raise outside_support(self, name, value, "0 or 1")
        weight = self._log_probs(numbers[0])[int(observed)]
        return weight if weight < math.inf else checked_weight(weight, self, name, value)
