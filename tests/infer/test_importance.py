"""Importance sampling: Pyro's weights under one seed, exact answers, and weights that say enough."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as pdist
import pyro.infer
import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.core.ambient import AMBIENT
from contpoutine.errors import (
    BadWeightError,
    BudgetError,
    GuideMismatchError,
    UnknownSiteError,
    ZeroEvidenceError,
)
from contpoutine.infer import importance


@pytest.fixture(autouse=True)
def clean_stack():
    torch.manual_seed(0)
    yield
    assert AMBIENT.get() == ()


def coins():
    a = yield cp.sample("a", dist.Bernoulli(0.3))
    b = yield cp.sample("b", dist.Bernoulli(0.2 + 0.5 * a))
    yield cp.sample("y", dist.Normal(a + 2 * b, 1.0), obs=1.5)
    return (a + b).item()


def coins_guide():
    a = yield cp.sample("a", dist.Bernoulli(0.6))
    yield cp.sample("b", dist.Bernoulli(0.4 + 0.3 * a))


@pytest.mark.parametrize("guide", [None, coins_guide])
def test_evidence_and_marginals_are_near_the_exact_ones(guide):
    exact = cp.infer.enumerate(coins)()
    samples = importance(coins, guide, num_samples=1000)()
    assert samples.log_evidence == pytest.approx(exact.log_evidence, abs=0.1)
    assert 0.0 < samples.log_evidence_error < 0.1
    for value, p in exact.marginal().items():
        assert samples.marginal()[value] == pytest.approx(p, abs=0.08)
    one = torch.tensor(1.0)
    assert samples.marginal("a")[one] == pytest.approx(exact.marginal("a")[one], abs=0.08)
    assert samples.expectation(float) == pytest.approx(exact.expectation(float), abs=0.1)


def test_a_guide_that_is_the_posterior_gives_equal_weights():
    exact = cp.infer.enumerate(coins)()
    table = {}
    for execution in exact.most_probable(4):
        table[execution["a"].item(), execution["b"].item()] = execution.probability

    def guide():
        both = {0.0: table[0.0, 0.0] + table[0.0, 1.0], 1.0: table[1.0, 0.0] + table[1.0, 1.0]}
        a = yield cp.sample("a", dist.Bernoulli(torch.tensor(both[1.0], dtype=torch.float64)))
        p = table[a.item(), 1.0] / both[a.item()]
        yield cp.sample("b", dist.Bernoulli(torch.tensor(p, dtype=torch.float64)))

    samples = importance(coins, guide, num_samples=50)()
    assert samples.log_weights == pytest.approx([exact.log_evidence] * 50, abs=1e-5)
    assert samples.effective_sample_size == pytest.approx(50, rel=1e-4)
    assert samples.log_evidence_error == pytest.approx(0.0, abs=1e-4)


def test_sites_that_the_guide_leaves_open_come_from_the_model():
    def guide():
        yield cp.sample("a", dist.Bernoulli(0.6))

    exact = cp.infer.enumerate(coins)()
    samples = importance(coins, guide, num_samples=1000)()
    assert samples.log_evidence == pytest.approx(exact.log_evidence, abs=0.1)


def test_the_weights_are_those_of_pyro_under_one_seed():
    def body(d, sample):
        x = yield sample("x", d.Normal(torch.tensor(0.0), torch.tensor(1.0)))
        yield sample("y", d.Normal(x, torch.tensor(0.5)), obs=torch.tensor(1.0))

    def guide_body(d, sample):
        yield sample("x", d.Normal(torch.tensor(0.7), torch.tensor(0.8)))

    def theirs(body):
        def model():
            run, value = body(pdist, pyro.sample), None
            while True:
                try:
                    value = run.send(value)
                except StopIteration as stop:
                    return stop.value

        return model

    torch.manual_seed(3)
    ours = importance(
        lambda: (yield from body(dist, cp.sample)),
        lambda: (yield from guide_body(dist, cp.sample)),
        num_samples=20,
    )()
    torch.manual_seed(3)
    pyros = pyro.infer.Importance(theirs(body), theirs(guide_body), num_samples=20).run()
    assert ours.log_weights == pytest.approx([float(w) for w in pyros.log_weights], abs=1e-5)
    assert ours.log_evidence == pytest.approx(float(pyros.get_log_normalizer()), abs=1e-5)
    assert ours.effective_sample_size == pytest.approx(float(pyros.get_ESS()), rel=1e-4)


def test_samples_are_drawn_by_weight():
    def model():
        a = yield cp.sample("a", dist.Flip(0.5))
        yield cp.sample("y", dist.Flip(1.0 if a else 0.0), obs=True)
        return a

    samples = importance(model, num_samples=40)()
    assert samples.marginal() == {True: 1.0}
    assert all(tr.nodes["a"]["value"] is True for tr in samples.sample(10))
    assert samples.sample().nodes["a"]["value"] is True
    assert samples.log_evidence == pytest.approx(math.log(0.5), abs=0.5)
    assert samples.effective_sample_size == sum(w == 0.0 for w in samples.log_weights)


def test_a_site_that_some_samples_do_not_visit_has_a_presence():
    def model():
        if (yield cp.sample("a", dist.Flip(0.5))):
            yield cp.sample("b", dist.Flip(0.5))

    samples = importance(model, num_samples=100)()
    marginal = samples.marginal("b")
    assert 0.2 < marginal.presence < 0.8
    assert marginal.presence == pytest.approx(samples.marginal("a")[True])


def test_the_repr_says_what_the_samples_are_worth():
    text = repr(importance(coins, coins_guide, num_samples=30)())
    assert "30 samples" in text and "effective sample size" in text and "log evidence" in text


# --- bad input ------------------------------------------------------------------------------


def impossible():
    yield cp.sample("a", dist.Flip(0.5))
    yield cp.factor("f", -math.inf)


def test_weights_that_are_all_zero_give_no_posterior():
    samples = importance(impossible, num_samples=5)()
    assert samples.log_evidence == -math.inf and "weight zero" in repr(samples)
    for ask in (samples.marginal, samples.sample, lambda: samples.expectation(float)):
        with pytest.raises(ZeroEvidenceError, match="all 5 samples have weight zero"):
            ask()


def test_a_weight_that_is_no_number_is_named():
    def model():
        yield cp.sample("x", dist.Normal(0.0, 1.0), obs=float("nan"))

    with pytest.raises(BadWeightError, match="site 'x'"):
        importance(model, num_samples=2)()


def test_a_guide_for_another_model_is_refused():
    def guide():
        yield cp.sample("ab", dist.Flip(0.5))

    with pytest.raises(GuideMismatchError, match="draws site 'ab'.*Did it mean 'a'"):
        importance(impossible, guide, num_samples=2)()

    def helped():
        yield cp.sample("u", dist.Flip(0.5), infer={"is_auxiliary": True})

    with pytest.raises(GuideMismatchError, match="auxiliary site 'u'"):
        importance(impossible, helped, num_samples=2)()


def test_an_unknown_site_is_named_with_a_near_one():
    samples = importance(coins, num_samples=3)()
    with pytest.raises(UnknownSiteError, match="'aa'.*Did you mean 'a'"):
        samples.marginal("aa")


def test_arguments_are_checked_at_once():
    with pytest.raises(TypeError, match="a model"):
        importance(coins())
    with pytest.raises(TypeError, match="a guide"):
        importance(coins, 3)
    with pytest.raises(BudgetError, match="num_samples"):
        importance(coins, num_samples=0)
