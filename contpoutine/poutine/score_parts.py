"""Score parts: the terms of a gradient estimator that one site contributes.

For a site whose draws carry gradients (`has_rsample`), the log-probability itself is differentiated
along its path, and there is no score function; the entropy term is the log-probability. For any
other site, the score function is the log-probability, and gradients do not pass the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from contpoutine.poutine.site_log_prob import scale_and_mask

if TYPE_CHECKING:
    import torch


class ScoreParts(NamedTuple):
    """Log-probability, score function and entropy term of a site, of its batch shape.

    The last two are the number 0 where they do not take part.
    """

    log_prob: torch.Tensor
    score_function: torch.Tensor | float
    entropy_term: torch.Tensor | float

    def scale_and_mask(self, scale: Any = 1.0, mask: Any = None) -> ScoreParts:
        """The same, scaled and masked: but for the score function, which weighs the whole cost."""
        return ScoreParts(
            scale_and_mask(self.log_prob, scale, mask),
            self.score_function,
            scale_and_mask(self.entropy_term, scale, mask),
        )


def score_parts(node: dict[str, Any], log_prob: torch.Tensor) -> ScoreParts:
    """The parts of a site with this log-probability, not scaled and not masked.

    A distribution that has a `score_parts` of its own, as Pyro's have, is asked.
    """
    fn = node["fn"]
    if hasattr(fn, "score_parts"):
        return ScoreParts(*fn.score_parts(node["value"], *node["args"], **node["kwargs"]))
    if getattr(fn, "has_rsample", False):
        return ScoreParts(log_prob, 0, log_prob)
    return ScoreParts(log_prob, log_prob, 0)
