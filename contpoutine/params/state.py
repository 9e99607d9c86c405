"""Reading a state of the parameter store, of which nothing is believed that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributions import constraints

from contpoutine.errors import ParamMismatchError
from contpoutine.params.parameter import Parameter, is_real


def read_state(state: Any) -> dict[str, Parameter]:
    """The parameters of a state. Raises `ParamMismatchError` where it is none."""
    if not isinstance(state, Mapping) or set(state) != {"params", "constraints"}:
        held = f"keys {sorted(map(str, state))[:8]}" if isinstance(state, Mapping) else repr(state)
        hint = ""
        if isinstance(state, Mapping) and any(isinstance(x, torch.Tensor) for x in state.values()):
            hint = (
                " This looks like the state_dict of a torch.nn.Module: give it to the module "
                "(`net.load_state_dict(state)`), and the module to `module(name, net)`."
            )
        raise ParamMismatchError(
            f"the state of a parameter store has the keys 'params' and 'constraints', and this one "
            f"has {held}.{hint}"
        )
    leaves, bounds = state["params"], state["constraints"]
    if set(leaves) != set(bounds):
        odd = sorted(set(leaves) ^ set(bounds))[0]
        raise ParamMismatchError(
            f"the state has {odd!r} among its params or among its constraints, and not in both"
        )
    return {name: _read(name, leaf, bounds[name]) for name, leaf in leaves.items()}


def _read(name: str, leaf: Any, constraint: Any) -> Parameter:
    if not isinstance(leaf, torch.Tensor) or not isinstance(constraint, constraints.Constraint):
        raise ParamMismatchError(
            f"the state has as parameter {name!r} no tensor with a constraint, but {leaf!r} with "
            f"{constraint!r}"
        )
    if not leaf.is_leaf or not leaf.requires_grad:
        leaf = leaf.detach().clone().requires_grad_(True)
    if is_real(constraint):
        constraint = constraints.real
    return Parameter(leaf, constraint)
