"""Parameters: the numbers that are learned, in one store for the whole process.

The store is outside of every model: branches of an enumeration share it, as they share what a model
was given, and gradients flow to it from each of them. Torch is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contpoutine.params.store import ParamStore

__all__ = ["ParamStore", "clear_param_store", "get_param_store"]

_the_store: ParamStore | None = None


def get_param_store() -> ParamStore:
    """The store that `param` reads and writes.

    >>> import torch
    >>> import contpoutine as cp
    >>> cp.clear_param_store()
    >>> def model():
    ...     return (yield cp.param("loc", 1.5))
    >>> cp.run(model)
    tensor(1.5000, requires_grad=True)
    >>> list(cp.get_param_store())
    ['loc']
    """
    global _the_store
    if _the_store is None:
        from contpoutine.params.store import ParamStore

        _the_store = ParamStore()
    return _the_store


def clear_param_store() -> None:
    """Forget every parameter: the next `param` of each name begins with its initial value."""
    if _the_store is not None:
        _the_store.clear()


def __getattr__(name: str) -> Any:
    if name != "ParamStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.store").ParamStore
