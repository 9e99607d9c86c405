"""Control handlers: handlers that own the rest of the computation.

A clause `on_<type>(self, msg, k)` gets the effect and the continuation `k` from the effect up to
this handler. What the clause returns is what the handled computation gives; it resumes `k` once,
never, or as often as it likes. Handlers are deep: a resumed continuation has its handler installed
again. `on_return(self, value)` maps the value of an execution that reaches its end.

A generator clause resumes by `yield k(value)` and may perform effects of its own, which handlers
further out take; a plain clause calls `k(value)`, which runs the rest at once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any, cast

from contpoutine.core.model import describe


class Handler:
    """Base class of control handlers.

    >>> import contpoutine as cp
    >>> choose = cp.operation("choose")
    >>> class AllChoices(cp.Handler):
    ...     def on_choose(self, msg, k):
    ...         results = []
    ...         for value in msg["args"]:
    ...             results += yield k(value)
    ...         return results
    ...     def on_return(self, value):
    ...         return [value]
    >>> def model():
    ...     a = yield choose(1, 2)
    ...     b = yield choose(10, 20)
    ...     return a + b
    >>> cp.run(cp.handle(AllChoices(), model))
    [11, 21, 12, 22]
    """

    def on_return(self, value: Any) -> Any:
        """What an execution that ends with `value` gives. May be a generator, like a clause."""
        return value

    def __fork__(self, memo: Callable[[Any], Any]) -> Handler:
        """The handler as another branch will see it, where the handled model made it."""
        if not self.__dict__:
            return self
        fresh = type(self).__new__(type(self))
        memo.record(self, fresh)  # type: ignore[attr-defined]
        for name, value in self.__dict__.items():
            fresh.__dict__[name] = memo(value)
        return fresh


class Clause:
    """One clause of an installed handler."""

    __slots__ = ("is_generator", "method", "name")

    def __init__(self, handler: Handler, name: str) -> None:
        self.method = getattr(handler, name)
        self.is_generator = inspect.isgeneratorfunction(self.method)
        self.name = f"{type(handler).__qualname__}.{name}"


@functools.cache
def _clause_names(cls: Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name[3:], name) for name in dir(cls) if name.startswith("on_") and name != "on_return"
    )


class Mark:
    """The entry on the handler stack that stands for an installed control handler."""

    fork_opaque = True
    __slots__ = ("clauses", "handler", "maps_return", "returns")

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.clauses = {
            effect: Clause(handler, name)
            for effect, name in _clause_names(cast(Any, type(handler)))
        }
        self.maps_return = type(handler).on_return is not Handler.on_return
        self.returns = Clause(handler, "on_return")

    def __fork__(self, memo: Callable[[Any], Any]) -> Mark:
        handler = memo(self.handler)
        return self if handler is self.handler else Mark(handler)

    def __repr__(self) -> str:
        return f"{type(self.handler).__qualname__}()"


class Install:
    """A request to the machine: run a model under a control handler."""

    __slots__ = ("args", "handler", "kwargs", "model")

    def __init__(
        self,
        handler: Handler,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.handler, self.model, self.args, self.kwargs = handler, model, args, kwargs


def handle(handler: Any, model: Callable[..., Any]) -> Callable[..., Generator[Any, Any, Any]]:
    """The generator model that runs `model` with `handler` installed around it.

    Its value is what the handler's clauses and `on_return` give. Raises `TypeError` where
    `handler` is no instance of `Handler`.

    >>> import contpoutine as cp
    >>> class Zero(cp.Handler):
    ...     def on_sample(self, msg, k):
    ...         return (yield k(0))
    >>> def model():
    ...     return (yield cp.sample("x", cp.distributions.Flip(0.5)))
    >>> cp.run(cp.handle(Zero(), model))
    0
    """
    if not isinstance(handler, Handler):
        hint = (
            f"; write {handler.__name__}()"
            if isinstance(handler, type) and issubclass(handler, Handler)
            else "; a Messenger is used as handler(model) or `with handler:`"
        )
        raise TypeError(f"handle needs an instance of Handler, not {handler!r}{hint}")
    if not callable(model):
        raise TypeError(
            f"handle needs a model (a generator function), not {model!r}; arguments are passed "
            f"later: handle(handler, model)(*args)"
        )

    def handled(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield Install(handler, model, args, kwargs))

    handled.__name__ = f"handle({type(handler).__name__}, {describe(model).split(' ')[0]})"
    handled.__qualname__ = handled.__name__
    handled.__doc__ = model.__doc__
    return handled
