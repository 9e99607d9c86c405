"""Control handlers: handlers that own the rest of the computation.

A clause `on_<type>(self, msg, k)` gets the effect and the continuation `k` from the effect up to
this handler. What the clause returns is what the handled computation gives; it resumes `k` once,
never, or as often as it likes. Handlers are deep: a resumed continuation has its handler installed
again. `on_return(self, value)` maps the value of an execution that reaches its end.

A generator clause resumes by `yield k(value)` and may perform effects of its own, which handlers
further out take; a plain clause calls `k(value)`, which runs the rest at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NoReturn, cast

from contpoutine.core.model import describe
from contpoutine.errors import ClauseError


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

    # A Messenger is used in three ways, a control handler in one: where the other two are tried,
    # the error says so. A type checker sees no such methods, and says it earlier.

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError(
                f"a control handler cannot be used in a `with` block: its clauses own the rest of "
                f"a computation, and a block is not one. {_how_to_use(self)}"
            )

        def __exit__(self, *_: object) -> None:  # `with` looks for it before it calls __enter__
            pass

        def __call__(self, *_: Any, **__: Any) -> NoReturn:
            raise TypeError(f"a control handler is not called on a model. {_how_to_use(self)}")

    def __fork__(self, memo: Callable[[Any], Any]) -> Handler:
        """The handler as another branch will see it, where the handled model made it."""
        if not self.__dict__:
            return self
        fresh = type(self).__new__(type(self))
        memo.record(self, fresh)  # type: ignore[attr-defined]
        for name, value in self.__dict__.items():
            fresh.__dict__[name] = memo(value)
        return fresh


def _how_to_use(handler: Handler) -> str:
    return f"Write `cp.handle({type(handler).__name__}(), model)`, and run the model that it gives."


class Clause:
    """One clause of an installed handler."""

    __slots__ = ("is_generator", "method", "name")

    def __init__(self, handler: Handler, name: str) -> None:
        self.method = getattr(handler, name)
        self.is_generator = inspect.isgeneratorfunction(self.method)
        self.name = f"{type(handler).__qualname__}.{name}"


def _clause_names(cls: Any) -> tuple[tuple[str, str], ...]:
    """(effect, method) of each clause. Found once a class, and kept by the class, which may go."""
    known: tuple[tuple[str, str], ...] | None = vars(cls).get("_clauses")
    if known is None:
        names = [name for name in dir(cls) if name.startswith("on_") and name != "on_return"]
        known = cls._clauses = tuple((name[3:], name) for name in names)
    return known


def _check_clauses(cls: Any) -> None:
    """Raise `ClauseError` where a clause cannot be called as the machine calls it."""
    if vars(cls).get("_clauses_fit", False):
        return
    for _, name in _clause_names(cls):
        _check_clause(cls, name, ("msg", "k"))
    _check_clause(cls, "on_return", ("value",))
    cls._clauses_fit = True


def _check_clause(cls: type, name: str, takes: tuple[str, ...]) -> None:
    found = inspect.getattr_static(cls, name)
    bound = isinstance(found, staticmethod | classmethod)
    if not bound and not inspect.isfunction(found):
        return  # something of the user's own making; calling it will tell
    clause = getattr(cls, name)
    # not what a decorator wraps, which may well take other arguments
    signature = inspect.signature(clause, follow_wrapped=False)
    try:
        signature.bind(*(() if bound else ("self",)), *takes)
    except TypeError as error:
        right = f"def {name}({', '.join(takes if bound else ('self', *takes))})"
        means = (
            "the effect, and the continuation from it up to this handler"
            if name != "on_return"
            else "what the handled model returned"
        )
        raise ClauseError(
            f"the clause {describe(clause)} takes {signature}, and cannot be called as a clause "
            f"is: {error}. Write `{right}`; it is given {means}."
        ) from None


class Mark:
    """The entry on the handler stack that stands for an installed control handler."""

    fork_opaque = True
    __slots__ = ("clauses", "entered", "handler", "maps_return", "returns")

    def __init__(self, handler: Handler, entered: Any = None) -> None:
        self.handler, self.entered = handler, entered
        self.clauses = {
            effect: Clause(handler, name)
            for effect, name in _clause_names(cast(Any, type(handler)))
        }
        self.maps_return = type(handler).on_return is not Handler.on_return
        self.returns = Clause(handler, "on_return")

    def __fork__(self, memo: Callable[[Any], Any]) -> Mark:
        handler = memo(self.handler)
        return self if handler is self.handler else Mark(handler, self.entered)

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

    Its value is what the handler's clauses and `on_return` give.

    Raises:
        TypeError: `handler` is no instance of `Handler`, or `model` cannot be called.
        ClauseError: a clause of the handler does not take `(self, msg, k)`.

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
    _check_clauses(cast(Any, type(handler)))

    def handled(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield Install(handler, model, args, kwargs))

    handled.__name__ = f"handle({type(handler).__name__}, {describe(model).split(' ')[0]})"
    handled.__qualname__ = handled.__name__
    handled.__doc__ = model.__doc__
    return handled
