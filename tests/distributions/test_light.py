"""Bernoulli, Categorical and Normal: the light path against torch, and waking."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
import torch.distributions as td
from hypothesis import given
from hypothesis import strategies as st

import contpoutine.distributions as dist
from contpoutine.distributions.choices import choices, log_weight
from contpoutine.errors import DistributionError, OutsideSupportError

# float32 carries 24 bits: torch's log-probabilities near 0 lose most of them
FLOAT32 = {"rel": 1e-4, "abs": 2e-6}

probabilities = st.floats(0.001, 0.999)
logits = st.floats(-8, 8)
dtypes = st.sampled_from([torch.float32, torch.float64])


def is_asleep(d) -> bool:
    return "_batch_shape" not in d.__dict__


@given(probabilities, dtypes)
def test_a_coin_agrees_with_torch(p, dtype) -> None:
    tensor = torch.tensor(p, dtype=dtype)
    for mine, theirs in (
        (dist.Bernoulli(tensor), td.Bernoulli(tensor)),
        (dist.Bernoulli(logits=tensor), td.Bernoulli(logits=tensor)),
    ):
        found = choices(mine, "x")
        support = theirs.enumerate_support()
        assert torch.equal(torch.stack(found.values), support) and support.dtype == dtype
        assert found.log_probs == pytest.approx(theirs.log_prob(support).tolist(), **FLOAT32)
        assert is_asleep(mine)
        for value, log_prob in zip(*found, strict=True):
            assert log_weight(mine, value, "x") == log_prob
            assert mine.log_prob(value).item() == theirs.log_prob(value).item()
        assert not is_asleep(mine)
        assert choices(mine, "x").log_probs == found.log_probs


@given(probabilities)
def test_a_number_is_taken_as_it_is_and_a_tensor_at_its_exact_value(p) -> None:
    assert choices(dist.Bernoulli(p), "x").log_probs == (math.log1p(-p), math.log(p))
    held = torch.tensor(p).item()
    assert choices(dist.Bernoulli(torch.tensor(p)), "x").log_probs[1] == math.log(held)


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=5), dtypes)
def test_categories_agree_with_torch(row, dtype) -> None:
    tensor = torch.tensor(row, dtype=dtype)
    for mine, theirs in (
        (dist.Categorical(tensor), td.Categorical(tensor)),
        (dist.Categorical(row), td.Categorical(tensor)),
        (dist.Categorical(logits=tensor), td.Categorical(logits=tensor)),
        (dist.Categorical(logits=row), td.Categorical(logits=tensor)),
    ):
        found = choices(mine, "x")
        support = theirs.enumerate_support()
        assert torch.equal(torch.stack(found.values), support)
        assert found.log_probs == pytest.approx(theirs.log_prob(support).tolist(), **FLOAT32)
        assert math.fsum(map(math.exp, found.log_probs)) == pytest.approx(1.0, abs=1e-12)
        assert is_asleep(mine)
        for value, log_prob in zip(*found, strict=True):
            assert log_weight(mine, value, "x") == log_prob
            assert mine.log_prob(value).item() == pytest.approx(log_prob, **FLOAT32)


@given(st.floats(-5, 5), st.floats(0.1, 5), st.floats(-10, 10), dtypes)
def test_a_normal_agrees_with_torch(loc, scale, x, dtype) -> None:
    theirs = td.Normal(*torch.tensor([loc, scale], dtype=torch.float64))
    expected = theirs.log_prob(torch.tensor(x, dtype=torch.float64)).item()
    assert log_weight(dist.Normal(loc, scale), x, "x") == pytest.approx(expected, rel=1e-12)
    tensors = torch.tensor([loc, scale], dtype=dtype).unbind()
    mine = dist.Normal(*tensors)
    assert log_weight(mine, x, "x") == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert log_weight(dist.Normal(tensors[0], scale), x, "x") == pytest.approx(expected, rel=1e-3)
    assert is_asleep(mine)
    given_torch = td.Normal(*tensors).log_prob(torch.tensor(x, dtype=dtype)).item()
    assert mine.log_prob(torch.tensor(x, dtype=dtype)).item() == given_torch


MAKERS = {
    "number": lambda: (dist.Bernoulli(0.3), td.Bernoulli(0.3)),
    "integer": lambda: (dist.Bernoulli(1), td.Bernoulli(1)),
    "logit": lambda: (dist.Bernoulli(logits=0.3), td.Bernoulli(logits=0.3)),
    "batch": lambda: (dist.Bernoulli([0.3, 0.4]), td.Bernoulli(torch.tensor([0.3, 0.4]))),
    "row": lambda: (dist.Categorical([0.3, 0.7]), td.Categorical(torch.tensor([0.3, 0.7]))),
    "rows": lambda: (dist.Categorical(torch.ones(2, 3)), td.Categorical(torch.ones(2, 3))),
    "normal": lambda: (dist.Normal(0.5, 2.0), td.Normal(0.5, 2.0)),
    "mixed": lambda: (dist.Normal(torch.zeros(2), 2.0), td.Normal(torch.zeros(2), 2.0)),
}  # fmt: skip


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_building_does_not_run_torch_and_everything_of_torch_is_there(make) -> None:
    mine, theirs = make()
    assert is_asleep(mine) and isinstance(mine, type(theirs))
    assert repr(mine) == repr(theirs)
    for name in ("batch_shape", "event_shape", "has_rsample", "has_enumerate_support"):
        assert getattr(make()[0], name) == getattr(theirs, name), name
    for name in ("mean", "variance", "stddev"):
        a, b = getattr(make()[0], name), getattr(theirs, name)
        assert torch.equal(a, b) or (a.isnan().all() and b.isnan().all()), name
    assert torch.equal(make()[0].entropy(), theirs.entropy())
    torch.manual_seed(0)
    a = make()[0].sample((4,))
    torch.manual_seed(0)
    assert torch.equal(a, theirs.sample((4,)))
    assert str(make()[0].support) == str(theirs.support)
    for name in theirs.arg_constraints:
        assert torch.equal(getattr(make()[0], name), getattr(theirs, name)), name


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_expanding_masking_and_reinterpreting(make) -> None:
    mine, theirs = make()
    wide = mine.expand((3, *theirs.batch_shape))
    assert type(wide) is type(mine)
    value = theirs.sample()
    assert torch.equal(wide.log_prob(value), theirs.expand(wide.batch_shape).log_prob(value))
    assert make()[0].expand_by([3]).batch_shape == wide.batch_shape
    event = make()[0].to_event(len(theirs.batch_shape))
    assert isinstance(event, td.Independent) and event.batch_shape == ()
    assert event.log_prob(value).item() == pytest.approx(theirs.log_prob(value).sum().item())
    assert make()[0].to_event().event_shape == theirs.batch_shape + theirs.event_shape
    assert event.shape((2,)) == (2, *theirs.batch_shape)
    assert make()[0].mask(False).log_prob(value).sum().item() == 0.0
    assert event(torch.Size([2])).shape == (2, *theirs.batch_shape)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("wake", [False, True])
def test_pickles_and_copies_are_as_good_as_new(make, wake) -> None:
    mine, theirs = make()
    if wake:
        _ = mine.batch_shape
    value = theirs.sample()
    for other in (pickle.loads(pickle.dumps(mine)), copy.copy(mine), copy.deepcopy(mine)):
        assert type(other) is type(mine)
        assert log_weight(other, value, "x") == log_weight(mine, value, "x")
        assert torch.equal(other.log_prob(value), theirs.log_prob(value))


@pytest.mark.parametrize("asked_before", [False, True])
def test_an_expanded_coin_is_still_exact(asked_before) -> None:
    coin, row = dist.Bernoulli(0.0), dist.Categorical([1.0, 0.0])
    if asked_before:
        coin.log_prob(torch.tensor(0.0)), row.log_prob(torch.tensor(0))
    for d in (coin.expand([2]).expand([2, 2]), row.expand([4])):
        assert [e.log_probs for e in choices(d, "x").elements] == [(0.0, -math.inf)] * 4


def test_gradients_flow_to_the_parameter() -> None:
    for make in (
        lambda p: dist.Bernoulli(probs=p).log_prob(torch.tensor(1.0)),
        lambda p: dist.Bernoulli(p).to_event(0).log_prob(torch.tensor(1.0)),
        lambda p: dist.Categorical(torch.stack([p, 1 - p])).log_prob(torch.tensor(0)),
        lambda p: dist.Bernoulli(p).expand([1]).log_prob(torch.tensor(1.0)).sum(),
    ):
        p = torch.tensor(0.25, requires_grad=True)
        make(p).backward()
        assert p.grad is not None and p.grad.item() == pytest.approx(4.0)


def test_gradients_flow_though_it_was_first_asked_without_them() -> None:
    p = torch.tensor(0.25, requires_grad=True)
    d = dist.Bernoulli(p)
    assert choices(d, "x").log_probs[1] == math.log(0.25)
    with torch.no_grad():
        d.sample()
    with torch.inference_mode():
        _ = d.probs
    d.log_prob(torch.tensor(1.0)).backward()
    assert p.grad is not None


def test_gradients_are_cut_off_by_no_grad_exactly_where_torch_cuts_them_off() -> None:
    p = torch.tensor(0.25, requires_grad=True)
    row = torch.tensor([0.25, 0.75], requires_grad=True)
    with torch.no_grad():
        pairs = [
            (dist.Bernoulli(p), td.Bernoulli(p)),
            (dist.Categorical(row), td.Categorical(row)),
            (dist.Categorical(logits=row), td.Categorical(logits=row)),
            (dist.Normal(p, 1.0), td.Normal(p, 1.0)),
        ]
    for mine, theirs in pairs:
        one = torch.tensor(1.0)
        assert mine.log_prob(one).requires_grad == theirs.log_prob(one).requires_grad


def test_rsample_is_differentiable() -> None:
    loc = torch.tensor(0.0, requires_grad=True)
    dist.Normal(loc, 1.0)().backward()
    assert loc.grad.item() == 1.0


def test_a_parameter_that_is_changed_in_place_is_read_again() -> None:
    p = torch.tensor(0.25)
    d = dist.Bernoulli(p)
    assert log_weight(d, 1, "x") == math.log(0.25)
    p.fill_(0.5)
    assert log_weight(d, 1, "x") == math.log(0.5) == choices(d, "x").log_probs[1]
    row = torch.tensor([0.5, 0.5])
    c = dist.Categorical(row)
    row[0] = 1.5
    assert choices(c, "x").log_probs[0] == math.log(0.75)


def test_a_parameter_under_inference_mode_is_read_each_time() -> None:
    with torch.inference_mode():
        p = torch.tensor(0.25)
        d = dist.Bernoulli(p)
        assert log_weight(d, 1, "x") == math.log(0.25)
        p.fill_(0.5)
        assert log_weight(d, 1, "x") == math.log(0.5)


def test_the_default_dtype_at_construction_counts() -> None:
    d = dist.Bernoulli(0.3)
    torch.set_default_dtype(torch.float64)
    try:
        assert d.probs.dtype == torch.float32 and dist.Bernoulli(0.3).probs.dtype == torch.float64
        assert choices(d, "x").values[0].dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_another_default_device_is_left_to_torch() -> None:
    with torch.device("meta"):
        d = dist.Bernoulli(0.3)
    assert d.probs.device.type == "meta"
    with torch.device("cpu"):
        assert choices(dist.Bernoulli(0.3), "x").log_probs[1] == pytest.approx(math.log(0.3))
        assert dist.Categorical([0.5, 0.5]).probs.device.type == "cpu"


def test_a_users_subclass_of_ours_is_asked_through_its_own_methods() -> None:
    class Tempered(dist.Bernoulli):
        def log_prob(self, value):
            return 2 * super().log_prob(value)

    d = Tempered(0.25)
    assert choices(d, "x").log_probs[1] == pytest.approx(2 * math.log(0.25), abs=1e-6)
    assert log_weight(d, 1, "x") == pytest.approx(2 * math.log(0.25), abs=1e-6)
    assert type(d.expand([2])) is Tempered

    class Fair(dist.Bernoulli):
        def __init__(self):
            super().__init__(0.5)

    assert choices(Fair(), "x").log_probs == pytest.approx((math.log(0.5),) * 2)
    with pytest.raises(NotImplementedError, match="custom __init__"):
        Fair().expand([2])


@pytest.mark.parametrize(
    "p", [-0.1, 1.5, math.nan, torch.tensor(1.5), torch.tensor([0.5, math.nan])]
)
def test_bad_probabilities_are_refused(p) -> None:
    with pytest.raises(DistributionError, match="Bernoulli"):
        dist.Bernoulli(p)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: dist.Bernoulli(), "was given neither"),
        (lambda: dist.Bernoulli(0.3, 0.3), "was given both"),
        (lambda: dist.Bernoulli("0.3"), "takes one number"),
        (lambda: dist.Bernoulli(logits=math.nan), "logits"),
        (lambda: dist.Bernoulli(logits=torch.tensor([math.nan])), "logits"),
        (lambda: dist.Categorical(0.3), r"`Bernoulli\(p\)`"),
        (lambda: dist.Categorical(torch.tensor(0.3)), r"`Bernoulli\(p\)`"),
        (lambda: dist.Categorical([]), "one number for each category"),
        (lambda: dist.Categorical([0.5, -0.5]), "non-negative"),
        (lambda: dist.Categorical([0.0, 0.0]), "not all impossible"),
        (lambda: dist.Categorical([math.nan, 1.0]), "non-negative"),
        (lambda: dist.Categorical(torch.tensor([[0.5, 0.5], [0.0, 0.0]])), "not all impossible"),
        (lambda: dist.Categorical(logits=[-math.inf, -math.inf]), "not all impossible"),
        (lambda: dist.Categorical(logits=torch.tensor([[math.nan, 0.0]])), "no NaN"),
        (lambda: dist.Normal(0.0, 0.0), "must be positive, and is 0.0"),
        (lambda: dist.Normal(0.0, math.nan), "must be positive"),
        (lambda: dist.Normal(math.nan, 1.0), "'loc' is NaN"),
        (lambda: dist.Normal(torch.zeros(2), torch.tensor([1.0, -1.0])), "'scale'"),
    ],
)
def test_bad_parameters_are_refused_in_words(make, match) -> None:
    with pytest.raises(DistributionError, match=match):
        make()


def test_validation_can_be_asked_for_and_turned_off() -> None:
    with pytest.raises(DistributionError):
        dist.Bernoulli(1.5, validate_args=True)
    assert dist.Bernoulli(torch.tensor(1.5), validate_args=False).probs.item() == 1.5
    with pytest.raises(ValueError, match="support"):
        dist.Bernoulli(0.5, validate_args=True).log_prob(torch.tensor(2.0))


def test_a_missing_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dist.Bernoulli(0.3).nothing
    with pytest.raises(AttributeError):
        _ = dist.Normal(0.0, 1.0).probs


def test_observations_of_a_scalar_outside_its_support_name_the_site() -> None:
    with pytest.raises(OutsideSupportError, match=r"site 'x'.*2.*Bernoulli.*0 or 1"):
        log_weight(dist.Bernoulli(0.3), 2, "x")
    with pytest.raises(OutsideSupportError, match=r"integers 0 \.\.\. 1"):
        log_weight(dist.Categorical([0.5, 0.5]), 0.5, "x")
