"""Effects of a user's own type."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from contpoutine.core.message import Message


def effectful(fn: Callable[..., Any] | None = None, type: str | None = None) -> Callable[..., Any]:
    """Make a function an operation: calling it gives a request, to be yielded.

    Handlers see a message of the given type, with the function and its arguments; if none of them
    decides the value, the function is called. The keywords `name`, `infer` and `obs` go into the
    message and not to the function.

    >>> import contpoutine as cp
    >>> @effectful(type="apply")
    ... def add(x, y):
    ...     return x + y
    >>> def model():
    ...     return (yield add(1, 2))
    >>> cp.run(model)
    3
    """
    if fn is None:
        return functools.partial(effectful, type=type)
    if type is None:
        raise ValueError('effectful needs a type, such as effectful(type="apply")')
    if not callable(fn):
        raise TypeError(f"effectful decorates a function, not {fn!r}")

    @functools.wraps(fn)
    def request(
        *args: Any, name: str | None = None, infer: Any = None, obs: Any = None, **kwargs: Any
    ) -> Any:
        return Message(
            type=type,
            name=name,
            fn=fn,
            args=args,
            kwargs=kwargs,
            value=obs,
            is_observed=obs is not None,
            infer=dict(infer or ()),
        ).born_in_caller()

    return request


def operation(type: str) -> Callable[..., Any]:
    """An operation without a default: a handler has to take it.

    Calling it gives a request whose arguments are in `msg["args"]` and `msg["kwargs"]`. Performed
    where no handler takes it, it raises `UnhandledEffectError`.

    >>> import contpoutine as cp
    >>> ask = operation("ask")
    >>> class Answer(cp.Handler):
    ...     def on_ask(self, msg, k):
    ...         return (yield k(len(msg["args"][0])))
    >>> def model():
    ...     return (yield ask("how long?"))
    >>> cp.run(cp.handle(Answer(), model))
    9
    """
    if not str(type).isidentifier():
        raise ValueError(f"the type of an operation is an identifier, not {type!r}")

    def request(*args: Any, name: str | None = None, **kwargs: Any) -> Any:
        return Message(type=type, name=name, args=args, kwargs=kwargs).born_in_caller()

    request.__name__ = request.__qualname__ = type
    request.__doc__ = f"Request the effect {type!r}."
    return request
