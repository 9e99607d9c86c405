"""ParamStore: the parameters by name.

It is a mapping from names to constrained values. A parameter is there from the first `param` of its
name on; from then on its initial value is not used any more. What does not fit (another shape,
another constraint, a state of another model) is refused before anything is changed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, KeysView, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributions import constraints

from contpoutine.errors import ParamMismatchError, UnknownParamError
from contpoutine.params.parameter import (
    Constraint,
    Parameter,
    check_constraint,
    is_real,
    make_parameter,
    same_constraint,
    shape_of,
)
from contpoutine.params.state import read_state

State = dict[str, dict[str, Any]]


class ParamStore:
    """Parameters by name: `store[name]` is the constrained value, as models see it.

    `cp.get_param_store()` gives the one that `param` uses; it need not be made.

    >>> import torch
    >>> from torch.distributions import constraints
    >>> store = ParamStore()
    >>> _ = store.setdefault("scale", torch.tensor(2.0), constraints.positive)
    >>> round(store["scale"].item(), 4), round(store["scale"].unconstrained().item(), 4)
    (2.0, 0.6931)
    >>> store
    ParamStore of 1 parameter:
      scale  ()  GreaterThan(lower_bound=0.0)
    """

    def __init__(self) -> None:
        self._held: dict[str, Parameter] = {}
        self._names: dict[int, str] = {}  # of leaves, by identity: the parameters keep them alive

    # --- a mapping

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._at(name).value()

    def __setitem__(self, name: str, value: Any) -> None:
        """Give a parameter a new value, in constrained space; it keeps its constraint.

        A name that is not there yet becomes a parameter without constraint. The new value is a
        leaf of its own: what an optimiser knew of the old one does not apply to it.
        """
        held = self._held.get(name)
        constraint = constraints.real if held is None else held.constraint
        self._put(name, make_parameter(name, value, constraint))

    def __delitem__(self, name: str) -> None:
        self._forget(self._at(name).leaf, name)
        del self._held[name]

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._held.keys()

    def values(self) -> Iterator[torch.Tensor]:
        """The constrained values."""
        for held in self._held.values():
            yield held.value()

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, constrained value) of each parameter."""
        for name, held in self._held.items():
            yield name, held.value()

    def clear(self) -> None:
        """Forget every parameter."""
        self._held, self._names = {}, {}

    def setdefault(
        self,
        name: str,
        init_constrained_value: Any,
        constraint: Constraint = constraints.real,
    ) -> torch.Tensor:
        """The value of a parameter, which begins with this one where it is not there yet.

        Args:
            init_constrained_value: a tensor, a number, a list of numbers, or a function that gives
                one, called where it is needed.
            constraint: one of torch.distributions.constraints.

        Raises:
            ParamError: the initial value is outside of the constraint, or no floating tensor.
            ParamMismatchError: the parameter is there, with another shape or constraint.
        """
        return self.get_param(name, init_constrained_value, constraint)

    # --- what `param` asks

    def get_param(
        self,
        name: str,
        init_tensor: Any = None,
        constraint: Constraint = constraints.real,
        event_dim: int | None = None,
    ) -> torch.Tensor:
        """The same as `setdefault`; without an initial value, the same as `store[name]`.

        `event_dim` is for the plates around `param`, and changes nothing here.
        """
        held = self._held.get(name)
        if held is None:
            held = self._made(name, init_tensor, constraint)
        elif init_tensor is not None and (
            held.constraint is not constraint or getattr(init_tensor, "shape", None) != held.shape
        ):
            self._agree(name, held, init_tensor, constraint)
        return held.leaf if held.transform is None else held.value()

    def _made(self, name: str, given: Any, constraint: Constraint) -> Parameter:
        if given is None:
            return self._at(name)  # which says that it is not there
        check_constraint(name, constraint)
        if callable(given) and not isinstance(given, torch.Tensor):
            given = given()
        made = make_parameter(name, given, constraint)
        self._put(name, made)
        return made

    def _agree(self, name: str, held: Parameter, given: Any, constraint: Constraint) -> None:
        """Refuse a parameter that is another one than the model means."""
        check_constraint(name, constraint)
        if not same_constraint(held.constraint, constraint):
            raise ParamMismatchError(
                f"parameter {name!r} is in the store with the constraint {held.constraint!r}, and "
                f"the model asks for it with {constraint!r}. {_REMEDY}"
            )
        shape = shape_of(given)
        if shape is not None and shape != held.shape:
            raise ParamMismatchError(
                f"parameter {name!r} is in the store with the shape {tuple(held.shape)}, and the "
                f"model gives it an initial value of shape {tuple(shape)}. {_REMEDY}"
            )
        held.constraint = constraint  # the same, and from now on seen to be so at a glance

    def _at(self, name: str) -> Parameter:
        held = self._held.get(name)
        if held is None:
            raise UnknownParamError(_unknown(name, list(self._held)))
        return held

    def _put(self, name: str, made: Parameter) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a parameter is a string, not {name!r}")
        old = self._held.get(name)
        if old is not None:
            self._forget(old.leaf, name)
        self._held[name] = made
        self._names.setdefault(id(made.leaf), name)

    def _forget(self, leaf: torch.Tensor, name: str) -> None:
        """The leaf is no longer the parameter `name`; it may be another one as well."""
        if self._names[id(leaf)] == name:
            del self._names[id(leaf)]
            for other, held in self._held.items():
                if held.leaf is leaf and other != name:
                    self._names.setdefault(id(leaf), other)

    # --- the leaves

    def named_parameters(self) -> list[tuple[str, torch.Tensor]]:
        """(name, unconstrained leaf tensor) of each parameter: what an optimiser moves."""
        return [(name, held.leaf) for name, held in self._held.items()]

    def param_name(self, p: torch.Tensor) -> str | None:
        """The name of the parameter that has this leaf tensor; None if it is no parameter."""
        return self._names.get(id(p))

    def match(self, name: str) -> dict[str, torch.Tensor]:
        """The parameters whose name matches the regular expression `name` at its beginning."""
        pattern = re.compile(name)
        return {key: value for key, value in self.items() if pattern.match(key)}

    # --- states

    def get_state(self) -> State:
        """Everything in the store: `params`, the leaves by name, and `constraints` by name.

        The leaves are the store's own, and change with it; `save` writes them down.
        """
        return {
            "params": {name: held.leaf for name, held in self._held.items()},
            "constraints": {name: held.constraint for name, held in self._held.items()},
        }

    def set_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over the parameters of a state; others in the store stay as they are.

        Raises:
            ParamMismatchError: it is no state of a parameter store, or a parameter that is there
                already has another shape or constraint in it. Nothing is changed then.
        """
        fresh = read_state(state)
        for name, made in fresh.items():
            held = self._held.get(name)
            if held is None:
                continue
            if held.shape != made.shape or not same_constraint(held.constraint, made.constraint):
                raise ParamMismatchError(
                    f"the state has parameter {name!r} with shape {tuple(made.shape)} and "
                    f"constraint {made.constraint!r}, and the store has it with shape "
                    f"{tuple(held.shape)} and constraint {held.constraint!r}: it is the state of "
                    f"another model. To take it over all the same, call `clear_param_store()` "
                    f"first; to have both, use `with get_param_store().scope(state):`."
                )
        for name, made in fresh.items():
            self._put(name, made)

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Write every parameter and its constraint to a file, with `torch.save`."""
        state = self.get_state()
        state["params"] = {
            name: leaf.detach().requires_grad_(True) for name, leaf in state["params"].items()
        }
        with open(filename, "wb") as file:
            torch.save(state, file)

    def load(self, filename: str | os.PathLike[str], map_location: Any = None) -> None:
        """Read what `save` has written; the rest is as `set_state` does it.

        The file is unpickled: load only what you trust. A module's own tensors follow with
        `yield module(name, net, update_module_params=True)`.

        Args:
            map_location: where the tensors go, as `torch.load` has it.
        """
        with open(filename, "rb") as file:
            self.set_state(torch.load(file, map_location, weights_only=False))

    @contextmanager
    def scope(self, state: State | None = None) -> Iterator[State]:
        """A block with a store of its own: empty, or that of an earlier block.

        Afterwards the parameters from before are back, and the block's are in the state that it was
        given, whether it ended by an exception or not.

        >>> store = ParamStore()
        >>> with store.scope() as first:
        ...     store["x"] = 1.0
        >>> len(store)
        0
        >>> with store.scope(first):
        ...     store["x"].item()
        1.0
        """
        state = {"params": {}, "constraints": {}} if state is None else state
        inside = read_state(state)
        before = self._held, self._names
        self._held, self._names = inside, {id(made.leaf): name for name, made in inside.items()}
        try:
            yield state
        finally:
            state.update(self.get_state())
            self._held, self._names = before

    def __repr__(self) -> str:
        if not self._held:
            return "ParamStore, empty"
        rows = [
            (
                name,
                str(tuple(held.shape)),
                "" if is_real(held.constraint) else repr(held.constraint),
            )
            for name, held in self._held.items()
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        lines = [f"  {a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in rows]
        count = f"{len(rows)} parameter{'' if len(rows) == 1 else 's'}"
        return "\n".join([f"ParamStore of {count}:", *lines])


_REMEDY = (
    "Is it left from another model, or loaded from one? `clear_param_store()` forgets it, "
    "`with get_param_store().scope():` keeps two models apart."
)


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    there = f"It has {', '.join(known[:10])}." if known else "It is empty."
    return (
        f"the parameter store has no parameter {name!r}.{hint} {there} The first `param` of a name "
        f"gives the initial value: `yield param({name!r}, torch.tensor(...))`."
    )
