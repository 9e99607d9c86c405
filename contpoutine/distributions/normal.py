"""Normal with a light scalar path; see `light`."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributions as td

from contpoutine.distributions.ask_torch import torch_log_weight
from contpoutine.distributions.choices import checked_weight
from contpoutine.distributions.light import Light, scalar_number
from contpoutine.distributions.numbers import plain_number
from contpoutine.distributions.parameters import as_parameter, check_parameter
from contpoutine.distributions.symbolic import defer
from contpoutine.errors import DistributionError, SymbolicValueError

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Normal(Light, td.Normal):
    """torch's `Normal` with mean `loc` and standard deviation `scale`.

    Each is a number, a tensor or a list; they broadcast. A scalar observation of a scalar Normal is
    weighed in float64, without torch. `log_prob` is torch's own.

    Raises:
        DistributionError: `loc` is NaN, or `scale` is not positive.

    >>> Normal(0.0, 1.0).log_prob(torch.tensor(0.0))
    tensor(-0.9189)
    """

    _is_home = True
    _torch_class = td.Normal

    def __init__(
        self,
        loc: torch.Tensor | float | list[Any],
        scale: torch.Tensor | float | list[Any],
        validate_args: bool | None = None,
    ) -> None:
        try:
            arguments = {
                "loc": _tensor_or_number(loc, "Normal(loc)"),
                "scale": _tensor_or_number(scale, "Normal(scale)"),
            }
        except SymbolicValueError:
            defer(self, type(self), loc=loc, scale=scale)
            return
        self._sleep(arguments, validate_args)
        if validate_args is None:
            self._check(arguments)

    def _check(self, arguments: dict[str, Any]) -> None:
        if self._numbers is None:
            for name, given in arguments.items():
                check_parameter(
                    "Normal", name, torch.as_tensor(given), td.Normal.arg_constraints[name]
                )
            return
        loc, scale = self._numbers
        if math.isnan(loc):
            raise DistributionError("Normal: 'loc' is NaN")
        if not scale > 0.0:
            raise DistributionError(
                f"Normal: 'scale' is a standard deviation and must be positive, and is {scale!r}"
            )

    def _log_weight(self, value: Any, name: str) -> float:
        numbers, observed = self._current(), scalar_number(value)
        if numbers is None or observed is None or type(self) is not Normal:
            return torch_log_weight(self, value, name)
        loc, scale = numbers
        z = (observed - loc) / scale
        weight = -0.5 * z * z - math.log(scale) - _HALF_LOG_TWO_PI
        return checked_weight(weight, self, name, value)


def _tensor_or_number(given: Any, what: str) -> Any:
    given = as_parameter(given)
    return given if isinstance(given, torch.Tensor) else plain_number(given, what)
