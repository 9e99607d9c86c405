"""One parameter: a leaf tensor without bounds, and the constrained value that models see.

A gradient step moves the leaf anywhere; the transform of the constraint (torch's `transform_to`)
makes of it a value that is always inside. The value knows its leaf: `value.unconstrained()`. Where
there is no constraint, the value is the leaf itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.distributions import constraints, transform_to

from contpoutine.distributions.parameters import as_parameter
from contpoutine.errors import ParamError

Constraint = Any  # torch publishes no useful type for its constraints


class Unconstrained:
    """What `value.unconstrained` is: calling it gives the leaf tensor behind the value.

    A copy of a value, or one that was pickled, is a tensor like any other, and no parameter.
    """

    __slots__ = ("_leaf",)

    def __init__(self, leaf: Callable[[], torch.Tensor | None]) -> None:
        self._leaf = leaf

    def __call__(self) -> torch.Tensor:
        leaf = self._leaf()
        if leaf is None:
            raise ParamError(
                "this tensor is a copy of a parameter's value, and has no unconstrained tensor of "
                "its own. Take the value from the store: get_param_store()[name].unconstrained()."
            )
        return leaf

    def __reduce__(self) -> Any:
        return Unconstrained, (_nothing,)


def _nothing() -> None:
    return None


class Parameter:
    """A leaf, its constraint, and the transform between the two."""

    __slots__ = ("constraint", "leaf", "shape", "transform")

    def __init__(self, leaf: torch.Tensor, constraint: Constraint) -> None:
        self.leaf, self.constraint = leaf, constraint
        self.transform: Callable[[torch.Tensor], torch.Tensor] | None = None
        if is_real(constraint):
            leaf.unconstrained = Unconstrained(weakref.ref(leaf))  # type: ignore[attr-defined]
        else:
            self.transform = transform_of(constraint)
        with torch.no_grad():
            self.shape = self.value().shape

    def value(self) -> torch.Tensor:
        """The constrained value, which gradients pass on the way to the leaf."""
        leaf = self.leaf
        if self.transform is None:
            return leaf
        value = self.transform(leaf)
        value.unconstrained = Unconstrained(lambda: leaf)  # type: ignore[attr-defined]
        return value


def is_real(constraint: Constraint) -> bool:
    """Does the constraint allow every number, so that there is nothing to transform?"""
    return isinstance(constraint, type(constraints.real))


def transform_of(constraint: Constraint) -> Any:
    """The transform from a leaf to a value. Raises `ParamError` where torch has none."""
    try:
        return transform_to(constraint)
    except NotImplementedError as error:
        raise ParamError(
            f"a parameter cannot have the constraint {constraint!r}: torch knows no transform from "
            f"unbounded numbers to it. Give one that it knows (`positive`, `interval`, `simplex`, "
            f"`lower_cholesky`, ...), or register one with torch.distributions.transform_to."
        ) from error


def shape_of(given: Any) -> torch.Size | None:
    """The shape of an initial value; None for a function, which is not called."""
    value = as_parameter(given)
    if isinstance(value, torch.Tensor):
        return value.shape
    return torch.Size(()) if isinstance(value, int | float) else None


def make_parameter(name: str, given: Any, constraint: Constraint) -> Parameter:
    """The parameter with an initial value in constrained space.

    A `torch.nn.Parameter` without constraint is taken as it is, so that its module learns with it;
    any other value is copied. Numbers and lists become tensors of torch's default dtype.

    Raises:
        ParamError: the value is no tensor of floating numbers, or lies outside the constraint.
    """
    value = _as_tensor(name, given)
    transform = transform_of(constraint)
    _check_inside(name, value, constraint)
    if isinstance(value, torch.nn.Parameter) and value.requires_grad and is_real(constraint):
        return Parameter(value, constraint)
    with torch.no_grad():
        if is_real(constraint):
            leaf = value.detach().clone(memory_format=torch.contiguous_format)
        else:
            leaf = transform.inv(value.detach()).contiguous()
            if leaf.data_ptr() == value.data_ptr():
                leaf = leaf.clone()
    if bool((leaf.isinf() & value.isfinite()).any()):
        raise ParamError(
            f"the initial value of parameter {name!r} lies on the edge of its constraint "
            f"{constraint!r}, where no gradient step can leave it: {_shown(value)}. Begin a little "
            f"inside."
        )
    return Parameter(leaf.requires_grad_(True), constraint)


def check_constraint(name: str, constraint: Constraint) -> None:
    """Raise `TypeError` where this is no constraint that a parameter can have."""
    if not isinstance(constraint, constraints.Constraint):
        raise TypeError(
            f"the constraint of parameter {name!r} is one of torch.distributions.constraints, such "
            f"as constraints.positive, not {constraint!r}"
        )


def _as_tensor(name: str, given: Any) -> torch.Tensor:
    value = as_parameter(given)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = torch.tensor(float(value))
    if not isinstance(value, torch.Tensor):
        raise ParamError(
            f"the initial value of parameter {name!r} is a tensor, a number, a list of numbers or "
            f"a function that gives one, not {given!r}"
        )
    if not (value.is_floating_point() or value.is_complex()):
        raise ParamError(
            f"the initial value of parameter {name!r} has dtype {value.dtype}, through which no "
            f"gradient flows. Write `.float()` or `.double()` behind it."
        )
    return value


def _check_inside(name: str, value: torch.Tensor, constraint: Constraint) -> None:
    inside = constraint.check(value.detach())
    if bool(inside.all()):
        return
    if bool(value.isnan().any()):
        raise ParamError(f"the initial value of parameter {name!r} is NaN: {_shown(value)}")
    raise ParamError(
        f"the initial value of parameter {name!r} lies outside its constraint {constraint!r}: "
        f"{_shown(value)}. The initial value is given as models see it, in constrained space."
    )


def _shown(value: torch.Tensor) -> str:
    return repr(value.item()) if value.dim() == 0 else " ".join(repr(value.detach()).split())


def same_constraint(one: Any, other: Any) -> bool:
    """Do two constraints allow the same? Torch's have no equality of their own."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_constraint, one, other))
    if isinstance(one, constraints.Constraint):
        mine, theirs = vars(one), vars(other)
        return mine.keys() == theirs.keys() and all(
            same_constraint(mine[key], theirs[key]) for key in mine
        )
    return bool(one == other)
