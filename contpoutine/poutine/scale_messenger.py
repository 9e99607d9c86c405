"""scale: weigh sites more or less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contpoutine.core.messenger import Messenger
from contpoutine.distributions.content import is_tensor
from contpoutine.errors import BadWeightError
from contpoutine.poutine.three_ways import Model, apply
from contpoutine.poutine.validation import is_validation_enabled

if TYPE_CHECKING:
    import torch

__all__ = ["ScaleMessenger", "scale"]


class ScaleMessenger(Messenger):
    """Multiplies the log-probabilities of the sites inside by `scale`; nested scales multiply.

    Args:
        scale: a positive number, or a tensor that broadcasts with the sites' batch shapes.

    Raises:
        BadWeightError: the scale is not positive. To leave sites out, `mask(mask=False)`.
    """

    fork_constant = True

    def __init__(self, scale: float | torch.Tensor) -> None:
        if not _is_positive(scale):
            raise BadWeightError(
                f"a scale is positive, and this one is {scale!r}. To leave sites out of the "
                f"log-probability, write mask(model, mask=False)."
            )
        self.scale = scale

    def _process_message(self, msg: Any) -> None:
        msg["scale"] = self.scale * msg["scale"]


def _is_positive(scale: Any) -> bool:
    if is_tensor(scale):
        return not is_validation_enabled() or bool((scale > 0).all())
    if not isinstance(scale, int | float):
        raise TypeError(f"scale takes a positive number or a tensor of them, not {scale!r}")
    return scale > 0


def scale(fn: Model | None = None, scale: Any = None) -> Any:
    """Multiply the log-probabilities of the sites inside by a positive number or tensor.

    >>> import contpoutine as cp
    >>> def model():
    ...     yield cp.sample("x", cp.distributions.Flip(0.25), obs=True)
    >>> round(cp.infer.enumerate(scale(model, scale=2.0))().log_evidence, 4)
    -2.7726
    """
    return apply("scale", fn, ScaleMessenger(scale))
