"""Messengers: the handlers of the seed, which see messages and never a continuation.

A Messenger is a context manager on the handler stack. Each effect performed inside it passes
through `_process_message` on its way up (innermost handler first) and, when its value is known,
through `_postprocess_message` on its way down. Both dispatch on the message's type to
`_pyro_<type>` and `_pyro_post_<type>`, so a subclass writes only what it cares about.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from types import GeneratorType, TracebackType
from typing import Any, ClassVar, Self

from contpoutine.core.ambient import AMBIENT, BRANCHING
from contpoutine.core.bridge import plainly
from contpoutine.core.entering import CLOCK
from contpoutine.core.handler import Mark
from contpoutine.core.model import is_generator_model
from contpoutine.errors import HandlerStackError


class _MessengerType(type):
    """Keeps what a handler was constructed from.

    When a suspended computation is copied, what a handler made for itself (a log, a counter) is
    copied with it, and what it was given (data, a function) is shared. This is how the two are
    told apart without a word from the handler's author.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__call__(*args, **kwargs)
        self._given = (args, kwargs)
        self._born = next(CLOCK)
        return self


class Messenger(metaclass=_MessengerType):
    """Base class of handlers that read and change messages.

    Used in three ways: `with SomeMessenger(): ...`, `SomeMessenger()(model)` and as a decorator.
    Wrapping a generator model gives a generator model.

    >>> import contpoutine as cp
    >>> class Names(Messenger):
    ...     def __enter__(self):
    ...         self.names = []
    ...         return super().__enter__()
    ...     def _pyro_sample(self, msg):
    ...         self.names.append(msg["name"])
    >>> def model():
    ...     x = yield cp.sample("x", cp.distributions.Flip(0.5))
    ...     y = yield cp.sample("y", cp.distributions.Flip(0.5))
    >>> with Names() as seen:
    ...     cp.run(model)
    >>> seen.names
    ['x', 'y']
    """

    # When it was made, by a clock of the process, is no part of its state: not in its `__dict__`.
    __slots__ = ("__dict__", "__weakref__", "_born")
    _born: int

    _given: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    fork_shared: ClassVar[bool] = False
    """Set to True in a class whose instances keep no state: forks then share them."""

    fork_constant: bool = False
    """Set to True in a class whose instances do not change after construction: forks then share
    those that hold nothing of the computation's own. A subclass has to say it again."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.fork_constant = cls.__dict__.get("fork_constant", False)

    _version = 0
    """How often the handler was entered. A branch that is suspended inside a handler which another
    branch has entered meanwhile cannot go on from there, and is replayed."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__  # and not when it was made: a copy is another handler

    def __enter__(self) -> Self:
        if not self.fork_constant:
            self._version += 1
            self._tell()
        AMBIENT.set((*AMBIENT.get(), self))
        return self

    def _tell(self) -> None:
        """Tell the computations that may run this again that the handler is being entered."""
        entered = BRANCHING.get()
        if entered is not None:
            entered.meet(self, type(self).__enter__ is not Messenger.__enter__)
        for entry in AMBIENT.get():
            if type(entry) is Mark and entry.entered is not None:
                entry.entered.meet(self, afresh=True)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        stack = AMBIENT.get()
        for depth in range(len(stack) - 1, -1, -1):
            if stack[depth] is self:
                AMBIENT.set(stack[:depth])
                if depth < len(stack) - 1 and exc_type is None:
                    raise HandlerStackError(
                        f"{self!r} was left while {stack[-1]!r}, which was entered later, is still "
                        f"installed; leave handlers in the reverse order of entering them"
                    )
                return None
        if exc_type is None:
            raise HandlerStackError(
                f"{self!r} was left, but it is not installed here. Where its class has an "
                f"`__enter__` of its own, that ends with `return super().__enter__()`, which "
                f"installs it. Otherwise it was entered in another computation: enter and leave a "
                f"handler in the same one (`with handler: ...` does)."
            )
        return None

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        if is_generator_model(fn):

            @functools.wraps(fn)
            def model(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                with self:
                    return (yield from fn(*args, **kwargs))

            return model

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                result = plainly(fn, args, kwargs)
            return self._inside(result) if isinstance(result, GeneratorType) else result

        return call

    def _inside(self, body: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        with self:
            return (yield from body)

    def _process_message(self, msg: Any) -> None:
        method = getattr(self, f"_pyro_{msg['type']}", None)
        if method is not None:
            method(msg)

    def _postprocess_message(self, msg: Any) -> None:
        method = getattr(self, f"_pyro_post_{msg['type']}", None)
        if method is not None:
            method(msg)

    def _reset(self) -> None:
        """Forget the execution so far: it was given up, and another one begins.

        `poutine.queue` says so to the handlers around it; a handler that accumulates overrides it.
        """

    def __fork__(self, memo: Callable[[Any], Any]) -> Self:
        """The handler as another branch will see it: a copy of what it made for itself."""
        if self.fork_constant:
            held = self.__dict__.items()
            if all(memo(value) is value for name, value in held if name != "_given"):
                return self
        fresh = type(self).__new__(type(self))
        memo.record(self, fresh)  # type: ignore[attr-defined]
        for name, value in self.__dict__.items():
            fresh.__dict__[name] = memo(value)
        fresh._born = next(CLOCK)
        return fresh
