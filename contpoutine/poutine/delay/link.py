"""What the handler keeps in a message between its way up and its way down, and what it shows."""

from __future__ import annotations

from typing import Any

from contpoutine.distributions.choices import log_weight
from contpoutine.poutine.delay.relation import Relation
from contpoutine.poutine.delay.repeated import log_prob
from contpoutine.poutine.delay.symbol import Owner, Symbol


class Deferred:
    """The distribution of a delayed site as handlers further out see it.

    The symbol that stands for its value has weight 1: what the value explains is weighed where it
    is explained. A number has its weight under `marginal`.
    """

    fork_shared = True
    has_enumerate_support = False

    def __init__(self, marginal: Any) -> None:
        self.marginal = marginal

    def _log_weight(self, value: Any, name: str) -> float:
        return 0.0 if isinstance(value, Symbol) else log_weight(self.marginal, value, name)

    def log_prob(self, value: Any) -> Any:
        """Zero for the symbol, the marginal's log-probability for a number."""
        if isinstance(value, Symbol):
            import torch

            return torch.zeros((), dtype=torch.float64)
        return log_prob(self.marginal, value)

    def sample(self) -> Any:
        """A draw from the marginal."""
        return self.marginal.sample()

    def expand(self, batch_shape: Any) -> Any:
        """What a plate further out makes of it, which the handler will refuse."""
        return self.marginal.expand(batch_shape)

    def __repr__(self) -> str:
        return f"{self.marginal!r}, delayed"


class Link:
    """What the handler keeps in a message between its way up and its way down."""

    fork_shared = True
    __slots__ = ("intervened", "offered", "owner", "plates", "relation", "shown")

    def __init__(self, owner: Owner, relation: Relation, offered: Symbol | None, msg: Any) -> None:
        self.owner, self.relation, self.offered = owner, relation, offered
        self.shown = relation.marginal if offered is None else Deferred(relation.marginal)
        self.plates, self.intervened = plates_around(msg), msg.get("_intervener_id")

    def is_as_shown(self, msg: Any) -> bool:
        """Is its distribution still the one that was shown, and its value its own?"""
        if msg["fn"] is not self.shown or plates_around(msg) != self.plates:
            return False
        return not self.relation.hangs or msg.get("_intervener_id") == self.intervened


def plates_around(msg: Any) -> tuple[int, ...]:
    """The batch shape of the vectorised plates that a message has passed."""
    sizes = {f.dim: f.size for f in msg["cond_indep_stack"] if f.dim is not None and f.size != -1}
    return tuple(sizes.get(dim, 1) for dim in range(min(sizes, default=0), 0))
