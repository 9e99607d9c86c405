"""infer_config: options for inference, site by site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from contpoutine.core.messenger import Messenger
from contpoutine.poutine.three_ways import Model, apply

__all__ = ["InferConfigMessenger", "infer_config"]


class InferConfigMessenger(Messenger):
    """Adds what `config_fn` says to the `infer` of each sample and parameter site.

    Args:
        config_fn: takes a message and gives a dict of options.
    """

    fork_constant = True

    def __init__(self, config_fn: Callable[[Any], Mapping[str, Any]]) -> None:
        if not callable(config_fn):
            raise TypeError(
                f"infer_config needs config_fn=f, where f(msg) is a dict, not {config_fn!r}"
            )
        self.config_fn = config_fn

    def _pyro_sample(self, msg: Any) -> None:
        msg["infer"].update(self.config_fn(msg))

    _pyro_param = _pyro_sample


def infer_config(
    fn: Model | None = None, config_fn: Callable[[Any], Mapping[str, Any]] | None = None
) -> Any:
    """Add options to the `infer` of each sample and parameter site.

    >>> import contpoutine as cp
    >>> def model():
    ...     yield cp.sample("x", cp.distributions.Flip(0.5))
    >>> marked = infer_config(model, config_fn=lambda msg: {"enumerate": "parallel"})
    >>> cp.poutine.trace(marked).get_trace().nodes["x"]["infer"]
    {'enumerate': 'parallel'}
    """
    return apply("infer_config", fn, InferConfigMessenger(config_fn))  # type: ignore[arg-type]
