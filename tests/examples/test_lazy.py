"""Lazy evaluation: the example, and the law that laziness changes no answer."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from tests.capture.law import WORKING, strategy
from tests.examples.conftest import load

lazy = load("lazy")
force = lazy.force


@pytest.fixture(params=WORKING)
def capture(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test under each capture strategy."""
    with strategy(request.param):
        yield request.param


def test_it_prints_a_recipe_and_what_laziness_saves(printed):
    lines = printed("lazy").splitlines()
    assert lines == [
        "recipe:    normal(add(mul(~normal(8.5, 1.0), 0.8), 1.0), sigmoid(~normal(0.0, 0.25)))",
        "drawn:     weight, tolerance, measurement",
        "observed:  normal(add(mul(8.23, 0.8), 1.0), sigmoid(0.1))",
        f"log-joint: {log_joint_by_hand():.4f}",
        "eager: 8,190 branches, 2.904971 doors passed on average",
        "lazy: 24 branches, 2.904971 doors passed on average",
    ]
    mean = sum(0.75**i for i in range(1, 13))
    assert f"{mean:.6f}" == "2.904971"


def log_joint_by_hand():
    normal = torch.distributions.Normal
    spread = torch.sigmoid(torch.tensor(0.1))
    parts = [
        normal(8.5, 1.0).log_prob(torch.tensor(8.23)),
        normal(0.0, 0.25).log_prob(torch.tensor(0.1)),
        normal(8.23 * 0.8 + 1.0, spread).log_prob(torch.tensor(9.5)),
    ]
    return float(sum(parts))


def test_without_the_handler_the_model_is_eager():
    value = cp.run(lazy.biased_scale, 8.5)
    assert isinstance(value, torch.Tensor) and cp.run(force, value) is value


def test_a_recipe_is_followed_once():
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0))
        twice = yield lazy.add(x, x)
        total = yield force(twice)
        return total, (yield force(x)), (yield force(twice))

    with poutine.trace() as tr, lazy.LazyMessenger():
        total, x, again = cp.run(model)
    assert total == 2 * x and again is total
    assert tr.trace.stochastic_nodes == ["x"]


def test_conditioning_further_out_acts_where_the_value_is_needed():
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0))
        yield cp.sample("never looked at", dist.Normal(0.0, 1.0))
        return (yield force((yield lazy.mul(x, 2.0))))

    trace = poutine.trace(
        poutine.condition(lazy.LazyMessenger()(model), data={"x": 1.5})
    ).get_trace()
    assert trace.nodes["_RETURN"]["value"] == 3.0
    assert trace.observation_nodes == ["x"] and trace.stochastic_nodes == []


def drawn_model(seed):
    """A model of some flips, of which it looks at a few: drawn with a generator of its own."""

    def model():
        rng = random.Random(seed)
        flips = []
        for i in range(5):
            p = round(rng.uniform(0.1, 0.9), 2)
            if flips and rng.random() < 0.5:
                p = 0.9 if (yield force(rng.choice(flips))) else p
            flips.append((yield cp.sample(f"x{i}", dist.Flip(p))))
        seen = []
        for i in rng.sample(range(5), 2):
            seen.append((yield force(flips[i])))
        weight = 0.8 if seen[0] else 0.3
        yield cp.sample("y", dist.Flip(weight), obs=True)
        return tuple(seen)

    return model


@pytest.mark.parametrize("seed", range(12))
def test_laziness_changes_no_answer_and_never_adds_a_branch(capture, seed):
    model = drawn_model(seed)
    eager = cp.infer.enumerate(model, capture=capture)()
    found = cp.infer.enumerate(lazy.LazyMessenger()(model), capture=capture)()
    assert found.log_evidence == pytest.approx(eager.log_evidence)
    assert dict(found.marginal()) == pytest.approx(dict(eager.marginal()))
    assert found.branches <= eager.branches
