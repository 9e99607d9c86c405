"""The engine's questions: one call a visit, total mass 1, and every refusal names the site."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.distributions as td

import contpoutine.distributions as dist
from contpoutine.distributions.choices import (
    Choices,
    ElementChoices,
    check_distribution,
    choices,
    draw,
    has_finite_support,
    log_weight,
)
from contpoutine.errors import (
    BadWeightError,
    DistributionError,
    EmptySupportError,
    NotEnumerableError,
    OutsideSupportError,
)


class Dial(td.Distribution):
    """A user's own: 0 ... n - 1 with weights proportional to 1 ... n; it counts its calls."""

    arg_constraints = {}
    support = td.constraints.nonnegative_integer
    has_enumerate_support = True

    def __init__(self, n, batch_shape=()):
        self.n, self.calls = n, 0
        super().__init__(torch.Size(batch_shape))

    def log_prob(self, value):
        self.calls += 1
        return ((value + 1) / (self.n * (self.n + 1) / 2)).log()

    def enumerate_support(self, expand=True):
        values = torch.arange(self.n).reshape(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values

    def sample(self, sample_shape=()):
        return torch.zeros(torch.Size(sample_shape) + self.batch_shape, dtype=torch.long)


def mass(answer) -> float:
    """Total probability of every assignment of the site."""
    elements = [answer] if isinstance(answer, Choices) else answer.elements
    rows = [element.log_probs for element in elements]
    return math.fsum(math.exp(sum(row)) for row in itertools.product(*rows))


@pytest.mark.parametrize(
    "fn",
    [
        dist.Flip(0.3),
        dist.Finite({"a": 0.25, "b": 0.75}),
        dist.Bernoulli(0.3),
        dist.Bernoulli(logits=-0.3),
        dist.Bernoulli(torch.tensor([0.3, 0.3, 0.3])),
        dist.Bernoulli([0.3, 0.3, 0.3]),
        dist.Bernoulli(torch.full((2, 2), 0.3)).to_event(1),
        dist.Bernoulli(torch.full((2, 2), 0.3)).to_event(),
        dist.Bernoulli(0.3).expand([3]),
        dist.Bernoulli(0.3).expand([3]).to_event(1),
        dist.Categorical([0.2, 0.3, 0.5]),
        dist.Categorical(torch.rand(2, 3) + 0.1),
        dist.Categorical(logits=torch.randn(2, 3)).to_event(1),
        dist.OneHotCategorical(torch.tensor([0.2, 0.8])),
        dist.OneHotCategorical(torch.tensor([[0.2, 0.8], [0.5, 0.5]])),
        dist.OneHotCategorical(torch.tensor([[0.2, 0.8], [0.5, 0.5]])).to_event(1),
        dist.Binomial(3, 0.3),
        dist.Binomial(torch.tensor([2, 2]), torch.tensor([0.3, 0.4])),
        td.Bernoulli(0.3),
        td.Bernoulli(torch.tensor([0.0, 1.0, 0.3])),
        td.Independent(td.Bernoulli(torch.tensor([0.3, 0.6])), 1),
        td.Categorical(torch.tensor([0.2, 0.8])),
        Dial(4),
        Dial(3, (2,)),
        td.Independent(Dial(3, (2, 2)), 2),
    ],
    ids=repr,
)
def test_the_total_mass_is_one_and_every_value_weighs_what_its_choice_does(fn) -> None:
    answer = choices(fn, "x")
    assert mass(answer) == pytest.approx(1.0, abs=1e-6)
    assert has_finite_support(fn)
    if isinstance(answer, Choices):
        assert all(type(x) is float for x in answer.log_probs)
        for value, log_prob in zip(*answer, strict=True):
            assert log_weight(fn, value, "x") == pytest.approx(log_prob, abs=1e-6)
        return
    shape = fn.batch_shape + fn.event_shape
    assert len(answer.elements) * answer.elements[0].values[0].numel() == shape.numel()
    for picks in itertools.product(*[range(len(e.values)) for e in answer.elements]):
        pairs = list(zip(answer.elements, picks, strict=True))
        value = answer.assemble([e.values[i] for e, i in pairs])
        assert value.shape == shape
        expected = sum(e.log_probs[i] for e, i in pairs)
        assert log_weight(fn, value, "x") == pytest.approx(expected, abs=1e-6)


def test_elements_come_in_row_major_order() -> None:
    probs = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    for fn in (dist.Bernoulli(probs), dist.Bernoulli(probs).to_event(1), td.Bernoulli(probs)):
        answer = choices(fn, "x")
        assert isinstance(answer, ElementChoices)
        ones = [math.exp(e.log_probs[1]) for e in answer.elements]
        assert ones == pytest.approx([0.1, 0.2, 0.3, 0.4])
        picked = [answer.elements[i].values[b] for i, b in enumerate([1, 0, 0, 1])]
        assert answer.assemble(picked).tolist() == [[1, 0], [0, 1]]


def test_an_empty_batch_is_one_empty_tensor() -> None:
    answer = choices(dist.Bernoulli(torch.empty(0)), "x")
    assert answer.elements == [] and answer.assemble([]).shape == (0,)
    assert choices(Dial(3, (0,)), "x").elements == []


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_one_log_prob_call_a_visit(batch) -> None:
    fn = Dial(4, batch)
    choices(fn, "x")
    assert fn.calls == 1
    log_weight(fn, torch.zeros(batch, dtype=torch.long), "x")
    assert fn.calls == 2


def test_values_are_tensors_of_their_own() -> None:
    first, second = choices(Dial(2), "x").values
    first += 7
    assert second.item() == 1 and second._version == 0


def test_the_values_of_a_coin_are_of_the_dtype_that_torch_gives() -> None:
    for dtype in (torch.float32, torch.float64, torch.float16):
        p = torch.tensor(0.25, dtype=dtype)
        for value in choices(dist.Bernoulli(p), "x").values:
            assert value.dtype == dtype and value.dim() == 0
    for value in choices(dist.Categorical([0.5, 0.5]), "x").values:
        assert value.dtype == torch.int64
    torch.set_default_dtype(torch.float64)
    try:
        assert choices(dist.Bernoulli(0.3), "x").values[0].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert choices(dist.Bernoulli(0.3), "x").values[0].dtype == torch.float32


@pytest.mark.parametrize(
    "make", [lambda: dist.Bernoulli(0.3), lambda: dist.Categorical([0.5, 0.5])]
)
def test_a_value_that_a_model_changed_in_place_is_never_handed_out_again(make) -> None:
    again = choices(make(), "x").values
    assert all(a is b for a, b in zip(again, choices(make(), "x").values, strict=True))
    again[1].add_(5)
    fresh = choices(make(), "x").values
    assert [v.item() for v in fresh] == [0, 1] and again[1].item() == 6


def test_a_value_that_was_asked_for_gradients_is_never_handed_out_again() -> None:
    value = choices(dist.Bernoulli(0.3), "x").values[1].requires_grad_()
    assert value.requires_grad
    assert not choices(dist.Bernoulli(0.3), "x").values[1].requires_grad


def test_values_made_under_inference_mode_are_watched_all_the_same() -> None:
    with torch.inference_mode():
        p = torch.tensor(0.125)
        value = choices(dist.Bernoulli(0.123456), "x").values[1]
        assert log_weight(dist.Bernoulli(p), 1, "x") == math.log(0.125)
    assert value._version == 0


def test_what_cannot_happen_is_minus_infinity_and_is_kept() -> None:
    for fn in (dist.Bernoulli(0.0), td.Bernoulli(0.0), dist.Bernoulli(torch.tensor(0.0))):
        assert choices(fn, "x").log_probs == (0.0, -math.inf)
        assert log_weight(fn, 1.0, "x") == -math.inf
    batch = dist.Bernoulli(torch.tensor([0.0, 1.0]))
    assert [e.log_probs for e in choices(batch, "x").elements] == [
        (0.0, -math.inf),
        (-math.inf, 0.0),
    ]
    assert log_weight(batch, [1.0, 1.0], "x") == -math.inf
    one_hot = dist.OneHotCategorical(torch.tensor([1.0, 0.0]))
    assert choices(one_hot, "x").log_probs == (0.0, -math.inf)
    assert log_weight(dist.Categorical([1.0, 0.0]), 1, "x") == -math.inf


@pytest.mark.parametrize(
    "fn",
    [
        dist.Normal(0.0, 1.0),
        dist.Poisson(2.0),
        td.Gamma(1.0, 1.0),
        dist.Normal(torch.zeros(2), 1.0).to_event(1),
        dist.Binomial(torch.tensor([2, 3]), torch.tensor([0.3, 0.4])),
    ],
    ids=repr,
)
def test_a_site_without_finite_support_is_an_error_that_names_it(fn) -> None:
    with pytest.raises(NotEnumerableError, match="site 'height' cannot be enumerated"):
        choices(fn, "height")


def test_has_finite_support() -> None:
    assert not has_finite_support(dist.Normal(0.0, 1.0))
    assert not has_finite_support(td.Independent(td.Normal(torch.zeros(2), 1.0), 1))
    assert not has_finite_support(0.3)


@pytest.mark.parametrize(
    ("fn", "match"),
    [
        (0.3, r"the number 0\.3.*dist\.Flip\(0\.3\)"),
        (dist.Flip, r"the class Flip itself.*Flip\(\.\.\.\)"),
        (lambda: None, "yield from"),
        ([0.5, 0.5], "of type list"),
        (None, "of type NoneType"),
    ],
)
def test_what_is_no_distribution_is_refused_with_what_to_write(fn, match) -> None:
    for ask in (check_distribution, choices, lambda fn, name: log_weight(fn, 1, name)):
        with pytest.raises(DistributionError, match=match) as caught:
            ask(fn, "coin")
        assert "site 'coin'" in str(caught.value)


class Broken(Dial):
    def __init__(self, weights):
        self.weights = torch.tensor(weights)
        super().__init__(len(weights))

    def log_prob(self, value):
        return self.weights[value.long()]


def test_bad_weights_are_refused_by_name() -> None:
    with pytest.raises(BadWeightError, match=r"site 'x'.*NaN"):
        choices(Broken([math.nan, 0.0]), "x")
    with pytest.raises(BadWeightError, match=r"site 'x'.*plus infinity"):
        choices(Broken([math.inf, 0.0]), "x")
    with pytest.raises(BadWeightError, match=r"site 'x'.*NaN"):
        log_weight(Broken([math.nan, 0.0]), 0, "x")
    with pytest.raises(EmptySupportError, match=r"site 'x'.*probability zero"):
        choices(Broken([-math.inf, -math.inf]), "x")
    with pytest.raises(EmptySupportError, match=r"site 'x'.*empty support"):
        choices(Dial(0), "x")


@pytest.mark.parametrize(
    ("fn", "value"),
    [
        (dist.Flip(0.3), "yes"),
        (dist.Bernoulli(0.3), 0.5),
        (dist.Bernoulli([0.3, 0.3]), [0.0, 2.0]),
        (dist.Categorical([0.5, 0.5]), 2),
        (dist.Categorical([0.5, 0.5]), -1),
        (dist.Categorical(torch.ones(2, 3)), torch.tensor([0, 3])),
        (dist.Exponential(1.0), -1.0),
        (dist.Beta(1.0, 1.0), 1.5),
        (dist.Poisson(1.0), 2.5),
        (td.Exponential(1.0), -1.0),
        (dist.OneHotCategorical(torch.tensor([0.5, 0.5])), [1.0, 1.0]),
    ],
    ids=repr,
)
def test_an_observation_outside_the_support_names_the_site(fn, value) -> None:
    with pytest.raises(OutsideSupportError, match="site 'seen'"):
        log_weight(fn, value, "seen")


@pytest.mark.parametrize(
    "value", [1, 1.0, True, torch.tensor(1.0), torch.tensor(1), torch.tensor(True)]
)
def test_numbers_and_booleans_are_observations_of_a_coin(value) -> None:
    for fn in (dist.Bernoulli(0.25), td.Bernoulli(0.25), dist.Bernoulli(torch.tensor(0.25))):
        assert log_weight(fn, value, "x") == pytest.approx(math.log(0.25), abs=1e-7)
    assert log_weight(dist.Flip(0.25), value, "x") == math.log(0.25)


def test_lists_are_observations_of_a_batch() -> None:
    coins = dist.Bernoulli([0.25, 0.25])
    assert log_weight(coins, [True, False], "x") == pytest.approx(math.log(0.25 * 0.75))
    assert log_weight(coins, 1, "x") == pytest.approx(math.log(0.25 * 0.25))
    mvn = dist.MultivariateNormal([0.0, 0.0], torch.eye(2))
    assert log_weight(mvn, [0.0, 0.0], "x") == pytest.approx(-math.log(2 * math.pi))
    double = dist.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    assert log_weight(double, [0.0, 0.0], "x") == pytest.approx(-math.log(2 * math.pi))


def test_many_observations_of_one_distribution_add_up() -> None:
    data = torch.tensor([0.5, -1.0, 2.0])
    expected = td.Normal(0.5, 2.0).log_prob(data).sum().item()
    assert log_weight(dist.Normal(0.5, 2.0), data, "x") == pytest.approx(expected, abs=1e-5)


def test_draw_gives_a_value() -> None:
    assert draw(dist.Flip(1.0)) is True
    assert draw(td.Bernoulli(1.0)).item() == 1.0
    loc = torch.tensor(0.0, requires_grad=True)
    assert draw(dist.Normal(loc, 1.0)).requires_grad and draw(td.Normal(loc, 1.0)).requires_grad


def test_masked_values_are_not_scored() -> None:
    fn = dist.Bernoulli([0.25, 0.25]).mask(torch.tensor([True, False]))
    first, second = choices(fn, "x").elements
    assert first.log_probs == pytest.approx((math.log(0.75), math.log(0.25)))
    assert second.log_probs == (0.0, 0.0)
    assert log_weight(fn, [1.0, 1.0], "x") == pytest.approx(math.log(0.25))
    assert log_weight(dist.Bernoulli(0.25).mask(False), 1.0, "x") == 0.0
    assert log_weight(fn.to_event(1), [1.0, 1.0], "x") == pytest.approx(math.log(0.25))
