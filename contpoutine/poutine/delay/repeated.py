"""An observation of many values at one site, and what one site weighs.

Values that are related to the variables in the same way are independent given the variables, and
not otherwise. Each is weighed in the light of those before it; their order does not matter.
"""

from __future__ import annotations

import math
from typing import Any

from contpoutine.distributions.choices import log_weight
from contpoutine.distributions.symbolic import SymbolicDistribution
from contpoutine.poutine.delay.beliefs import Beliefs
from contpoutine.poutine.delay.conjugate import relation
from contpoutine.poutine.delay.relation import Relation
from contpoutine.poutine.delay.symbol import Owner
from contpoutine.poutine.site_log_prob import is_plain, log_weight_of, site_log_prob


class Repeated(Relation):
    """The relation of a site at which a tensor of values is observed."""

    def __init__(self, fn: SymbolicDistribution, beliefs: Beliefs, owner: Owner) -> None:
        self.fn, self.beliefs, self.owner = fn, beliefs, owner
        self.marginal = self

    def _weighed(self, beliefs: Beliefs, values: Any) -> tuple[list[tuple[Any, Any]], Beliefs]:
        """Each value with its marginal, and the beliefs after all of them."""
        pairs = []
        for value in values.reshape(-1).unbind(0):
            found = relation(self.fn, beliefs, self.owner)
            assert found is not None  # the messenger has asked
            pairs.append((found.marginal, value))
            beliefs = found.learned(beliefs, value)
        return pairs, beliefs

    def learned(self, beliefs: Beliefs, value: Any) -> Beliefs:
        return self._weighed(beliefs, value)[1]

    def _log_weight(self, values: Any, name: str) -> float:
        pairs, _ = self._weighed(self.beliefs, values)
        return math.fsum(log_weight(marginal, value, name) for marginal, value in pairs)

    def log_prob(self, values: Any) -> Any:
        """The log-probability of all values together, as a 0-dim tensor."""
        pairs, _ = self._weighed(self.beliefs, values)
        return sum(log_prob(marginal, value) for marginal, value in pairs)

    def __repr__(self) -> str:
        return f"{self.fn!r}, marginal"


def log_prob(fn: Any, value: Any) -> Any:
    """The log-probability as a 0-dim tensor: in float64 where no gradient can pass."""
    import torch

    site = {"fn": fn, "value": value, **_PLAIN_SITE}
    if is_plain(site):
        return torch.tensor(log_weight_of(site), dtype=torch.float64)
    return site_log_prob(site)[0]


_PLAIN_SITE: dict[str, Any] = {"name": "", "args": (), "kwargs": {}, "scale": 1.0, "mask": None}


def is_single(value: Any) -> bool:
    """Is it one value, and no batch?"""
    return not getattr(value, "shape", ())
