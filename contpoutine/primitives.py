"""The effects that a probabilistic model performs. Each gives a request, to be yielded."""

from __future__ import annotations

from typing import Any

from contpoutine.core.message import build_sample
from contpoutine.distributions import Delta, Unit

sample = build_sample
"""sample(name, fn, *args, obs=None, infer=None, **kwargs): draw from a distribution."""


def observe(name: str, fn: Any, value: Any) -> Any:
    """Condition on `value` having been drawn from `fn`: the same as `sample(..., obs=value)`.

    Unlike `obs=None`, an observed `None` is an observation.

    >>> import contpoutine as cp
    >>> def model():
    ...     yield cp.observe("coin", cp.distributions.Flip(0.25), True)
    >>> round(cp.infer.enumerate(model)().log_evidence, 4)
    -1.3863
    """
    msg = build_sample(name, fn)
    msg["value"], msg["is_observed"] = value, True
    return msg.born_in_caller()


def factor(name: str, log_factor: Any) -> Any:
    """Multiply the weight of the execution by `exp(log_factor)`.

    >>> import contpoutine as cp
    >>> def model():
    ...     x = yield cp.sample("x", cp.distributions.Flip(0.5))
    ...     yield cp.factor("prefer", 1.0 if x else 0.0)
    ...     return x
    >>> round(cp.infer.enumerate(model)().marginal()[True], 4)
    0.7311
    """
    msg = build_sample(name, Unit(log_factor))
    msg["value"], msg["is_observed"] = (), True
    return msg.born_in_caller()


def deterministic(name: str, value: Any) -> Any:
    """Give a computed value a name, so that traces and posteriors know it.

    >>> import contpoutine as cp
    >>> def model():
    ...     a = yield cp.sample("a", cp.distributions.RandInt(1, 7))
    ...     b = yield cp.sample("b", cp.distributions.RandInt(1, 7))
    ...     yield cp.deterministic("sum", a + b)
    >>> round(cp.infer.enumerate(model)().marginal("sum")[7], 4)
    0.1667
    """
    msg = build_sample(name, Delta(value), infer={"_deterministic": True})
    msg["value"], msg["is_observed"] = value, True
    return msg.born_in_caller()
