"""The gradient of a Monte Carlo ELBO, from the traces of a guide and of the model replayed on it.

Where a guide's draw carries gradients (`has_rsample`), they pass through the log-probabilities. A
draw that carries none gets the score-function estimator: the gradient of its log-probability times
the log-weight that depends on it (Williams 1992; Ranganath et al. 2014). Under vectorised plates
the log-weight is that of the same slice of the plate (Rao-Blackwellisation, Schulman et al. 2015).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from contpoutine.errors import BadWeightError
from contpoutine.infer.util import torch_item
from contpoutine.poutine.site_log_prob import is_plain, log_weight_of, site_log_prob

if TYPE_CHECKING:
    from contpoutine.poutine.trace_struct import Trace


Scored = list[tuple[Any, dict[str, Any]]]


def surrogate_elbo(model_trace: Trace, guide_trace: Trace) -> tuple[float, Any]:
    """The ELBO of one particle, and a tensor with its gradient (a float where there is none)."""
    model, guide = list(scored(model_trace)), list(scored(guide_trace))
    elbo = math.fsum([torch_item(score) for score, _ in model]) - math.fsum(
        [torch_item(score) for score, _ in guide]
    )
    surrogate: Any = sum([score for score, _ in model])
    weights: list[tuple[Any, Plates]] | None = None
    for score, node in guide:
        if not is_score(score, node):
            surrogate = surrogate - score
            continue
        if weights is None:
            weights = _log_weights(model, guide)
        log_prob = site_log_prob({**node, "scale": 1.0})[1]
        surrogate = surrogate + (log_prob * _slice(weights, plates(node))).sum()
    return elbo, surrogate


def scored(trace: Trace) -> Iterable[tuple[Any, dict[str, Any]]]:
    """The log-probability of each sample site, as a float or a 0-dim tensor, with its node.

    Raises:
        BadWeightError: it is NaN or infinite, and no gradient step could be made with it.
    """
    for name, node in trace.nodes.items():
        if node["type"] != "sample":
            continue
        if is_plain(node):
            score: Any = log_weight_of(node)
        else:
            node["unscaled_log_prob"], node["log_prob"] = site_log_prob(node)
            score = node["log_prob_sum"] = node["log_prob"].sum()
        if not math.isfinite(torch_item(score)):
            raise BadWeightError(
                f"the log-probability of site {name!r} is {torch_item(score)}: its value is "
                f"{node['value']!r} and its distribution {node['fn']!r}. No gradient was taken and "
                f"no parameter changed. Look for a value outside of the distribution's support, or "
                f"a parameter that has run off to infinity."
            )
        yield score, node


def is_score(score: Any, node: dict[str, Any]) -> bool:
    """Does this site of a guide need the score function: a draw whose gradients do not flow?"""
    return (
        not node["is_observed"]
        and getattr(score, "requires_grad", False)
        and not getattr(node["fn"], "has_rsample", False)
    )


Plates = frozenset[tuple[str, int]]


def plates(node: dict[str, Any]) -> Plates:
    """The vectorised plates around a site: names, and dimensions counted from the right."""
    frames = node["cond_indep_stack"]
    return frozenset((f.name, f.dim) for f in frames if getattr(f, "dim", None) is not None)


def _log_weights(model: Scored, guide: Scored) -> list[tuple[Any, Plates]]:
    """The terms of log p - log q, each with the plates that it lies in, without gradients."""
    terms = []
    for sign, scores in ((1.0, model), (-1.0, guide)):
        for score, node in scores:
            term = node["log_prob"].detach() if "log_prob" in node else score
            terms.append((sign * term, plates(node)))
    return terms


def _slice(weights: list[tuple[Any, Plates]], target: Plates) -> Any:
    """The log-weight, summed over everything but the plates of the target."""
    total: Any = 0.0
    for term, own in weights:
        if not isinstance(term, float):
            keep = {dim for _, dim in own & target}
            over = [dim for dim in range(-term.dim(), 0) if dim not in keep]
            term = term.sum(over, keepdim=True) if over else term
        total = total + term
    return total
