"""EnumELBO: the evidence lower bound with its discrete expectations computed, and not sampled.

Guide and model are enumerated by continuations, exactly as `infer.enumerate` does it. With `l` an
execution of the guide, the loss is minus

    sum_l q(l) (log sum_m p(x, m, l) - log q(l))

where `m` runs over the values of those discrete sites of the model that the guide does not draw.
Continuous sites of the guide are drawn once on each execution; `num_particles` averages over that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from contpoutine.core.model import start
from contpoutine.distributions.content import is_tensor
from contpoutine.errors import BadWeightError
from contpoutine.infer.elbo import ELBO
from contpoutine.infer.enumeration import enumerate as enumerate_executions
from contpoutine.infer.guide_values import check_all_used, impossible, needed_of, values_of
from contpoutine.infer.scored_sites import (
    CHOSEN,
    DRAWN,
    ScoredSite,
    Scorer,
    Scores,
    draw,
    refuse,
)
from contpoutine.infer.summed_out import log_evidence

if TYPE_CHECKING:
    import torch

    from contpoutine.infer.path_sums import Forest

Model = Callable[..., Any]


class EnumELBO(ELBO):
    """The ELBO with exact expectations over discrete sites.

    Every unobserved site with finite support is enumerated: in the guide, weighted by the guide; in
    the model, where the guide does not draw it, summed out. With a guide that draws nothing, the
    loss is minus the log-evidence of the model, as `infer.enumerate` computes it. Gradients flow to
    every parameter, in float64, and are those of the exact expectation.

    A site with `infer={"enumerate": None}` is drawn like a continuous one. Draws that carry no
    gradients get the score-function estimator. A value of probability exactly zero is not explored,
    so no gradient comes from it: keep learned probabilities inside (0, 1), by a constraint or by
    logits.

    Args:
        num_particles: how many times the whole is averaged; more than one matters only where
            something is drawn.
        merge: sum out on the graph of the model's states, as `infer.enumerate(merge=True)` does: a
            loop with a choice for each datum is then linear in the data. It can be differentiated
            once. The guide is still followed path by path.

    Raises:
        GuideMismatchError: the model leaves a site open that is neither drawn by the guide nor
            finite, or the guide draws what the model does not have.
        BadWeightError: the guide gives probability to what is impossible in the model.

    >>> import torch
    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> cp.clear_param_store()
    >>> def model():
    ...     p = yield cp.param("p", torch.tensor(0.25, dtype=torch.float64))
    ...     z = yield cp.sample("z", dist.Bernoulli(p))
    ...     yield cp.sample("y", dist.Flip(0.8 if z else 0.4), obs=True)
    >>> def guide():
    ...     return
    ...     yield
    >>> loss = EnumELBO().differentiable_loss(model, guide)
    >>> round(loss.exp().item(), 6)  # 1 / p(y)
    2.0
    >>> loss.backward()
    >>> cp.get_param_store()["p"].grad  # minus (0.8 - 0.4) / 0.5
    tensor(-0.8000, dtype=torch.float64)
    """

    def __init__(self, num_particles: int = 1, *, merge: bool = False) -> None:
        super().__init__(num_particles)
        self.merge = merge

    def particle(
        self, model: Model, guide: Model, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[float, Any]:
        guided = _executions(guide, args, kwargs, {}, draw)
        by = self._merged if self.merge else self._path_by_path
        return _elbo(guided, by(model, guide, args, kwargs, guided))

    def _path_by_path(
        self,
        model: Model,
        guide: Model,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        guided: list[Scores],
    ) -> torch.Tensor:
        """log p for each execution of the guide, from every execution of the model."""
        modelled: list[Scores] = []
        owner: list[int] = []
        for i, scores in enumerate(guided):
            values = values_of(guide, scores)
            found = _executions(model, args, kwargs, values, refuse)
            if not found:
                raise BadWeightError(impossible(model, values))
            check_all_used(model, guide, scores, found)
            modelled += found
            owner += [i] * len(found)
        return _log_p(modelled, owner, len(guided))

    def _merged(
        self,
        model: Model,
        guide: Model,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        guided: list[Scores],
    ) -> torch.Tensor:
        """The same from the graph of the model's states."""
        import torch

        terms = []
        for scores in guided:
            values = values_of(guide, scores)
            found = log_evidence(model, args, kwargs, values, len(needed_of(scores)))
            if found is None:
                raise BadWeightError(impossible(model, values))
            terms.append(found)
        return torch.stack(terms)


def _executions(
    model: Model,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    given: Mapping[str, Any],
    draw: Callable[[Any], Any],
) -> list[Scores]:
    """Every execution of positive weight, with what it was weighed by."""

    def scored(*args: Any, **kwargs: Any) -> Generator[Any, Any, Scores]:
        with Scorer(given, draw) as scorer:
            yield start(model, args, kwargs)
        return scorer.scores()

    found: list[Scores] = list(enumerate_executions(scored)(*args, **kwargs).tree.leaf_values)
    return found


def _log_p(modelled: list[Scores], owner: list[int], n: int) -> torch.Tensor:
    import torch

    forest, score = _scored(modelled)
    plain = torch.tensor([s.decided + s.chosen_scaled for s in modelled], dtype=torch.float64)
    return _log_sum_exp(forest.sums(score[:, None])[:, 0] + plain, torch.tensor(owner), n)


def _scored(executions: list[Scores]) -> tuple[Forest, torch.Tensor]:
    """The sites of some executions, each once, with their log-probabilities."""
    from contpoutine.infer.many_log_probs import log_probs
    from contpoutine.infer.path_sums import Forest

    forest = Forest([scores.newest for scores in executions])
    for site in forest.sites:
        site.check()
    return forest, log_probs(forest.sites)


def _elbo(guided: list[Scores], log_p: torch.Tensor) -> tuple[float, Any]:
    import torch

    forest, score = _scored(guided)
    sums = forest.sums(torch.stack(_columns(forest.sites, score), 1))
    plain = torch.tensor(
        [[s.chosen, s.decided + s.chosen_scaled] for s in guided], dtype=torch.float64
    )
    weight = (sums[:, 0] + plain[:, 0]).exp()
    log_q = sums[:, 1] + plain[:, 1]
    terms = weight * (log_p - log_q)
    _check_total(weight)
    elbo = terms.sum()
    # the score function of what was drawn without gradients, times what depends on it
    surrogate = elbo + (terms.detach() * sums[:, 2]).sum()
    if not math.isfinite(elbo.item()):
        raise BadWeightError(
            f"the ELBO is {elbo.item()}: a log-probability of the model or of the guide is not "
            f"finite. No parameter was changed."
        )
    return elbo.item(), surrogate


def _columns(sites: Sequence[ScoredSite], score: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """For the sites of a guide: what its choices are weighted by, its log-density (what is drawn
    without gradients held fixed), and the log-density of just that."""
    import torch

    def where(test: Callable[[ScoredSite], bool]) -> torch.Tensor:
        return torch.tensor([test(site) for site in sites], dtype=torch.bool)

    none = torch.zeros((), dtype=torch.float64)
    bare = _without_scale(sites, score)
    fixed = where(_is_fixed)
    return (
        torch.where(where(lambda site: site.how == CHOSEN), bare, none),
        torch.where(fixed, score.detach(), score),
        torch.where(fixed, bare, none),
    )


def _is_fixed(site: ScoredSite) -> bool:
    return site.how == DRAWN and not getattr(site.fn, "has_rsample", False)


def _without_scale(sites: Sequence[ScoredSite], score: torch.Tensor) -> torch.Tensor:
    """The scores as they are without the scales that plates and handlers have set."""
    import torch

    from contpoutine.infer.many_log_probs import log_probs

    scaled = [
        i
        for i, site in enumerate(sites)
        if site.mask is not None or is_tensor(site.scale) or site.scale != 1.0
    ]
    if not scaled:
        return score
    bare = log_probs([sites[i].unscaled() for i in scaled])
    return score.index_copy(0, torch.tensor(scaled), bare)


def _check_total(weight: torch.Tensor) -> None:
    total = weight.sum().item()
    if not abs(total - 1.0) < 1e-4:
        raise BadWeightError(
            f"the probabilities of the guide's executions add up to {total:.6g} instead of 1: some "
            f"of them were given up at weight zero, or a site's probabilities do not add up. A "
            f"guide observes nothing and has no factors."
        )


def _log_sum_exp(terms: torch.Tensor, owner: torch.Tensor, n: int) -> torch.Tensor:
    """For each of `n` owners, the logarithm of the sum of exp of its terms."""
    if len(terms) == n:
        return terms  # everybody has one
    top = terms.detach().new_full((n,), -math.inf).scatter_reduce(0, owner, terms.detach(), "amax")
    return top + terms.new_zeros(n).index_add(0, owner, (terms - top[owner]).exp()).log()
