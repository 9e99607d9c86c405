"""Every distribution of torch.distributions under its own name, with the extras of this library.

`Bernoulli`, `Categorical` and `Normal` are written out, each in a room of its own. Every other
class is made on first use: a subclass of torch's that checks its parameters cheaply, takes lists
for tensors, and has `to_event`, `mask` and the like. What is no distribution (`kl_divergence`,
`constraints`, `transforms`) is torch's object itself.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from typing import Any

import torch.distributions as td

from contpoutine.distributions.bernoulli import Bernoulli
from contpoutine.distributions.categorical import Categorical
from contpoutine.distributions.empirical import Empirical
from contpoutine.distributions.normal import Normal
from contpoutine.distributions.parameters import as_parameter, check_parameters
from contpoutine.distributions.symbolic import Symbolic, defer
from contpoutine.distributions.torch_distribution import Independent, Masked, TorchDistribution
from contpoutine.errors import DistributionError

__all__ = ["Bernoulli", "Categorical", "Independent", "Masked", "Normal", "named", "names"]

_ABSTRACT = (td.Distribution, td.ExponentialFamily)
_PLAIN = ("constraints", "kl", "transforms")
_written: dict[str, Any] = {
    cls.__name__: cls for cls in (Bernoulli, Categorical, Empirical, Normal, Independent, Masked)
}


def names() -> list[str]:
    """Every name that `named` knows."""
    distributions = [n for n in vars(td) if _is_distribution(n)]
    return sorted({*td.__all__, *_PLAIN, *_written, *distributions})


def named(name: str) -> Any:
    """The object behind `contpoutine.distributions.<name>`.

    Raises:
        AttributeError: torch has no such distribution; near names are suggested.
    """
    if name in _written:
        return _written[name]
    if _is_distribution(name):
        return _subclass(getattr(td, name))
    if name in td.__all__ or name in _PLAIN:
        return getattr(td, name)
    raise AttributeError(_unknown(name))


def _is_distribution(name: str) -> bool:
    found = getattr(td, name, None)
    return isinstance(found, type) and issubclass(found, td.Distribution) and found not in _ABSTRACT


def _unknown(name: str) -> str:
    known = [*names(), "Delta", "Finite", "Flip", "RandInt", "UniformDraw"]
    near = difflib.get_close_matches(name, known, n=1)
    advice = f" Did you mean {near[0]!r}?" if near else ""
    return f"contpoutine.distributions has no {name!r}.{advice}"


@functools.cache
def _subclass(torch_class: type[td.Distribution]) -> type[td.Distribution]:
    name = torch_class.__name__

    @functools.wraps(torch_class.__init__)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        arguments = [as_parameter(value) for value in args]
        named_arguments = {key: as_parameter(value) for key, value in kwargs.items()}
        if any([isinstance(x, Symbolic) for x in (*arguments, *named_arguments.values())]):  # noqa: C419
            given = inspect.signature(torch_class).bind(*arguments, **named_arguments).arguments
            defer(self, type(self), **given)
            return
        try:
            torch_class.__init__(self, *arguments, **named_arguments)
        except ValueError as error:
            raise DistributionError(f"{name}: {error}") from error
        if kwargs.get("validate_args") is None:
            check_parameters(self)

    body = {
        "__init__": __init__,
        "__doc__": (
            f"torch's `{name}`: see `torch.distributions.{name}` for what it is.\n\n"
            f"    Parameters may be numbers, tensors or lists; they are checked.\n\n"
            f"    Raises:\n        DistributionError: a parameter breaks its constraint.\n    "
        ),
        "__module__": __package__,
        "_is_home": True,
    }
    return type(name, (TorchDistribution, torch_class), body)
