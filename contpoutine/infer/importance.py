"""Importance sampling: executions drawn from a guide, weighted by the model.

A sample's weight is what the model says of it over what proposed it. Sites that the guide leaves
open are drawn by the model itself, and so cancel out of the weight. The mean weight estimates the
evidence without bias (Kahn and Marshall 1953); how much the weights differ is what the effective
sample size says (Kong 1992).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from contpoutine.core.model import describe
from contpoutine.distributions.exact import log_sum_exp
from contpoutine.errors import (
    BadWeightError,
    BudgetError,
    GuideMismatchError,
    UnknownSiteError,
    ZeroEvidenceError,
)
from contpoutine.infer import showing
from contpoutine.infer.answers import grouped
from contpoutine.infer.execution import unknown
from contpoutine.infer.guided import check_match, latent, replayed_trace
from contpoutine.infer.marginal import Marginal
from contpoutine.infer.util import torch_item
from contpoutine.poutine.handlers import trace
from contpoutine.poutine.site_log_prob import is_plain, log_weight_of, site_log_prob
from contpoutine.poutine.trace_struct import Trace
from contpoutine.poutine.util import site_is_subsample

Model = Callable[..., Any]


def importance(
    model: Model, guide: Model | None = None, *, num_samples: int = 1000
) -> Callable[..., ImportanceSamples]:
    """A function that takes the model's arguments and gives `ImportanceSamples`.

    Args:
        guide: a generator model that proposes values for unobserved sites. Sites that it does not
            draw come from the model; without a guide, all of them do (likelihood weighting).
        num_samples: how many executions are drawn.

    Raises:
        TypeError: model or guide is nothing that can be called.
        BudgetError: `num_samples` is no positive whole number.
        GuideMismatchError: the guide draws a site that the model does not have.
        BadWeightError: a weight is NaN, or plus infinity.

    >>> import torch
    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> _ = torch.manual_seed(0)
    >>> def model():
    ...     x = yield cp.sample("x", dist.Normal(0.0, 1.0))
    ...     yield cp.sample("y", dist.Normal(x, 1.0), obs=2.0)
    ...     return x
    >>> def guide():
    ...     yield cp.sample("x", dist.Normal(1.0, 0.8))
    >>> samples = importance(model, guide, num_samples=500)()
    >>> abs(samples.log_evidence - -2.2655) < 0.05, abs(samples.marginal("x").mean - 1.0) < 0.1
    (True, True)
    """
    _check("a model", model)
    if guide is not None:
        _check("a guide", guide)
    if type(num_samples) is not int or num_samples < 1:
        raise BudgetError(f"num_samples must be a number of samples, not {num_samples!r}")

    def infer(*args: Any, **kwargs: Any) -> ImportanceSamples:
        import torch

        with torch.no_grad():
            drawn = [_weighted(model, guide, args, kwargs) for _ in range(num_samples)]
        return ImportanceSamples([found for found, _ in drawn], [weight for _, weight in drawn])

    return infer


def _check(what: str, given: Any) -> None:
    if not callable(given):
        raise TypeError(
            f"infer.importance needs {what}, a generator function, not {given!r}; the model's "
            f"arguments come afterwards: infer.importance(model, guide)(*args)"
        )


def _weighted(
    model: Model, guide: Model | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Trace, float]:
    if guide is None:
        found = trace(model).get_trace(*args, **kwargs)
        return found, _log_prob(found, lambda name, node: node["is_observed"])
    proposed = trace(guide).get_trace(*args, **kwargs)
    found = replayed_trace(model, proposed, args, kwargs)
    check_match(model, guide, (), latent(proposed), set(found.nodes))
    for name, node in proposed.iter_stochastic_nodes():
        if node["infer"].get("is_auxiliary"):
            raise GuideMismatchError(
                f"the guide {describe(guide)} draws the auxiliary site {name!r}: the weights of "
                f"importance sampling cannot be computed without the density that it is summed out "
                f"with. Take it out of the guide, or use a guide without auxiliary sites."
            )
    weight = _log_prob(found, lambda name, node: node["is_observed"] or name in proposed)
    return found, weight - _log_prob(proposed, lambda name, node: True)


def _log_prob(found: Trace, counts: Callable[[str, dict[str, Any]], bool]) -> float:
    total = []
    for name, node in found.nodes.items():
        if node["type"] != "sample" or site_is_subsample(node) or not counts(name, node):
            continue
        plain = is_plain(node)
        score = log_weight_of(node) if plain else torch_item(site_log_prob(node)[1].double().sum())
        if math.isnan(score) or score == math.inf:
            raise BadWeightError(
                f"the log-probability of site {name!r} is {score}: its value is {node['value']!r} "
                f"and its distribution {node['fn']!r}"
            )
        total.append(score)
    return math.fsum(total)


class ImportanceSamples:
    """Executions of a model with their weights; `infer.importance(model, guide)(*args)` makes it.

    Attributes:
        traces: the execution of each sample.
        log_weights: its log-weight, natural logarithm; they are not normalised.
    """

    def __init__(self, traces: Sequence[Trace], log_weights: Sequence[float]) -> None:
        self.traces, self.log_weights = tuple(traces), tuple(log_weights)
        self._top = max(self.log_weights)

    def __len__(self) -> int:
        return len(self.traces)

    @property
    def log_evidence(self) -> float:
        """An estimate of the natural logarithm of the probability of what was observed."""
        return log_sum_exp(self.log_weights) - math.log(len(self))

    @property
    def log_evidence_error(self) -> float:
        """The standard error of `log_evidence`, to first order: about 1 where it means nothing."""
        weights = self._weights
        mean = math.fsum(weights) / len(weights)
        spread = math.fsum([(w - mean) ** 2 for w in weights]) / max(len(weights) - 1, 1)
        return math.sqrt(spread / len(weights)) / mean

    @property
    def effective_sample_size(self) -> float:
        """How many samples of equal weight are worth these: between 1 and their number."""
        weights = self._weights
        return math.fsum(weights) ** 2 / math.fsum([w * w for w in weights])

    @cached_property
    def _weights(self) -> list[float]:
        """Weights relative to the heaviest. Raises `ZeroEvidenceError` where all are zero."""
        if self._top == -math.inf:
            raise ZeroEvidenceError(
                f"all {len(self)} samples have weight zero: none agrees with what is observed. "
                f"Propose values that do, by a guide, or draw more samples."
            )
        return [math.exp(weight - self._top) for weight in self.log_weights]

    def marginal(self, site: str | None = None) -> Marginal:
        """The weighted samples of a site's value, or of the return value, as a distribution.

        Of a site that some samples do not visit, the probabilities add up to that of visiting it.

        Raises:
            UnknownSiteError: no sample has that site.
            ZeroEvidenceError: every sample has weight zero.
        """
        name = "_RETURN" if site is None else site
        total = math.fsum(self._weights)
        held = [
            (found.nodes[name]["value"], weight)
            for found, weight in zip(self.traces, self._weights, strict=True)
            if name in found.nodes
        ]
        if not held or name == "_INPUT":
            known = dict.fromkeys(
                name
                for found in self.traces
                for name, node in found.nodes.items()
                if node["type"] == "sample"
            )
            raise UnknownSiteError(unknown(str(site), known, "any sample"))
        values, weights = zip(*held, strict=True)
        pairs = [(value, mass / total) for value, mass in grouped(values, weights)]
        presence = min(1.0, math.fsum(weights) / total)
        return Marginal(pairs, name=site, presence=presence, exact=False)

    def expectation(self, f: Callable[[Any], Any]) -> Any:
        """The weighted mean of `f(value)`, where `value` is what the model returned.

        Raises:
            ZeroEvidenceError: every sample has weight zero.
        """
        total = math.fsum(self._weights)
        terms = [
            f(found.nodes["_RETURN"]["value"]) * (weight / total)
            for found, weight in zip(self.traces, self._weights, strict=True)
            if weight > 0.0
        ]
        return sum(terms[1:], start=terms[0])

    def sample(self, n: int | None = None) -> Any:
        """One trace, or a list of `n`, drawn by weight with Python's `random`."""
        drawn = random.choices(self.traces, self._weights, k=1 if n is None else n)
        return drawn[0] if n is None else drawn

    def __repr__(self) -> str:
        if self._top == -math.inf:
            return f"ImportanceSamples: {len(self)} samples, all of weight zero"
        sites = Counter(name for found in self.traces for name in found.stochastic_nodes)
        rows = [
            [
                "  log evidence",
                f"{showing.log_number(self.log_evidence)} ± {self.log_evidence_error:.2g}",
            ],
            ["  effective sample size", f"{self.effective_sample_size:.1f}"],
            ["  sites", ", ".join(list(sites)[:8])],
        ]
        return "\n".join([f"ImportanceSamples: {len(self)} samples", *showing.columns(rows)])
