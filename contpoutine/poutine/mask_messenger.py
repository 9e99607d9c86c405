"""mask: leave sites out of the log-probability, as a whole or element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contpoutine.core.message import Message
from contpoutine.core.messenger import Messenger
from contpoutine.distributions.content import is_tensor
from contpoutine.poutine.at_once import perform_at_once
from contpoutine.poutine.three_ways import Model, apply

if TYPE_CHECKING:
    import torch

__all__ = ["MaskMessenger", "get_mask", "mask"]


class MaskMessenger(Messenger):
    """Sites inside count only where `mask` is true; nested masks have to be true together.

    Args:
        mask: a bool, or a tensor of bools that broadcasts with the sites' batch shapes.

    Raises:
        TypeError: it is something else, such as a tensor of numbers.
    """

    fork_constant = True

    def __init__(self, mask: bool | torch.Tensor) -> None:
        if mask is not True and mask is not False:
            if not is_tensor(mask):
                raise TypeError(f"a mask is True, False or a tensor of bools, not {mask!r}")
            if str(mask.dtype) != "torch.bool":
                raise TypeError(
                    f"a mask is a tensor of bools, and this one is of {mask.dtype}: write `x > 0` "
                    f"or `x.bool()`. To weigh sites by numbers, use scale(model, scale=...)."
                )
        self.mask = mask

    def _process_message(self, msg: Any) -> None:
        msg["mask"] = self.mask if msg["mask"] is None else msg["mask"] & self.mask


def mask(fn: Model | None = None, mask: Any = None) -> Any:
    """Let the sites inside count only where `mask` is true.

    Their values are drawn or observed as before; only the log-probability is zero elsewhere.

    >>> import contpoutine as cp
    >>> def model():
    ...     x = yield cp.sample("x", cp.distributions.Flip(0.5))
    ...     with mask(mask=False):
    ...         yield cp.sample("y", cp.distributions.Flip(0.9 if x else 0.1), obs=True)
    ...     return x
    >>> cp.infer.enumerate(model)().marginal()[True]
    0.5
    """
    return apply("mask", fn, MaskMessenger(mask))


def get_mask() -> bool | torch.Tensor | None:
    """The mask that a site performed here would get: None where there is no `mask` around.

    A model asks for it to spare itself a costly log-probability that will not count.

    >>> with mask(mask=False):
    ...     get_mask()
    False
    """
    msg = Message(type="get_mask", fn=_no_value)
    perform_at_once(msg, "get_mask", "", random=False)
    masked: bool | torch.Tensor | None = msg["mask"]
    return masked


def _no_value() -> None:
    return None
