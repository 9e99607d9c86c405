"""Reading a parameter as one Python number, and refusing it in words when that cannot be done."""

from __future__ import annotations

import math
from typing import Any, SupportsFloat

from contpoutine.core.message import Message, PureMessage
from contpoutine.errors import DistributionError, SymbolicValueError, UnperformedEffectError

_REQUESTS = (Message, PureMessage)


def refuse_request(value: Any) -> None:
    """Raise `UnperformedEffectError` where `value` is an effect request that was never yielded.

    Asked before a parameter is taken apart: `UniformDraw(sample(...))` is a forgotten `yield`.
    """
    if isinstance(value, _REQUESTS):
        float(value)


def plain_number(value: SupportsFloat | Any, what: str) -> float:
    """`value` as a float. `what` names the parameter in the error, such as "Flip(p)".

    Raises:
        DistributionError: it is no number, has more than one element, or needs gradients, which
            a plain number would silently cut off.
        UnperformedEffectError: it is an effect request that was never yielded.
        SymbolicValueError: its number is not known.
    """
    if isinstance(value, float):
        return value
    if getattr(value, "requires_grad", False):
        raise DistributionError(
            f"{what} takes a plain number, and was given a tensor that requires grad, whose "
            f"gradient would be lost. Use a torch-backed distribution, such as "
            f"`dist.Bernoulli(p)` or `dist.Categorical(probs)`, or pass `p.item()`."
        )
    if not isinstance(value, str | bytes | bytearray):
        try:
            return float(value)
        except (UnperformedEffectError, SymbolicValueError):
            raise
        except (TypeError, ValueError, RuntimeError, OverflowError):
            pass
    raise DistributionError(
        f"{what} takes one number, and was given {value!r} of type {type(value).__name__}."
    )


def probability(value: SupportsFloat | Any, what: str) -> float:
    """`value` as a probability.

    Raises:
        DistributionError: it is no number, NaN, or outside [0, 1].
    """
    p = plain_number(value, what)
    if 0.0 <= p <= 1.0:
        return p
    if math.isnan(p):
        raise DistributionError(
            f"{what} was given the probability NaN. Some computation before it went wrong: look "
            f"for 0/0, inf - inf or the log of a negative number."
        )
    advice = ""
    if -1e-9 < p < 1 + 1e-9:
        advice = f" It is off by rounding only: clamp it, `min(1.0, max(0.0, {p!r}))`."
    raise DistributionError(
        f"{what} was given the probability {p!r}, which is outside [0, 1].{advice}"
    )
