"""Every torch distribution under its own name."""

from __future__ import annotations

import inspect
import math
import pickle

import pytest
import torch
import torch.distributions as td

import contpoutine.distributions as dist
from contpoutine.distributions.torch_backed import names
from contpoutine.errors import DistributionError

EXAMPLES = {
    "Beta": (1.0, 2.0),
    "Binomial": (3, 0.3),
    "Cauchy": (0.0, 1.0),
    "Chi2": (2.0,),
    "ContinuousBernoulli": (0.3,),
    "Dirichlet": ([1.0, 2.0],),
    "Exponential": (1.5,),
    "FisherSnedecor": (1.0, 2.0),
    "Gamma": (1.0, 2.0),
    "Geometric": (0.3,),
    "Gumbel": (0.0, 1.0),
    "HalfCauchy": (1.0,),
    "HalfNormal": (1.0,),
    "Kumaraswamy": (1.0, 2.0),
    "LKJCholesky": (2, 1.0),
    "Laplace": (0.0, 1.0),
    "LogNormal": (0.0, 1.0),
    "LogisticNormal": ([0.0, 0.0], [1.0, 1.0]),
    "Multinomial": (3, [0.2, 0.8]),
    "MultivariateNormal": ([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]),
    "NegativeBinomial": (3.0, 0.3),
    "OneHotCategorical": ([0.2, 0.8],),
    "OneHotCategoricalStraightThrough": ([0.2, 0.8],),
    "Pareto": (1.0, 2.0),
    "Poisson": (2.0,),
    "RelaxedBernoulli": (0.5, 0.3),
    "RelaxedOneHotCategorical": (0.5, [0.2, 0.8]),
    "StudentT": (3.0,),
    "Uniform": (0.0, 2.0),
    "VonMises": (0.0, 1.0),
    "Weibull": (1.0, 2.0),
}


def make(space, name, args):
    if name.startswith("Relaxed"):
        args = (torch.tensor(args[0]), *args[1:])
    if space is td:
        args = [torch.tensor(a) if isinstance(a, list) else a for a in args]
    return getattr(space, name)(*args)


@pytest.mark.parametrize(("name", "args"), EXAMPLES.items(), ids=EXAMPLES)
def test_it_is_a_subclass_of_torchs_that_gives_the_same_numbers(name, args) -> None:
    mine, theirs = make(dist, name, args), make(td, name, args)
    assert isinstance(mine, getattr(td, name)) and type(mine).__name__ == name
    assert mine.batch_shape == theirs.batch_shape and mine.event_shape == theirs.event_shape
    value = theirs.sample()
    assert torch.equal(mine.log_prob(value), theirs.log_prob(value))
    wide = mine.expand([2])
    assert type(wide) is type(mine) and wide.batch_shape == (2,)
    assert wide.to_event(1).log_prob(wide.sample()).shape == ()
    assert mine.shape((3,)) == (3, *theirs.event_shape)
    assert mine.mask(False).log_prob(value).item() == 0.0
    again = pickle.loads(pickle.dumps(mine))
    assert type(again) is type(mine) and torch.equal(again.log_prob(value), mine.log_prob(value))


def test_every_name_of_torch_is_there() -> None:
    for name in td.__all__:
        assert getattr(dist, name) is not None
        assert name in dir(dist)
    concrete = {n for n in names() if isinstance(getattr(td, n, None), type)}
    assert {"Bernoulli", "Normal", "Multinomial", "GeneralizedPareto"} <= concrete
    assert dist.kl_divergence is td.kl_divergence and dist.constraints is td.constraints
    assert dist.Gamma is dist.Gamma
    assert dist.util.logsumexp(torch.zeros(2), dim=0).item() == pytest.approx(math.log(2))


def test_kl_divergence_works_between_ours() -> None:
    mine = dist.kl_divergence(dist.Bernoulli(0.3), dist.Bernoulli(0.5))
    theirs = td.kl_divergence(td.Bernoulli(0.3), td.Bernoulli(0.5))
    assert torch.equal(mine, theirs)
    assert td.kl_divergence(dist.Gamma(1.0, 1.0), td.Gamma(2.0, 1.0)).item() > 0


def test_transformed_distributions_and_mixtures_take_ours() -> None:
    warped = dist.TransformedDistribution(dist.Normal(0.0, 1.0), [td.ExpTransform()])
    expected = td.LogNormal(0.0, 1.0).log_prob(torch.tensor(2.0))
    assert torch.equal(warped.log_prob(torch.tensor(2.0)), expected)
    mixture = dist.MixtureSameFamily(
        dist.Categorical([0.5, 0.5]), dist.Normal(torch.tensor([0.0, 1.0]), 1.0)
    )
    assert mixture.log_prob(torch.tensor(0.5)).shape == ()


def test_the_signature_is_torchs() -> None:
    parameters = list(inspect.signature(dist.Gamma).parameters)
    assert parameters == ["concentration", "rate", "validate_args"]


def test_unknown_names_are_attribute_errors_that_suggest_near_ones() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'Bernoulli'"):
        _ = dist.Bernouli
    with pytest.raises(AttributeError, match="Did you mean 'UniformDraw'"):
        _ = dist.UniformDrawn
    with pytest.raises(AttributeError):
        _ = dist._private


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (lambda: dist.Exponential(-1.0), r"Exponential: the parameter 'rate'.*-1\.0"),
        (lambda: dist.Gamma(0.0, 1.0), "'concentration'"),
        (lambda: dist.Beta(math.nan, 1.0), "nan"),
        (lambda: dist.Poisson(torch.tensor([1.0, -1.0])), "'rate'"),
        (lambda: dist.Binomial(2.5, 0.5), "'total_count'"),
        (lambda: dist.Uniform(math.nan, 1.0, validate_args=True), "Uniform"),
        (lambda: dist.Geometric(), "Geometric: Either"),
        (lambda: dist.Bernoulli([0.3, 0.3]).to_event(2), r"to_event\(2\).*1 batch dim"),
        (lambda: dist.Independent(dist.Bernoulli(0.3), -1), "between 0 and 0"),
    ],
)
def test_bad_parameters_are_refused_by_name(bad, match) -> None:
    with pytest.raises(DistributionError, match=match):
        bad()


def test_valid_edges_are_accepted() -> None:
    assert dist.Geometric(1.0).probs.item() == 1.0
    assert dist.HalfNormal(math.inf).scale.item() == math.inf
    assert dist.Poisson(0.0).rate.item() == 0.0
    assert dist.Exponential(-1.0, validate_args=False).rate.item() == -1.0


def test_a_users_subclass_can_expand_if_it_has_no_constructor_of_its_own() -> None:
    class Waiting(dist.Exponential):
        pass

    assert type(Waiting(1.0).expand([2])) is Waiting


def test_calling_draws_with_gradients_where_torch_can() -> None:
    rate = torch.tensor(1.0, requires_grad=True)
    assert dist.Exponential(rate)().requires_grad
    assert dist.Poisson(2.0)((3,)).shape == (3,)


def test_masked_distributions_follow_their_base() -> None:
    base = dist.Normal(torch.zeros(2), 1.0)
    masked = base.mask(torch.tensor([True, False]))
    assert masked.has_rsample and not masked.has_enumerate_support
    assert torch.equal(masked.mean, base.mean) and torch.equal(masked.variance, base.variance)
    assert masked.expand([3, 2]).log_prob(torch.zeros(3, 2))[:, 1].tolist() == [0, 0, 0]
    assert masked().shape == (2,) and masked.sample((3,)).shape == (3, 2)
    assert repr(masked).startswith("Normal(") and ".mask(" in repr(masked)
    coins = dist.Bernoulli([0.5, 0.5]).mask(True)
    assert torch.equal(coins.enumerate_support(), td.Bernoulli(torch.ones(2)).enumerate_support())
    assert str(coins.support) == "Boolean()"


def test_an_empirical_distribution_adds_up_equal_samples() -> None:
    samples = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    d = dist.Empirical(samples, torch.tensor([1.0, 2.0, 1.0]).log())
    assert d.log_prob(samples).exp().tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert d.log_prob(torch.ones(2)).item() == -math.inf
    assert d.mean.tolist() == pytest.approx([0.5, 0.5])
    assert d.variance.tolist() == pytest.approx([0.25, 0.25])
    assert d.enumerate_support().shape == (2, 2) and d.sample().shape == (2,)
    assert d.sample((2, 3)).shape == (2, 3, 2)
    whole = dist.Empirical(torch.tensor([1, 2]), torch.zeros(2))
    assert whole.mean.item() == 1.5 and whole.sample().dtype == torch.int64
    assert whole.expand([]) is whole
    with pytest.raises(NotImplementedError):
        whole.expand([2])
    with pytest.raises(DistributionError, match=r"\(2, 2\) and \(3,\)"):
        dist.Empirical(torch.zeros(2, 2), torch.zeros(3))
    with pytest.raises(DistributionError, match="positive total"):
        dist.Empirical(torch.zeros(2), torch.full((2,), -math.inf))
