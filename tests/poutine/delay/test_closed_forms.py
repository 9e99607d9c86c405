"""Evidence and posteriors of delayed models, held against closed forms and brute force."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine


def log_beta(*counts):
    return math.fsum(map(math.lgamma, counts)) - math.lgamma(sum(counts))


def evidence(model, *args):
    """The log-probability of all that a delayed run observes."""
    trace = poutine.trace(poutine.delayed(model)).get_trace(*args)
    return float(trace.log_prob_sum())


# --- chains without choices -------------------------------------------------------------------


@pytest.mark.parametrize("coin", [dist.Flip, dist.Bernoulli])
def test_beta_and_coins(coin):
    def model(falls):
        p = yield cp.sample("p", dist.Beta(2.0, 3.0))
        for i, heads in enumerate(falls):
            yield cp.sample(f"fall{i}", coin(p), obs=heads)
        return (yield poutine.posterior(p))

    falls = [1.0, 0.0, 1.0, 1.0]
    expected = log_beta(2 + 3, 3 + 1) - log_beta(2, 3)
    assert evidence(model, falls) == pytest.approx(expected, abs=1e-12)
    posterior = cp.run(poutine.delayed(model), falls)
    assert (posterior.concentration1, posterior.concentration0) == (5.0, 4.0)


def test_a_turned_coin():
    def model():
        p = yield cp.sample("p", dist.Beta(2.0, 3.0))
        yield cp.sample("tails", dist.Flip(1 - p), obs=True)
        return (yield poutine.posterior(p)), (yield poutine.posterior(1 - p))

    assert evidence(model) == pytest.approx(math.log(3 / 5), abs=1e-12)
    p, turned = cp.run(poutine.delayed(model))
    assert (p.concentration1, p.concentration0) == (2.0, 4.0)
    assert (turned.concentration1, turned.concentration0) == (4.0, 2.0)


def test_gamma_and_counts():
    def model(counts):
        rate = yield cp.sample("rate", dist.Gamma(2.0, 0.5))
        for i, (hours, count) in enumerate(counts):
            yield cp.sample(f"count{i}", dist.Poisson(hours * rate), obs=count)
        return (yield poutine.posterior(rate)), (yield poutine.posterior(3 * rate))

    counts = [(1.0, 3), (2.0, 5), (0.5, torch.tensor(0.0))]
    shape, rate = 2.0 + 8, 0.5 + 3.5
    expected = math.lgamma(shape) - math.lgamma(2.0) + 2.0 * math.log(0.5)
    expected -= shape * math.log(rate)
    expected += sum(c * math.log(h) - math.lgamma(c + 1) for h, c in [(1, 3), (2, 5)])
    assert evidence(model, counts) == pytest.approx(expected, abs=1e-12)
    posterior, tripled = cp.run(poutine.delayed(model), counts)
    assert (posterior.concentration, posterior.rate) == (shape, rate)
    assert float(tripled.mean) == pytest.approx(3 * shape / rate)


def test_dirichlet_and_categories():
    def model(values):
        theta = yield cp.sample("theta", dist.Dirichlet([1.0, 2.0, 0.5]))
        for i, value in enumerate(values):
            yield cp.sample(f"z{i}", dist.Categorical(theta), obs=value)
        return (yield poutine.posterior(theta))

    values = [0, 2, 2, torch.tensor(1), 2]
    expected = log_beta(2.0, 3.0, 3.5) - log_beta(1.0, 2.0, 0.5)
    assert evidence(model, values) == pytest.approx(expected, abs=1e-12)
    posterior = cp.run(poutine.delayed(model), values)
    assert posterior.concentration.tolist() == [2.0, 3.0, 3.5]


def test_a_normal_chain_is_the_kalman_filter():
    def model(ys):
        x = yield cp.sample("x0", dist.Normal(0.5, 2.0))
        for i, y in enumerate(ys):
            yield cp.sample(f"y{i}", dist.Normal(2 * x - 1, 0.5), obs=y)
            x = yield cp.sample(f"x{i + 1}", dist.Normal(0.9 * x + 0.1, 0.3))
        return (yield poutine.posterior(x))

    ys = [0.3, 0.1, -0.2, 0.4, 1.0]
    mean, variance, expected = 0.5, 4.0, 0.0
    for y in ys:
        predicted, spread = 2 * mean - 1, 4 * variance + 0.25
        expected += -0.5 * (y - predicted) ** 2 / spread - 0.5 * math.log(2 * math.pi * spread)
        gain = 2 * variance / spread
        mean, variance = mean + gain * (y - predicted), variance - gain * 2 * variance
        mean, variance = 0.9 * mean + 0.1, 0.81 * variance + 0.09
    assert evidence(model, ys) == pytest.approx(expected, abs=1e-12)
    posterior = cp.run(poutine.delayed(model), ys)
    assert float(posterior.loc) == pytest.approx(mean, abs=1e-6)
    assert float(posterior.scale) == pytest.approx(variance**0.5, abs=1e-6)


def test_earlier_states_learn_from_later_observations():
    """What one path of marginalised nodes could not do without sampling: smoothing, exactly."""

    def model(ys):
        x = first = yield cp.sample("x0", dist.Normal(0.0, 1.0))
        for i, y in enumerate(ys):
            x = yield cp.sample(f"x{i + 1}", dist.Normal(x, 1.0))
            yield cp.sample(f"y{i}", dist.Normal(x, 1.0), obs=y)
        return (yield poutine.posterior(first))

    ys = [1.0, 2.0, 3.0]
    # cov(x0, y_i) = 1; cov(y_i, y_j) = 2 + min(i, j) + [i = j]
    cov = torch.tensor([[3.0, 2.0, 2.0], [2.0, 4.0, 3.0], [2.0, 3.0, 5.0]], dtype=torch.float64)
    gain = torch.linalg.solve(cov, torch.ones(3, dtype=torch.float64))
    posterior = cp.run(poutine.delayed(model), ys)
    assert float(posterior.loc) == pytest.approx(float(gain @ torch.tensor(ys).double()), abs=1e-6)
    assert float(posterior.scale**2) == pytest.approx(float(1 - gain.sum()), abs=1e-6)


def test_bayesian_linear_regression_in_closed_form():
    def model(points):
        slope = yield cp.sample("slope", dist.Normal(0.0, 2.0))
        offset = yield cp.sample("offset", dist.Normal(1.0, 3.0))
        for i, (x, y) in enumerate(points):
            yield cp.sample(f"y{i}", dist.Normal(slope * x + offset, 0.5), obs=y)
        return (yield poutine.posterior(slope)), (yield poutine.posterior(slope - 2 * offset))

    points = [(-1.0, 0.2), (0.0, 1.1), (1.0, 1.7), (2.5, 3.9)]
    design = torch.tensor([[x, 1.0] for x, _ in points], dtype=torch.float64)
    y = torch.tensor([y for _, y in points], dtype=torch.float64)
    prior_mean = torch.tensor([0.0, 1.0], dtype=torch.float64)
    prior = torch.diag(torch.tensor([4.0, 9.0], dtype=torch.float64))
    marginal = torch.distributions.MultivariateNormal(
        design @ prior_mean, design @ prior @ design.T + 0.25 * torch.eye(4, dtype=torch.float64)
    )
    assert evidence(model, points) == pytest.approx(float(marginal.log_prob(y)), abs=1e-9)
    precision = torch.linalg.inv(prior) + design.T @ design / 0.25
    cov = torch.linalg.inv(precision)
    mean = cov @ (torch.linalg.inv(prior) @ prior_mean + design.T @ y / 0.25)
    slope, difference = cp.run(poutine.delayed(model), points)
    assert float(slope.loc) == pytest.approx(float(mean[0]), abs=1e-6)
    assert float(slope.scale) == pytest.approx(float(cov[0, 0].sqrt()), abs=1e-6)
    weights = torch.tensor([1.0, -2.0], dtype=torch.float64)
    assert float(difference.loc) == pytest.approx(float(weights @ mean), abs=1e-6)
    assert float(difference.scale**2) == pytest.approx(float(weights @ cov @ weights), abs=1e-5)


def test_many_values_at_one_site():
    def model(data):
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        yield cp.sample("x", dist.Normal(mu, 0.5), obs=data)
        return (yield poutine.posterior(mu))

    data = torch.tensor([[0.3, 1.2], [0.9, 0.7]], dtype=torch.float64)
    cov = torch.ones(4, 4, dtype=torch.float64) + 0.25 * torch.eye(4, dtype=torch.float64)
    joint = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), cov)
    expected = float(joint.log_prob(data.reshape(-1)))
    assert evidence(model, data) == pytest.approx(expected, abs=1e-9)
    exact = cp.infer.enumerate(poutine.delayed(model))(data)
    assert exact.log_evidence == pytest.approx(expected, abs=1e-9)
    posterior = cp.run(poutine.delayed(model), data)
    assert float(posterior.loc) == pytest.approx(float(data.sum()) / 0.25 / (1 + 16), abs=1e-6)


def test_gradients_reach_the_hyperparameters():
    """Empirical Bayes: the evidence is differentiable in what the priors were given."""

    def model(loc, scale, ones, shape):
        mu = yield cp.sample("mu", dist.Normal(loc, scale))
        yield cp.sample("x", dist.Normal(2 * mu, 1.0), obs=3.0)
        p = yield cp.sample("p", dist.Beta(ones, 2.0))
        yield cp.sample("heads", dist.Bernoulli(p), obs=1.0)
        rate = yield cp.sample("rate", dist.Gamma(shape, 1.0))
        yield cp.sample("count", dist.Poisson(rate), obs=2.0)

    given = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.5, 1.5, 3.0, 2.0)]
    trace = poutine.trace(poutine.delayed(model)).get_trace(*given)
    found = torch.autograd.grad(trace.log_prob_sum(), given)

    def by_hand(loc, scale, ones, shape):
        normal = torch.distributions.Normal(2 * loc, (4 * scale**2 + 1) ** 0.5)
        total = normal.log_prob(torch.tensor(3.0, dtype=torch.float64))
        total = total + (ones / (ones + 2)).log()
        counted = torch.lgamma(shape + 2) - torch.lgamma(shape) - (shape + 2) * math.log(2.0)
        return total + counted - math.lgamma(3.0)

    value = trace.log_prob_sum().item()
    assert value == pytest.approx(by_hand(*given).item(), abs=1e-12)
    expected = torch.autograd.grad(by_hand(*given), given)
    for one, other in zip(found, expected):
        assert float(one) == pytest.approx(float(other), abs=1e-9)


# --- with choices, enumerated -----------------------------------------------------------------


def test_polyas_urn_is_enumerated_exactly(capture):
    def model(n):
        p = yield cp.sample("p", dist.Beta(1.0, 2.0))
        heads = 0
        for i in range(n):
            heads += yield cp.sample(f"fall{i}", dist.Flip(p))
        return heads

    found = cp.infer.enumerate(poutine.delayed(model), capture=capture)(5).marginal()
    for heads in range(6):
        log_p = log_beta(1 + heads, 2 + 5 - heads) - log_beta(1, 2)
        assert found[heads] == pytest.approx(math.comb(5, heads) * math.exp(log_p))


def test_a_mixture_with_everything_integrated_out(capture):
    data = [-1.2, -0.8, 2.1, 1.9]

    def model():
        theta = yield cp.sample("theta", dist.Dirichlet([1.0, 1.0]))
        mu = []
        for k in range(2):
            mu.append((yield cp.sample(f"mu{k}", dist.Normal(0.0, 3.0))))
        zs = []
        for i, x in enumerate(data):
            z = int((yield cp.sample(f"z{i}", dist.Categorical(theta))))
            yield cp.sample(f"x{i}", dist.Normal(mu[z], 0.5), obs=x)
            zs.append(z)
        return tuple(zs)

    weights = {}
    for zs in itertools.product((0, 1), repeat=4):
        counts = Counter(zs)
        belongs = torch.tensor([[1.0 - z, z] for z in zs], dtype=torch.float64)
        cov = 9.0 * belongs @ belongs.T + 0.25 * torch.eye(4, dtype=torch.float64)
        normal = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), cov)
        log_weight = log_beta(1.0 + counts[0], 1.0 + counts[1]) - log_beta(1.0, 1.0)
        log_weight += float(normal.log_prob(torch.tensor(data, dtype=torch.float64)))
        weights[zs] = math.exp(log_weight)
    total = sum(weights.values())
    posterior = cp.infer.enumerate(poutine.delayed(model), capture=capture)()
    assert posterior.log_evidence == pytest.approx(math.log(total), abs=1e-9)
    for zs, weight in weights.items():
        assert posterior.marginal()[zs] == pytest.approx(weight / total, abs=1e-9)


def test_a_hidden_markov_model_that_learns_its_transitions(capture):
    seen = [0, 1, 1, 0]

    def model():
        rows = []
        for k in range(2):
            rows.append((yield cp.sample(f"row{k}", dist.Dirichlet([2.0, 1.0]))))
        z, path = 0, []
        for i, y in enumerate(seen):
            z = int((yield cp.sample(f"z{i}", dist.Categorical(rows[z]))))
            yield cp.sample(f"y{i}", dist.Flip(0.8 if z else 0.3), obs=bool(y))
            path.append(z)
        return tuple(path)

    posterior = cp.infer.enumerate(poutine.delayed(model), capture=capture)()
    weights = {}
    for path in itertools.product((0, 1), repeat=len(seen)):
        log_weight, z = 0.0, 0
        counts = [[2.0, 1.0], [2.0, 1.0]]
        for after, y in zip(path, seen):
            log_weight += math.log(counts[z][after] / sum(counts[z]))
            counts[z][after] += 1
            p = 0.8 if after else 0.3
            log_weight += math.log(p if y else 1 - p)
            z = after
        weights[path] = math.exp(log_weight)
    total = sum(weights.values())
    assert posterior.log_evidence == pytest.approx(math.log(total), abs=1e-12)
    for path, weight in weights.items():
        assert posterior.marginal()[path] == pytest.approx(weight / total)


def test_posteriors_of_delayed_values_average_over_the_branches(capture):
    """A posterior query in each branch, and the law of total expectation over them."""

    def model():
        outlier = yield cp.sample("outlier", dist.Flip(0.1))
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        yield cp.sample("x", dist.Normal(mu, 5.0 if outlier else 0.5), obs=2.0)
        return float((yield poutine.posterior(mu)).loc)

    posterior = cp.infer.enumerate(poutine.delayed(model), capture=capture)()
    mean = sum(loc * p for loc, p in posterior.marginal().items())
    grid = torch.linspace(-8.0, 8.0, 20001, dtype=torch.float64)
    normal = torch.distributions.Normal
    likelihood = 0.1 * normal(grid, 5.0).log_prob(torch.tensor(2.0)).exp()
    likelihood = likelihood + 0.9 * normal(grid, 0.5).log_prob(torch.tensor(2.0)).exp()
    weights = normal(0.0, 1.0).log_prob(grid).exp() * likelihood
    assert mean == pytest.approx(float((weights * grid).sum() / weights.sum()), abs=1e-6)
    evidence = float(weights.sum() * (grid[1] - grid[0]))
    assert posterior.log_evidence == pytest.approx(math.log(evidence), abs=1e-6)
