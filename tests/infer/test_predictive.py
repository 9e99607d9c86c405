"""Predictive: what the model draws for each sample of a posterior."""

from __future__ import annotations

import pyro
import pyro.distributions as pdist
import pyro.infer
import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.core.ambient import AMBIENT
from contpoutine.errors import AmbiguousSiteError, UnknownSiteError
from contpoutine.infer import Predictive


@pytest.fixture(autouse=True)
def clean():
    torch.manual_seed(0)
    cp.clear_param_store()
    yield
    cp.clear_param_store()
    assert AMBIENT.get() == ()


def line(x, y=None):
    slope = yield cp.sample("slope", dist.Normal(0.0, 1.0))
    scale = yield cp.sample("scale", dist.Gamma(2.0, 2.0))
    return (yield cp.sample("y", dist.Normal(slope * x, scale).to_event(1), obs=y))


X = torch.tensor([0.0, 1.0, 2.0])


def test_the_prior_predictive_gives_every_site():
    found = Predictive(line, num_samples=7)(X)
    assert {name: tuple(v.shape) for name, v in found.items()} == {
        "slope": (7,),
        "scale": (7,),
        "y": (7, 3),
    }


def test_given_sites_are_fixed_and_the_others_drawn():
    samples = {"slope": torch.tensor([-10.0, 10.0]), "scale": torch.full((2,), 1e-6)}
    found = Predictive(line, samples)(X)
    assert list(found) == ["y"]
    torch.testing.assert_close(found["y"], samples["slope"][:, None] * X, atol=1e-3, rtol=0)


def test_the_same_sites_and_shapes_as_in_pyro():
    def theirs(x, y=None):
        slope = pyro.sample("slope", pdist.Normal(0.0, 1.0))
        scale = pyro.sample("scale", pdist.Gamma(2.0, 2.0))
        return pyro.sample("y", pdist.Normal(slope * x, scale).to_event(1), obs=y)

    samples = {"slope": torch.arange(4.0), "scale": torch.full((4,), 1e-6)}
    for options in ({}, {"return_sites": ("y", "slope", "_RETURN")}):
        ours = Predictive(line, samples, **options)(X)
        pyros = pyro.infer.Predictive(theirs, samples, **options)(X)
        assert ours.keys() == pyros.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], pyros[name], atol=1e-3, rtol=0)


def test_a_guide_draws_the_samples():
    def guide(x, y=None):
        loc = yield cp.param("loc", 3.0)
        yield cp.sample("helps", dist.Flip(0.5), infer={"is_auxiliary": True})
        yield cp.sample("slope", dist.Normal(loc, 1e-6))
        yield cp.sample("scale", dist.Gamma(1e6, 1e8))

    found = Predictive(line, guide=guide, num_samples=5)(X)
    assert list(found) == ["slope", "scale", "y"]
    torch.testing.assert_close(found["slope"], torch.full((5,), 3.0), atol=1e-3, rtol=0)
    assert not any(value.requires_grad for value in found.values())


def test_an_enumerated_posterior_is_drawn_from():
    def model(seen=None):
        a = yield cp.sample("a", dist.Flip(0.5))
        yield cp.sample("b", dist.Bernoulli(torch.tensor([0.5, 0.5])).to_event(1))
        yield cp.sample("y", dist.Flip(1.0 if a else 0.0), obs=seen)
        yield cp.sample("z", dist.Flip(1.0 if a else 0.0))

    def seen():
        a = yield cp.sample("a", dist.Flip(0.5))
        yield cp.sample("b", dist.Bernoulli(torch.tensor([0.5, 0.5])).to_event(1))
        yield cp.sample("y", dist.Flip(1.0 if a else 0.0), obs=True)

    found = Predictive(model, cp.infer.enumerate(seen)(), num_samples=6)()
    assert list(found) == ["y", "z"]
    assert found["z"].tolist() == [True] * 6


def test_importance_samples_are_drawn_from():
    samples = cp.infer.importance(line, num_samples=20)(X, torch.zeros(3))
    found = Predictive(line, samples, num_samples=4)(X)
    assert list(found) == ["y"] and found["y"].shape == (4, 3)


def test_values_of_any_kind_make_lists():
    def model():
        kind = yield cp.sample("kind", dist.Finite({"cat": 1.0}))
        if (yield cp.sample("more", dist.Flip(0.5))):
            yield cp.sample("extra", dist.RandInt(3, 4))
        return kind

    found = Predictive(model, num_samples=20, return_sites=["kind", "extra", "_RETURN", "more"])()
    assert found["kind"] == found["_RETURN"] == ["cat"] * 20
    assert set(found["extra"]) == {None, 3}
    assert found["more"].dtype is torch.bool


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        ((line,), ValueError, "needs num_samples"),
        ((line, {"slope": torch.zeros(2), "scale": torch.zeros(3)}), ValueError, "differ"),
        ((line, {"slope": torch.zeros(2)}, None, 3), ValueError, "differ"),
        ((line, {"slope": torch.zeros(2)}, line), ValueError, "not both"),
        ((line, None, None, 0), ValueError, "num_samples is 1 or more"),
        ((line, 3, None, 2), TypeError, "posterior_samples is a dictionary"),
        ((3, None, None, 2), TypeError, "a model"),
        ((line, None, None, 2, "y"), TypeError, "list of names"),
    ],
)
def test_arguments_are_checked_at_once(arguments, kind, says):
    with pytest.raises(kind, match=says):
        Predictive(*arguments)


def test_an_unknown_site_is_named_with_a_near_one():
    with pytest.raises(UnknownSiteError, match="'slpe'.*Did you mean 'slope'"):
        Predictive(line, num_samples=2, return_sites=["slpe"])(X)


def test_a_site_that_occurs_twice_cannot_be_given_by_name():
    def model():
        for _ in range(2):
            yield cp.sample("a", dist.Flip(0.5))

    with pytest.raises(AmbiguousSiteError, match="site 'a' occurs more than once"):
        Predictive(model, cp.infer.enumerate(model)(), num_samples=2)()
