"""`module`: the parameters of a torch module as parameters of the store.

The store holds the module's own tensors, so whoever learns them changes the module. A module that
was given is changed only where the store's own tensors are put into it; anything else (draws under
`lift`, say) goes into a copy, because branches of an enumeration share what they were given.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from contpoutine.params.site import param

if TYPE_CHECKING:
    import torch

_DIVIDER = "$$$"


def module(
    name: str, nn_module: torch.nn.Module, update_module_params: bool = False
) -> Generator[Any, Any, torch.nn.Module]:
    """Learn the parameters of a torch module: `net = yield module("net", net)`.

    Each parameter that requires gradients becomes a `param` site, named `net$$$` and the
    parameter's own name, as in Pyro. The store then holds the module's own tensors, so that
    whatever learns them changes the module.

    Args:
        update_module_params: where the store (or a handler) has other values than the module, give
            the module those. Values that are no parameters of the store, such as draws, go into a
            copy of the module, and the one that was given keeps its own.

    Raises:
        TypeError: `nn_module` is no `torch.nn.Module`.

    Warns:
        UserWarning: the store has other values and they are not taken over; or a module in training
            has a parameter that requires no gradients.

    >>> import torch
    >>> import contpoutine as cp
    >>> cp.clear_param_store()
    >>> net = torch.nn.Linear(2, 1)
    >>> def model(x):
    ...     f = yield cp.module("net", net)
    ...     return f(x)
    >>> cp.run(model, torch.zeros(5, 2)).shape
    torch.Size([5, 1])
    >>> list(cp.get_param_store())
    ['net$$$weight', 'net$$$bias']
    """
    import torch

    given: Any = nn_module
    if not isinstance(given, torch.nn.Module):
        made = f"; write {given.__name__}(...)" if isinstance(given, type) else ""
        raise TypeError(f"module(name, net) needs a torch.nn.Module, not {given!r}{made}")
    if _DIVIDER in name:
        raise TypeError(f"the name of a module has no {_DIVIDER!r} in it, and this one is {name!r}")
    return _learn(name, nn_module, update_module_params)


def _learn(name: str, net: torch.nn.Module, update: bool) -> Generator[Any, Any, torch.nn.Module]:
    others: dict[str, torch.Tensor] = {}
    for own_name, own in list(net.named_parameters()):
        if own.requires_grad:
            value = yield param(f"{name}{_DIVIDER}{own_name}", own)
            if value is not own:
                others[own_name] = value
        elif net.training:
            warnings.warn(
                f"parameter {own_name!r} of module {name!r} is not learned, because it requires no "
                f"gradients. `net.eval()` says that this is meant.",
                stacklevel=2,
            )
    if others and update:
        return _with_parameters(net, others)
    if others:
        warnings.warn(
            f"module {name!r} computes with parameters of its own, while the store has others "
            f"under their names ({', '.join(list(others)[:3])}): another module was registered "
            f"there first, or a file was loaded. Write `module({name!r}, net, "
            f"update_module_params=True)` to take those, or make the module outside of the model.",
            stacklevel=2,
        )
    return net


def _with_parameters(net: torch.nn.Module, values: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The module with other parameters; a copy of it where they are no parameters of the store."""
    if not all(value.is_leaf and value.requires_grad for value in values.values()):
        net = _shallow(net)
    for path, value in values.items():
        owner, _, last = path.rpartition(".")
        at = net.get_submodule(owner)
        at._parameters[last] = value  # type: ignore[assignment]
    return net


def _shallow(net: torch.nn.Module) -> torch.nn.Module:
    """A module of modules of its own, which hold the same tensors."""
    fresh = copy.copy(net)
    fresh._parameters, fresh._buffers = dict(net._parameters), dict(net._buffers)
    fresh._modules = {
        name: None if inner is None else _shallow(inner) for name, inner in net._modules.items()
    }
    return fresh
