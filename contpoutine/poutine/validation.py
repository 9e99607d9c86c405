"""Whether handlers check what costs time or may be meant: tensors of scales, names never met.

It is on by default, and holds for the running thread or task.
"""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["enable_validation", "is_validation_enabled"]

_VALIDATION: ContextVar[bool] = ContextVar("contpoutine_validation", default=True)


def enable_validation(is_validate: bool) -> None:
    """Switch checks of handlers on or off: of tensors of scales, and of names that no site has.

    >>> enable_validation(False)
    >>> is_validation_enabled()
    False
    >>> enable_validation(True)
    """
    _VALIDATION.set(bool(is_validate))


def is_validation_enabled() -> bool:
    """Are they on?"""
    return _VALIDATION.get()
