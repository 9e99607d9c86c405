"""Handlers with a state that were made before the computation which enters them.

What a handler makes for itself belongs to the computation that it is installed in. One that was
made outside, such as a global, may be entered by several branches, and by each replay: it has to
begin each time as it began the first time. Its state at the first time is kept; a replay puts it
back. A branch that enters it with what another branch has left there is refused by name, where the
handler has no `__enter__` of its own that could have begun afresh.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

from contpoutine.core.capture import provider
from contpoutine.errors import CaptureError, HandlerStateError

CLOCK = itertools.count(1)
"""Says of two things which one was made first."""

NO_STATE = frozenset({"_given", "_version"})


class Entered:
    """The handlers from outside that a computation has entered, with their first state."""

    __slots__ = ("_met", "began", "outside")

    def __init__(self, outside: Any) -> None:
        self.outside = outside
        self.began = next(CLOCK)
        self._met: dict[int, tuple[Any, Any]] = {}

    def meet(self, handler: Any, afresh: bool) -> None:
        """The handler is being entered. `afresh`: it may reset its state when it is."""
        if getattr(handler, "_born", 0) > self.began or type(handler).__module__.startswith(
            "contpoutine."
        ):
            return  # made by the computation itself, or one of the library's, which begin afresh
        if handler.fork_shared or not handler.__dict__.keys() - NO_STATE:
            return
        met = self._met.get(id(handler))
        if met is None:
            self._met[id(handler)] = handler, self._copy(handler)
        elif not afresh:
            changed = [name for name, value in _state(met[1]) if _differs(handler, name, value)]
            if changed:
                raise HandlerStateError(_refusal(handler, changed))

    def restore(self) -> None:
        """Put the handlers back into the state of the first time: the computation runs again."""
        for handler, first in self._met.values():
            state = dict(_state(self._copy(first)))
            for name in handler.__dict__.keys() - NO_STATE - state.keys():
                del handler.__dict__[name]
            handler.__dict__.update(state)
            if "_version" in handler.__dict__:
                handler._version += 1  # a branch that is suspended inside it has lost its state

    def _copy(self, handler: Any) -> Any:
        try:
            return provider().fork([], (handler,), self.outside)[1][0]
        except CaptureError:
            kept = object.__new__(type(handler))
            for name, value in handler.__dict__.items():
                kept.__dict__[name] = value if name in NO_STATE else provider().keep(value)
            return kept


def _state(handler: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(handler).items() if name not in NO_STATE]


def _differs(handler: Any, name: str, first: Any) -> bool:
    return name not in handler.__dict__ or not _same(first, handler.__dict__[name], 8)


def _same(a: Any, b: Any, depth: int) -> bool:
    """Has `b` the content of `a`, as far as it can be told?"""
    if a is b or depth == 0:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_same(x, y, depth - 1) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(x, b[key], depth - 1) for key, x in a.items())
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "Tensor") and isinstance(a, torch.Tensor):
        return bool(torch.equal(a, b))
    known: Any = type(a)
    if known.__eq__ is object.__eq__:  # known by identity: what it holds is told, if anything
        return _same(getattr(a, "__dict__", None), getattr(b, "__dict__", None), depth - 1)
    try:
        return bool(a == b)
    except Exception:
        return True


def _refusal(handler: Any, changed: list[str]) -> str:
    names = ", ".join(f"`{name}`" for name in changed)
    kind = type(handler).__qualname__
    return (
        f"the {kind} that this model enters was made outside of it, and is entered a second time "
        f"with what the first time has left in {names}: branches would count for each other. Make "
        f"the handler inside the model (`with {kind}(...):`), or begin afresh in a method "
        f"`__enter__` that ends with `return super().__enter__()`."
    )
