"""Log-probabilities of coins and categories in plain float arithmetic.

Torch computes them in the parameter's dtype, usually float32, and keeps probabilities away from 0
and 1 by a clamp, so that an impossible value gets the weight 1e-7 and is explored. Here they are
float64, computed from the exact value of the parameter, and impossible is minus infinity. What
cannot be a probability gives NaN, which the caller refuses with the site's name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_INF = math.inf


def coin_from_prob(p: float) -> tuple[float, float]:
    """log p(0), log p(1) of a coin with probability `p` of 1."""
    if 0.0 < p < 1.0:
        return math.log1p(-p), math.log(p)
    return (0.0, -_INF) if p == 0.0 else (-_INF, 0.0) if p == 1.0 else (math.nan, math.nan)


def coin_from_logit(logit: float) -> tuple[float, float]:
    """log p(0), log p(1) of a coin with log-odds `logit` of 1."""
    return -softplus(logit), -softplus(-logit)


def softplus(x: float) -> float:
    """log(1 + exp(x)), without overflow.

    >>> softplus(1000.0), round(softplus(0.0), 6)
    (1000.0, 0.693147)
    """
    if x > 0.0:
        return x + math.log1p(math.exp(-x))
    return math.log1p(math.exp(x))


def log_sum_exp(logs: Sequence[float]) -> float:
    """log of the sum of exp, without overflow; minus infinity for an empty or impossible sum.

    >>> round(log_sum_exp([math.log(0.25), math.log(0.5)]), 6)
    -0.287682
    """
    top = max(logs, default=-_INF)
    if not -_INF < top < _INF:
        return top
    return top + math.log(math.fsum([math.exp(x - top) for x in logs]))


def categories_from_probs(probs: Sequence[float]) -> tuple[float, ...]:
    """Normalised log-probabilities of categories with these non-negative weights."""
    total = math.fsum(probs)
    if not 0.0 < total < _INF or min(probs) < 0.0:
        return (math.nan,) * len(probs)
    shift = math.log(total) if total != 1.0 else 0.0
    return tuple([math.log(p) - shift if p > 0.0 else -_INF for p in probs])


def categories_from_logits(logits: Sequence[float]) -> tuple[float, ...]:
    """Normalised log-probabilities of categories with these log-weights."""
    total = log_sum_exp(logits)
    return tuple([x - total for x in logits])
