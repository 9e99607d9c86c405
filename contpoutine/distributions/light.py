"""How a torch distribution costs next to nothing until torch is needed.

A light instance is a torch distribution that holds only the arguments it was given. The engine's
questions about a scalar one are answered from them in float arithmetic. Anything else that is
asked of it (an attribute, `log_prob`, `sample`, `expand`) *wakes* it: torch's constructor runs
then, once, with gradients on, so that it connects to its parameters as if it had run at the start.

The engine's numbers are float64: of a Python number, the number itself; of a tensor, the exact
value that it holds, whatever its dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.distributions as td

from contpoutine.distributions.torch_distribution import TorchDistribution
from contpoutine.errors import DistributionError

# Not zero inside `with torch.device(...)` and after `torch.set_default_device`: there a number
# becomes a tensor on another device, and torch makes the instance at once.
modes: Callable[[], int] = getattr(torch._C, "_len_torch_function_stack", lambda: 1)

_KEPT_MAX = 4096

default_dtype = torch.get_default_dtype
grad_enabled = torch.is_grad_enabled


class LazyParameter:
    """A parameter that torch computes lazily (`probs` of `logits`): reading it wakes first."""

    def __init__(self, owner: type, name: str) -> None:
        self.prop = owner.__dict__[name]
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self.prop.__get__(None, owner)
        instance._wake()
        held = instance.__dict__.get(self.name)
        return self.prop.__get__(instance, owner) if held is None else held


class Light(TorchDistribution):
    """Keeps the constructor's arguments until something needs the torch object.

    `_numbers` holds the parameters as the engine computes with them. It is None where there is no
    such thing: for a batch, on another device, under tracing. Numbers that came from tensors are
    good while the tensors are at the versions in `_seen`.
    """

    _torch_class: ClassVar[type[td.Distribution]]
    _event_dims: ClassVar[int] = 0  # dimensions of a parameter of a scalar site
    _arguments: dict[str, Any]
    _awake: bool
    _dtype: torch.dtype
    _numbers: tuple[Any, ...] | None = None
    _tensors: tuple[torch.Tensor, ...] = ()
    _seen: tuple[int, ...] | None = ()

    def _sleep(self, arguments: dict[str, Any], validate_args: bool | None) -> None:
        """Read the numbers and keep the arguments; wake where waking later would differ."""
        self._arguments = arguments
        tensors = tuple([v for v in arguments.values() if isinstance(v, torch.Tensor)])
        elsewhere = modes()
        if tensors:
            self._tensors, self._seen, self._dtype = tensors, versions(tensors), tensors[0].dtype
            cut = not grad_enabled() and any([t.requires_grad for t in tensors])  # noqa: C419
        else:
            self._dtype, cut = default_dtype(), False
        if tensors or not elsewhere:
            self._numbers = self._read_numbers(arguments)
        if validate_args is not None:
            self._validate_args = validate_args
        if cut or elsewhere or validate_args:
            self._build()

    def _read_numbers(self, arguments: dict[str, Any]) -> tuple[Any, ...] | None:
        numbers = []
        for value in arguments.values():
            if isinstance(value, torch.Tensor):
                if value.dim() != self._event_dims or not value.is_cpu:
                    return None
                try:
                    value = value.tolist()
                except RuntimeError:  # tracing, meta or fake tensors: there is no value yet
                    return None
            numbers.append(tuple(value) if isinstance(value, list) else value)
        return tuple(numbers)

    def _current(self) -> tuple[Any, ...] | None:
        """The numbers, read again if a tensor was changed in place since."""
        if self._tensors:
            seen = versions(self._tensors)
            if seen != self._seen or seen is None:
                self._seen, self._numbers = seen, self._read_numbers(self._arguments)
        return self._numbers

    def _wake(self) -> None:
        if self._is_asleep():
            with torch.inference_mode(False), torch.enable_grad():
                self._build()

    def _is_asleep(self) -> bool:
        held = self.__dict__
        return "_arguments" in held and "_awake" not in held

    def _build(self) -> None:
        arguments = self._arguments
        if not self._tensors:
            arguments = {
                key: torch.tensor(value, dtype=self._dtype) for key, value in arguments.items()
            }
        try:
            made = self._torch_class(**arguments, validate_args=self._validate_args)
        except ValueError as error:
            raise DistributionError(f"{type(self).__name__}: {error}") from error
        self.__dict__.update(made.__dict__)
        self._awake = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not self._is_asleep():
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        self._wake()
        return getattr(self, name)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        self._wake()  # torch's expand looks into __dict__
        new = super().expand(batch_shape, _instance)
        for name in ("probs", "logits"):  # torch forgets which of them was given
            if self.__dict__.get(name) is self.__dict__.get("_param", self):
                new._param = new.__dict__[name]
        return new

    def __repr__(self) -> str:
        self._wake()
        shown: str = super().__repr__()
        return shown


def keep(kept: dict[Any, Any], key: Any, found: Any) -> None:
    """Remember an answer, in a table that never grows beyond bounds."""
    if len(kept) >= _KEPT_MAX:
        kept.clear()
    kept[key] = found


def versions(tensors: tuple[torch.Tensor, ...]) -> tuple[int, ...] | None:
    """How often each tensor was changed in place; None where torch does not count."""
    try:
        return tuple([t._version for t in tensors])
    except RuntimeError:  # made under inference mode
        return None


def scalar_number(value: Any) -> float | None:
    """A number or 0-dim tensor as a float; None for anything else."""
    if isinstance(value, float | int):
        return float(value)
    if isinstance(value, torch.Tensor) and value.dim() == 0 and not value.is_complex():
        return float(value.item())
    return None


def one_of(owner: str, probs: Any, logits: Any) -> tuple[str, Any]:
    """Which of the two parameters was given, and its value."""
    if (probs is None) == (logits is None):
        given = "neither" if probs is None else "both"
        raise DistributionError(
            f"{owner} takes either `probs` or `logits`, and was given {given}. Write "
            f"`{owner}(p)` for probabilities, `{owner}(logits=x)` for log-odds or log-weights."
        )
    return ("probs", probs) if logits is None else ("logits", logits)
