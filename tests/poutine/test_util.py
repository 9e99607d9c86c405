"""Which sites are what, and how a queue goes on from a site."""

from __future__ import annotations

import itertools

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.message import Message
from contpoutine.errors import NotEnumerableError
from contpoutine.poutine.util import (
    all_escape,
    discrete_escape,
    enum_extend,
    mc_extend,
    prune_subsample_sites,
    site_is_factor,
    site_is_subsample,
)


def message(fn, **fields):
    msg = Message(type="sample", name="x", fn=fn, **fields)
    msg.perform()
    return msg


def values(traces):
    return [trace.nodes["x"]["value"] for trace in traces]


@pytest.mark.parametrize(
    ("fn", "discrete"),
    [
        (dist.Flip(0.5), True),
        (dist.Bernoulli(0.5), True),
        (dist.Bernoulli(torch.tensor([0.5, 0.5])).to_event(1), True),
        (torch.distributions.Categorical(torch.ones(3)), True),
        (dist.Normal(0.0, 1.0), False),
        (dist.Poisson(2.0), False),
    ],
)
def test_escape_functions_know_finite_support(fn, discrete):
    assert discrete_escape(poutine.Trace(), message(fn)) is discrete
    assert all_escape(poutine.Trace(), message(fn)) is True


def test_escape_functions_pass_over_what_is_decided():
    known = poutine.Trace()
    known.add_node("x", type="sample", value=1, is_observed=False)
    for escape_fn in (all_escape, discrete_escape):
        assert not escape_fn(known, message(dist.Flip(0.5)))
        assert not escape_fn(poutine.Trace(), message(dist.Flip(0.5), value=True, is_observed=True))
        apply = Message(type="apply", name="x", fn=len)
        apply.perform()
        assert not escape_fn(poutine.Trace(), apply)


def test_enum_extend_goes_through_the_support_in_order():
    before = poutine.Trace()
    before.add_node("w", type="param", value=0)
    extended = enum_extend(before, message(dist.RandInt(1, 5)))
    assert values(extended) == [1, 2, 3, 4]
    assert all(list(trace) == ["w", "x"] for trace in extended) and list(before) == ["w"]
    assert values(enum_extend(before, message(dist.RandInt(1, 5)), num_samples=2)) == [1, 2]
    assert values(enum_extend(before, message(dist.RandInt(1, 5)), num_samples=-1)) == [1, 2, 3, 4]


def test_enum_extend_gives_torch_values_in_torchs_order():
    fn = torch.distributions.Categorical(torch.tensor([0.5, 0.25, 0.25]))
    found = values(enum_extend(poutine.Trace(), message(fn)))
    assert [v.tolist() for v in found] == fn.enumerate_support().tolist()


def test_enum_extend_of_a_batch_is_the_product_of_its_elements():
    fn = dist.Bernoulli(torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
    found = values(enum_extend(poutine.Trace(), message(fn)))
    assert [tuple(v.flatten().tolist()) for v in found] == list(
        itertools.product([0.0, 1.0], repeat=4)
    )
    assert all(v.shape == (2, 2) for v in found)


def test_enum_extend_refuses_a_site_without_finite_support():
    with pytest.raises(NotEnumerableError, match="'x'"):
        enum_extend(poutine.Trace(), message(dist.Normal(0.0, 1.0)))


def test_mc_extend_draws():
    assert values(mc_extend(poutine.Trace(), message(dist.Flip(1.0)))) == [True]
    assert values(mc_extend(poutine.Trace(), message(dist.Flip(1.0)), 3)) == [True] * 3
    assert len(mc_extend(poutine.Trace(), message(dist.Normal(0.0, 1.0)), -1)) == 1


def test_sites_of_factors_and_subsamples_are_known():
    class _Subsample:
        pass

    def model():
        yield cp.factor("f", 1.0)
        yield cp.sample("x", dist.Flip(0.5))

    trace = poutine.trace(model).get_trace()
    assert site_is_factor(trace.nodes["f"]) and not site_is_factor(trace.nodes["x"])
    trace.add_node("plate", type="sample", fn=_Subsample(), value=None, is_observed=False)
    assert site_is_subsample(trace.nodes["plate"])
    assert "plate" not in prune_subsample_sites(trace) and "plate" in trace
