"""unwrap: the model inside of its handlers."""

from __future__ import annotations

from typing import Any

from contpoutine.core import messenger
from contpoutine.poutine import reparam_messenger, trace_messenger, trace_queue

__all__ = ["unwrap"]

_FILES = frozenset(
    module.__file__ for module in (messenger, trace_queue, reparam_messenger, trace_messenger)
)


def unwrap(fn: Any) -> Any:
    """The model that handlers were wrapped around: `unwrap(trace(condition(model, ...)))`.

    A function that a user has decorated in some other way is as it is.

    >>> from contpoutine.poutine import block, trace
    >>> def model():
    ...     yield
    >>> unwrap(trace(block(model))) is model
    True
    """
    while _is_wrapped(fn):
        fn = fn.__wrapped__
    return fn


def _is_wrapped(fn: Any) -> bool:
    code = getattr(fn, "__code__", None) or getattr(type(fn).__call__, "__code__", None)
    return hasattr(fn, "__wrapped__") and code is not None and code.co_filename in _FILES
