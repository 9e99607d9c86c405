"""How a handler becomes the three things that it is: `handler(model)`, a decorator, and a context.

A handler's function makes a Messenger of its options; given a model, it wraps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contpoutine.core.messenger import Messenger
from contpoutine.errors import NotAModelError

Model = Callable[..., Any]


def apply(name: str, fn: Model | None, messenger: Messenger) -> Any:
    """The messenger itself, or the model that it is wrapped around."""
    if fn is None:
        return messenger
    check_model(name, fn)
    return messenger(fn)


def check_model(name: str, fn: Any) -> None:
    """Raise `NotAModelError` unless `fn` can be called."""
    if not callable(fn):
        raise NotAModelError(
            f"{name}(model, ...) wraps a model, a generator function, not {fn!r}; the options of "
            f"{name} are given by name: {name}(model, option=...)"
        )
