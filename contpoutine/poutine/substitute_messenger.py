"""substitute: values for parameters."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from contpoutine.core.messenger import Messenger
from contpoutine.poutine.names_met import NamesMet
from contpoutine.poutine.three_ways import Model, apply

__all__ = ["SubstituteMessenger", "substitute", "user_param_name"]


def user_param_name(name: str) -> str:
    """A parameter's own name: without that of the torch module that it belongs to."""
    return name.rpartition("$$$")[2]


class SubstituteMessenger(Messenger):
    """Gives parameters the values in `data`, in place of those of the parameter store.

    Args:
        data: a mapping from parameter name to value. A module's parameters have their own names.

    Warns:
        UnmetNameWarning: the model never reads a parameter that is named.
    """

    fork_constant = True

    def __init__(self, data: Mapping[str, Any]) -> None:
        if not isinstance(data, Mapping):
            raise TypeError(f"substitute needs data={{parameter name: value}}, not {data!r}")
        self.data = data
        self._met = NamesMet("substitute", "param", data)

    def _pyro_param(self, msg: Any) -> None:
        name = user_param_name(msg["name"])
        wanted = name in self.data
        self._met.meet(name, wanted)
        if wanted:
            msg["value"] = self.data[name]

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        done = super().__exit__(exc_type, exc_value, traceback)
        self._met.leave(exc_type)
        return done


def substitute(fn: Model | None = None, data: Mapping[str, Any] | None = None) -> Any:
    """Give parameters the values in `data`.

    >>> import contpoutine as cp
    >>> def model():
    ...     return (yield cp.param("p", 0.5))
    >>> cp.run(substitute(model, data={"p": 0.25}))
    0.25
    """
    return apply("substitute", fn, SubstituteMessenger(data))  # type: ignore[arg-type]
