"""markov: which sites a site may depend on, for handlers that make use of it.

Each entry of a markov context is a step; a site sees the names of the sites in its own step and in
the `history` steps before it, in `infer["_markov_scope"]`. All that is known of the steps is kept
on the handler stack, in a `MarkovScope` for each markov context, and not in the context object: so
a decorated recursive function works in every branch.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Self

from contpoutine.core.ambient import AMBIENT
from contpoutine.core.handler import Mark
from contpoutine.core.messenger import Messenger
from contpoutine.errors import HandlerStackError, NotSupportedError

__all__ = ["MarkovMessenger", "markov"]

_keys = itertools.count()


class Link:
    """An immutable list: the newest item, and the others."""

    fork_shared = True
    __slots__ = ("item", "rest")

    def __init__(self, item: Any, rest: Link | None) -> None:
        self.item, self.rest = item, rest


class MarkovScope(Messenger):
    """The steps of one markov context: the names in the present step, those before, those after.

    Steps after the present one are there with `keep`, when a step was left and is entered again.
    """

    def __init__(self, key: int, history: int, keep: bool) -> None:
        self.key, self.history, self.keep = key, history, keep
        self.depth = 0
        self.names: Link | None = None
        self.before: Link | None = None
        self.after: Link | None = None

    def step_in(self) -> None:
        if self.depth:
            self.before = Link(self.names, self.before)
        self.names = None
        if self.after is not None:
            self.names, self.after = self.after.item, self.after.rest
        self.depth += 1

    def step_out(self) -> None:
        self.after = Link(self.names, self.after) if self.keep else None
        self.names = None
        self.depth -= 1
        if self.before is not None:
            self.names, self.before = self.before.item, self.before.rest

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or type(msg["fn"]).__name__ == "_Subsample":
            return
        infer = msg["infer"]
        scope = infer["_markov_scope"] = Counter(infer.get("_markov_scope"))
        steps = [self.names]
        step = self.before
        while step is not None and len(steps) <= self.history:
            steps.append(step.item)
            step = step.rest
        for names in steps:
            while names is not None:
                scope[names.item] += 1
                names = names.rest
        infer["_markov_depth"] = 1 + infer.get("_markov_depth", 0)
        self.names = Link(msg["name"], self.names)


class MarkovMessenger(Messenger):
    """A markov context: entered once for each step. Gives itself.

    Args:
        history: how many earlier steps a step may depend on.
        keep: steps that are left stay visible for those that are entered at their level again.

    Raises:
        NotSupportedError: `dim` or `name` is given, which Pyro reserves.
    """

    def __init__(
        self, history: int = 1, keep: bool = False, dim: int | None = None, name: str | None = None
    ) -> None:
        if type(history) is not int or history < 0:
            raise ValueError(f"markov needs history=0, 1, 2, ..., not {history!r}")
        if dim is not None or name is not None:
            raise NotSupportedError("markov does not support dim and name; Pyro reserves them")
        self.history, self.keep = history, keep
        self._key = next(_keys)
        self._iterable: Iterable[Any] | None = None
        self._left: Link | None = None  # with `keep`: the steps that were left last
        self.fork_constant = not keep

    def generator(self, iterable: Iterable[Any]) -> Self:
        """The same, to be looped over: each item is a step."""
        self._iterable = iterable
        return self

    def __iter__(self) -> Generator[Any, None, None]:
        if self._iterable is None:
            raise TypeError("markov is looped over with an iterable: for t in markov(range(10))")
        entered = 0
        try:
            for item in self._iterable:
                self.__enter__()
                entered += 1
                yield item
        finally:
            for _ in range(entered):
                self.__exit__(None, None, None)

    def _scope(self) -> MarkovScope | None:
        """The scope of this context, if it is on the stack of this computation."""
        for entry in reversed(AMBIENT.get()):
            if type(entry) is Mark:  # further out is another computation's
                return None
            if type(entry) is MarkovScope and entry.key == self._key:
                return entry
        return None

    def __enter__(self) -> Self:
        scope = self._scope()
        if scope is None:
            scope = MarkovScope(self._key, self.history, self.keep)
            scope.after = self._left
            scope.__enter__()
        scope.step_in()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        scope = self._scope()
        if scope is None:
            if exc_type is None:
                raise HandlerStackError("a markov context was left that is not entered here")
            return None
        scope.step_out()
        if scope.depth:
            return None
        if self.keep:
            self._left = scope.after
        return scope.__exit__(exc_type, exc_value, traceback)

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The model, each call of which is a step; an outermost call begins anew."""
        if self.keep:
            return _Calls(self.history)(fn)
        return super().__call__(fn)


class _Calls(MarkovMessenger):
    """The context of a decorated model with `keep`: nothing is kept beyond the outermost call."""

    def __init__(self, history: int) -> None:
        super().__init__(history, keep=True)

    def __enter__(self) -> Self:
        if self._scope() is None:
            self._left = None
        return super().__enter__()

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        return Messenger.__call__(self, fn)


def markov(
    fn: Callable[..., Any] | Iterable[Any] | None = None,
    history: int = 1,
    keep: bool = False,
    dim: int | None = None,
    name: str | None = None,
) -> Any:
    """Declare that a step depends on the `history` steps before it, and on none before that.

    `for t in markov(range(10)):` makes each turn of a loop a step, `@markov` each call of a model,
    and `with markov() as m:` each entry of `m`. Handlers such as `enum` make use of it.

    >>> import contpoutine as cp
    >>> def model():
    ...     for t in markov(range(3)):
    ...         yield cp.sample(f"x{t}", cp.distributions.Flip(0.5))
    >>> trace = cp.poutine.trace(model).get_trace()
    >>> [sorted(trace.nodes[f"x{t}"]["infer"]["_markov_scope"]) for t in range(3)]
    [[], ['x0'], ['x1']]
    """
    messenger = MarkovMessenger(history, keep, dim, name)
    if fn is None:
        return messenger
    return messenger(fn) if callable(fn) else messenger.generator(fn)
