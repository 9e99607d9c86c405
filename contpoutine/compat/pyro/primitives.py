"""Pyro's primitives: called by an ordinary function, they perform their effect at once."""

from __future__ import annotations

from typing import Any

from contpoutine import primitives
from contpoutine.core.ambient import AMBIENT, BRIDGE
from contpoutine.core.bridge import Bridge, Feed
from contpoutine.core.direct import perform
from contpoutine.core.message import build_sample
from contpoutine.core.native import native


def _sample(
    name: str, fn: Any, *args: Any, obs: Any = None, infer: Any = None, **kwargs: Any
) -> Any:
    """Draw from the distribution `fn` at the site `name`; gives the value."""
    msg = build_sample(name, fn, *args, obs=obs, infer=infer, **kwargs)
    return perform(msg.born_in_caller())


if native is not None:
    native.set_direct(AMBIENT, BRIDGE, Bridge, Feed, perform, _sample)
    sample = native.direct_sample
else:
    sample = _sample


def factor(name: str, log_factor: Any, *, has_rsample: bool | None = None) -> None:
    """Multiply the weight of the execution by `exp(log_factor)`."""
    request: Any = primitives.factor(name, log_factor)
    perform(request.born_in_caller())


def deterministic(name: str, value: Any, event_dim: int | None = None) -> Any:
    """Record `value` under the name `name`; gives the value."""
    request: Any = primitives.deterministic(name, value)
    return perform(request.born_in_caller())
