"""uncondition: draw what the model observes."""

from __future__ import annotations

from typing import Any

from contpoutine.core.messenger import Messenger
from contpoutine.poutine.three_ways import Model, apply

__all__ = ["UnconditionMessenger", "uncondition"]


class UnconditionMessenger(Messenger):
    """Makes observed sites unobserved, so that they are drawn, or enumerated.

    What was observed stays in the site's `infer`, as `obs`, beside `was_observed`. Computed values
    (`deterministic`) and factors are no observations of data, and stay as they are.
    """

    fork_constant = True

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] and not _is_computed(msg):
            msg["infer"] = {**msg["infer"], "was_observed": True, "obs": msg["value"]}
            msg["is_observed"] = msg["done"] = False
            msg["value"] = None


def _is_computed(msg: Any) -> bool:
    return msg["infer"].get("_deterministic") or type(msg["fn"]).__name__ == "Unit"


def uncondition(fn: Model | None = None) -> Any:
    """Draw the sites that the model observes.

    >>> import contpoutine as cp
    >>> def model():
    ...     return (yield cp.sample("x", cp.distributions.Flip(0.25), obs=True))
    >>> round(cp.infer.enumerate(uncondition(model))().marginal()[False], 4)
    0.75
    """
    return apply("uncondition", fn, UnconditionMessenger())
