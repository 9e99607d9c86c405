"""collapse: refused by name.

Pyro's `collapse` integrates sites out by rewriting lazy tensor expressions (funsors), inside models
whose code takes such expressions for values. Nothing of that has a meaning for continuations, which
give every branch a value; what it is wanted for is there by other means.
"""

from __future__ import annotations

from typing import Any, NoReturn

from contpoutine.errors import NotSupportedError

__all__ = ["collapse"]


def collapse(fn: Any = None, *args: Any, **kwargs: Any) -> NoReturn:
    """Not supported: raises `NotSupportedError`, and says what integrates sites out here."""
    raise NotSupportedError(
        "poutine.collapse needs models that compute with funsors, and is not supported. Discrete "
        "sites are integrated out by infer.enumerate(model) or poutine.queue."
    )
