"""What the capture tests share: models that ask `choose(a, b, ...)`, held against the law.

The law itself is checked by `contpoutine.testing`. Here are its settings for these tests, the
handlers that tests of single resumptions use, and the check that what cannot be cloned is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import contpoutine as cp
from contpoutine.core.native import native
from contpoutine.testing import Outcome, assert_fork_law
from contpoutine.testing.fork_law import arguments, strategy
from contpoutine.testing.reference import Questions, Reference

NATIVE = native is not None
WORKING = ("clone", "auto", "replay") if NATIVE else ("auto", "replay")

choose = cp.operation("choose")


class Asked:
    """The computation waits for an answer to `choose`."""

    def __init__(self, options: tuple[Any, ...], k: Any = None) -> None:
        self.options, self.k = options, k


class Keeping(cp.Handler):
    """Gives the continuation away instead of resuming it; its clause is a generator."""

    def on_choose(self, msg: Any, k: Any) -> Any:
        return Asked(msg["args"], k)
        yield


def assert_law(
    model: Callable[..., Any],
    *args: Any,
    strategies: tuple[str, ...] = WORKING,
    orders: int = 4,
    **options: Any,
) -> dict[tuple[int, ...], Any]:
    """The law holds for the model. Gives what each path of answers returns."""
    ended = assert_fork_law(
        model, *args, effect="choose", capture=strategies, orders=orders, **options
    )
    return {path: outcome.value for path, outcome in ended.items()}


def all_paths(model: Callable[..., Any]) -> dict[tuple[int, ...], Outcome]:
    """What every path of answers comes to, by runs from the start."""
    reference = Reference(model, (), Questions("choose", arguments, ()))
    todo: list[tuple[int, ...]] = [()]
    while todo:
        path = todo.pop()
        todo += [(*path, i) for i in range(len(reference[path].answers))]
    return reference.ended()


def outcome_of(call: Callable[[], Any]) -> Any:
    """What a call gives, or the exception that it raises."""
    try:
        return call()
    except Exception as error:
        return error


def assert_refused(model: Callable[..., Any], *args: Any, because: str, **options: Any) -> None:
    """`capture="clone"` says by name what it cannot copy; replay keeps the law."""
    import pytest

    from contpoutine.errors import CaptureError

    if NATIVE:
        with strategy("clone"), pytest.raises(CaptureError, match=because):
            asked = cp.run(cp.handle(Keeping(), model), *args)
            while isinstance(asked, Asked):
                asked = cp.run(asked.k(asked.options[0]))
    assert_law(model, *args, strategies=("auto", "replay"), **options)


def snapshot(value: Any) -> Any:
    """A model returns this to say what it saw, safe from later changes."""
    return copy.deepcopy(value)
