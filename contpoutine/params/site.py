"""The effect `param`: a site of type "param", whose default is what the store says.

The message has Pyro's fields: `fn` is the store's `get_param`, `args` the name and the initial
value, if any, `kwargs` the constraint and `event_dim`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contpoutine.core.message import Message, Request
from contpoutine.params import get_param_store

if TYPE_CHECKING:
    import torch


def param(
    name: str,
    init_tensor: torch.Tensor | float | list[Any] | Callable[[], Any] | None = None,
    constraint: Any = None,
    event_dim: int | None = None,
) -> Request[torch.Tensor]:
    """A number to be learned: the value of the parameter `name`, from the parameter store.

    The first `param` of a name puts its initial value into the store, and later ones read what is
    there. The value satisfies the constraint; `value.unconstrained()` is the leaf tensor behind it,
    which an optimiser moves, and to which gradients flow.

    Args:
        init_tensor: the initial value as the model sees it: a tensor, a number, a list of numbers,
            or a function that gives one and is called where it is needed. Without it, the parameter
            has to be there.
        constraint: one of torch.distributions.constraints; any real number if not given.
        event_dim: how many of the rightmost dimensions are no batch dimensions; plates around the
            site subsample the others. None: all of them.

    Raises:
        ParamError: in the model, where the initial value is outside the constraint.
        ParamMismatchError: in the model, where the store has the name with another shape or
            constraint.
        UnknownParamError: in the model, where it is not there and no initial value is given.

    >>> import contpoutine as cp
    >>> from torch.distributions import constraints
    >>> cp.clear_param_store()
    >>> def model():
    ...     scale = yield cp.param("scale", 2.0, constraint=constraints.positive)
    ...     return scale, scale.unconstrained()
    >>> scale, leaf = cp.run(model)
    >>> round(scale.item(), 4), round(leaf.item(), 4)
    (2.0, 0.6931)
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a parameter is a string, not {name!r}: param('x', ...)")
    read, real = _defaults or _find_defaults()
    msg: Request[torch.Tensor] = Message(
        type="param",
        name=name,
        fn=read,
        args=(name,) if init_tensor is None else (name, init_tensor),
        kwargs={"constraint": real if constraint is None else constraint, "event_dim": event_dim},
    ).born_in_caller()
    return msg


# What every message needs from torch's side, looked up once: how to read, and no constraint.
_defaults: tuple[Callable[..., torch.Tensor], Any] | None = None


def _find_defaults() -> tuple[Callable[..., torch.Tensor], Any]:
    global _defaults
    from torch.distributions import constraints

    _defaults = get_param_store().get_param, constraints.real
    return _defaults
