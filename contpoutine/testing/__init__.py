"""For your tests: is a model of yours resumed as it should be, and random models to try things on.

    assert_fork_law(model, *args)   holds a model against the law of resumption, by brute force
    models()                        a Hypothesis strategy that draws models (needs hypothesis)
    likeness(value)                 a text that says what a value is, aliases included

Hypothesis is imported only when a strategy is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contpoutine.errors import MissingDependencyError
from contpoutine.testing.fork_law import assert_fork_law
from contpoutine.testing.likeness import likeness
from contpoutine.testing.reference import Outcome

if TYPE_CHECKING:
    from contpoutine.testing.drawing import DrawnModel as DrawnModel
    from contpoutine.testing.drawing import models as models

__all__ = ["DrawnModel", "Outcome", "assert_fork_law", "likeness", "models"]


def __getattr__(name: str) -> Any:
    """What needs hypothesis, when it is asked for."""
    if name not in ("DrawnModel", "models"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import hypothesis as hypothesis
    except ImportError as error:
        raise MissingDependencyError(
            f"contpoutine.testing.{name} draws models with hypothesis, which is not installed. "
            f"Write `pip install hypothesis`; assert_fork_law works without it."
        ) from error
    from contpoutine.testing import drawing

    return getattr(drawing, name)
