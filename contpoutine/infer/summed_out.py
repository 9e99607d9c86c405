"""The log-evidence of a model that is given some values, on the graph of its states.

What the guide of an `EnumELBO` leaves open is summed out. Path by path, that costs as much as there
are executions; on the state graph (`infer.enumerate(merge=True)`), as much as there are states, so
that a loop over data with a choice for each is linear in the data. The handler here keeps no more
than a count, or states that differ in nothing else could not be merged.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

from contpoutine.core.machine import default_value, is_decided
from contpoutine.core.messenger import Messenger
from contpoutine.core.model import describe, start
from contpoutine.distributions.choices import has_finite_support
from contpoutine.errors import GuideMismatchError
from contpoutine.infer.enumeration import enumerate as enumerate_executions
from contpoutine.infer.scored_sites import refuse
from contpoutine.poutine.util import site_is_subsample

if TYPE_CHECKING:
    import torch

Model = Callable[..., Any]


class Given(Messenger):
    """Gives sites the values of a guide, and counts how many it gave."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given, self.met = given, 0

    def _pyro_sample(self, msg: Any) -> None:
        given = msg["name"] in self.given
        if site_is_subsample(msg):
            value = self.given[msg["name"]] if given else default_value(msg)
            msg["value"], msg["done"] = value, True
            return
        self.met += given
        if is_decided(msg):
            return
        if given:
            msg["value"], msg["done"] = self.given[msg["name"]], True
        elif not (has_finite_support(msg["fn"]) and msg["infer"].get("enumerate", True)):
            msg["value"] = refuse(msg)


def log_evidence(
    model: Model,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    given: Mapping[str, Any],
    needed: int,
) -> torch.Tensor | None:
    """The log-evidence given those values, differentiable once; None where it is minus infinity.

    Args:
        needed: how many of the values each execution of the model has to use.
    """

    def summed(*args: Any, **kwargs: Any) -> Generator[Any, Any, int]:
        with Given(given) as handler:
            yield start(model, args, kwargs)
        return handler.met

    posterior = enumerate_executions(summed, merge=True)(*args, **kwargs)
    if posterior.log_evidence == -float("inf"):
        return None
    for met in posterior.marginal():
        if met != needed:
            raise GuideMismatchError(
                f"an execution of the model {describe(model)} performs {met} sites that the guide "
                f"has drawn, and the guide has drawn {needed} for it: {', '.join(given)}. The "
                f"model has each of the guide's sites once on every execution."
            )
    return posterior.log_evidence_tensor()
