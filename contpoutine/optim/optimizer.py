"""An optimiser that meets its parameters as it goes.

Each leaf tensor has a torch optimiser of its own, made when it is first seen. So a parameter that a
step does not visit stands still, with everything that is known of it, and a state is kept by the
names of parameters and not by their order.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from contpoutine.errors import ParamError
from contpoutine.optim import _unknown
from contpoutine.optim.clipped_adam import ClippedAdam
from contpoutine.params import get_param_store

Arguments = dict[str, Any] | Callable[[str], dict[str, Any]]

_CLIPPINGS = ("clip_norm", "clip_value")
# They need the loss again, or move all parameters together.
_REFUSED = ("LBFGS", "Muon", "Optimizer")


class Optimizer:
    """A torch optimiser over whatever parameters a step is given.

    `optimizer.step(params)` and `optimizer(params)` are the same. `contpoutine.optim.Adam(...)` and
    the like make one; for an optimiser class of your own, write `Optimizer(MyClass, {"lr": 0.1})`.

    Args:
        torch_class: a subclass of `torch.optim.Optimizer`.
        optim_args: its arguments, or a function from a parameter's name to them. Parameters of a
            module are called `net.weight`.
        clip_args: `clip_norm` (the largest norm of a gradient) or `clip_value` (of an element), or
            a function from a parameter's name to them.

    Raises:
        TypeError, ValueError: the torch class does not take these arguments.
    """

    def __init__(
        self,
        torch_class: type[torch.optim.Optimizer],
        optim_args: Arguments | None = None,
        clip_args: Arguments | None = None,
    ) -> None:
        _check_class(torch_class)
        self.torch_class = torch_class
        self.optim_args: Arguments = {} if optim_args is None else optim_args
        self.clip_args: Arguments = {} if clip_args is None else clip_args
        _check_arguments("optim_args", self.optim_args)
        _check_arguments("clip_args", self.clip_args)
        if isinstance(self.optim_args, dict):
            self._make(torch.zeros((), requires_grad=True), self.optim_args)
        if isinstance(self.clip_args, dict):
            _check_clippings(self.clip_args)
        self._made: dict[torch.Tensor, tuple[torch.optim.Optimizer, dict[str, Any]]] = {}
        self._waiting: dict[str, Any] = {}  # states of parameters that no step has met yet

    def step(self, params: Iterable[torch.Tensor]) -> None:
        """Move these leaf tensors along their gradients; one without a gradient stays.

        Raises:
            ParamError: a tensor is no leaf that requires gradients.
        """
        if isinstance(params, torch.Tensor):
            params = [params]
        for p in list(params):
            optimizer, clipping = self._made.get(p) or self._meet(p)
            if clipping and p.grad is not None:
                _clip(p, **clipping)
            optimizer.step()

    def __call__(self, params: Iterable[torch.Tensor]) -> None:
        self.step(params)

    def _meet(self, p: Any) -> tuple[torch.optim.Optimizer, dict[str, Any]]:
        if not isinstance(p, torch.Tensor) or not p.is_leaf or not p.requires_grad:
            raise ParamError(
                f"an optimiser moves leaf tensors that require gradients, and was given {p!r}. "
                f"Of a parameter's value, that is `value.unconstrained()`; of all parameters, "
                f"`[leaf for _, leaf in get_param_store().named_parameters()]`."
            )
        name = get_param_store().param_name(p)
        clipping = self._arguments_for(self.clip_args, name)
        _check_clippings(clipping)
        optimizer = self._make(p, self._arguments_for(self.optim_args, name))
        if name in self._waiting:
            optimizer.load_state_dict(self._waiting.pop(name))
        self._made[p] = optimizer, clipping
        return self._made[p]

    def _make(self, p: torch.Tensor, arguments: dict[str, Any]) -> torch.optim.Optimizer:
        try:
            return self.torch_class([p], **arguments)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{self.torch_class.__name__} does not take the arguments {arguments}: {error}"
            ) from error

    @staticmethod
    def _arguments_for(arguments: Arguments, name: str | None) -> dict[str, Any]:
        if not callable(arguments):
            return arguments
        if name is None:
            raise ParamError(
                "arguments that depend on a parameter's name need parameters that are in the "
                "store, and a step was given another tensor"
            )
        found = arguments(name.replace("$$$", "."))
        if not isinstance(found, dict):
            raise TypeError(f"the arguments for parameter {name!r} are a dictionary, not {found!r}")
        return found

    # --- states

    def get_state(self) -> dict[str, Any]:
        """The state of each parameter's torch optimiser, by the parameter's name, as in Pyro."""
        state = dict(self._waiting)
        for p, (optimizer, _) in self._made.items():
            name = get_param_store().param_name(p)
            if name is not None:
                state[name] = optimizer.state_dict()
        return state

    def set_state(self, state_dict: Any) -> None:
        """Go on from a state: each parameter takes its own when a step next meets it.

        Raises:
            ParamError: it is no state of an optimiser.
        """
        if not isinstance(state_dict, dict) or not all(
            isinstance(state, dict) and {"state", "param_groups"} <= state.keys()
            for state in state_dict.values()
        ):
            raise ParamError(
                "the state of an optimiser is a dictionary from names of parameters to the states "
                "of their torch optimisers, as get_state gives it"
            )
        self._made = {}
        self._waiting = copy.deepcopy(state_dict)  # what it was taken from may go on

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Write the state to a file, with `torch.save`."""
        with open(filename, "wb") as file:
            torch.save(self.get_state(), file)

    def load(self, filename: str | os.PathLike[str], map_location: Any = None) -> None:
        """Go on from a file that `save` has written."""
        with open(filename, "rb") as file:
            self.set_state(torch.load(file, map_location, weights_only=True))

    def __repr__(self) -> str:
        return f"{self.torch_class.__name__}({self.optim_args!r})"


def names() -> list[str]:
    """The optimisers that `named` knows."""
    torchs = [
        name
        for name, found in vars(torch.optim).items()
        if isinstance(found, type) and issubclass(found, torch.optim.Optimizer)
    ]
    return sorted({"ClippedAdam", *torchs} - set(_REFUSED))


def named(name: str) -> Callable[..., Optimizer]:
    """What makes an `Optimizer` of the torch class of that name.

    Raises:
        AttributeError: there is none; near names are suggested.
    """
    if name not in names():
        if name in _REFUSED and hasattr(torch.optim, name):
            raise AttributeError(
                f"contpoutine.optim has no {name!r}: it does not move one parameter at a time. "
                f"Use it by itself, over `get_param_store().named_parameters()`."
            )
        raise AttributeError(_unknown(name, names()))
    torch_class = ClippedAdam if name == "ClippedAdam" else getattr(torch.optim, name)

    def make(optim_args: Arguments | None = None, clip_args: Arguments | None = None) -> Optimizer:
        return Optimizer(torch_class, optim_args, clip_args)

    make.__name__ = make.__qualname__ = name
    make.__module__ = "contpoutine.optim"
    make.__doc__ = (
        f"{torch_class.__module__}.{name} over the parameters of each step: see `Optimizer`."
    )
    return make


def _clip(p: torch.Tensor, clip_norm: float | None = None, clip_value: float | None = None) -> None:
    if clip_norm is not None:
        clip_grad_norm_(p, clip_norm)
    if clip_value is not None:
        clip_grad_value_(p, clip_value)


def _check_class(torch_class: Any) -> None:
    if not (isinstance(torch_class, type) and issubclass(torch_class, torch.optim.Optimizer)):
        raise TypeError(f"Optimizer takes a class of torch.optim, not {torch_class!r}")


def _check_arguments(what: str, arguments: Any) -> None:
    if isinstance(arguments, dict) or callable(arguments):
        return
    raise TypeError(
        f"{what} is a dictionary such as {{'lr': 0.01}}, or a function from a parameter's name to "
        f"one, not {arguments!r}"
    )


def _check_clippings(clipping: dict[str, Any]) -> None:
    odd = [key for key in clipping if key not in _CLIPPINGS]
    if odd:
        raise ValueError(f"clip_args has clip_norm or clip_value, not {odd[0]!r}")
