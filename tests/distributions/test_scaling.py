"""Scales and masks that are tensors: weighed element by element, what is masked out not looked at."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.core.message import Message
from contpoutine.distributions.scaling import element_scales, scaled_log_weight
from contpoutine.errors import BadWeightError, OutsideSupportError, ShapeError
from contpoutine.poutine.site_log_prob import site_log_prob

MASK = torch.tensor([True, False, True])


def site(fn, value=None, scale=1.0, mask=None):
    msg = Message(type="sample", name="x", fn=fn, value=value, scale=scale, mask=mask)
    msg.perform()
    return msg


SITES = [
    site(dist.Normal(torch.zeros(3), 1.0), torch.arange(3.0), mask=MASK),
    site(dist.Normal(torch.zeros(3), 1.0), torch.arange(3.0), scale=torch.arange(3.0)),
    site(dist.Normal(0.0, 1.0), torch.tensor(0.5), mask=MASK),
    site(dist.Normal(torch.zeros(2, 3), 1.0), torch.ones(2, 3), scale=0.5, mask=MASK),
    site(dist.Bernoulli(torch.full((3,), 0.25)), torch.ones(3), torch.tensor(2.0), MASK),
    site(dist.Bernoulli(torch.full((3, 2), 0.25)).to_event(1), torch.ones(3, 2), mask=MASK),
    site(dist.Categorical(torch.ones(3, 4)), torch.arange(3), mask=MASK),
    site(dist.Dirichlet(torch.ones(3, 2)), torch.full((3, 2), 0.5), mask=MASK),
    site(dist.Unit(torch.arange(3.0)), (), mask=MASK),
    site(dist.Flip(0.25), True, mask=MASK),
]


@pytest.mark.parametrize("msg", SITES, ids=lambda msg: repr(msg["fn"])[:24])
def test_the_weight_is_the_sum_that_torch_gives(msg):
    expected = site_log_prob(dict(msg))[1].sum() if not isinstance(msg["fn"], dist.Flip) else None
    weight = scaled_log_weight(msg)
    assert weight == pytest.approx(2 * math.log(0.25) if expected is None else float(expected))


def test_what_is_masked_out_may_be_anything():
    value = torch.tensor([1.0, math.nan, 0.0])
    weight = scaled_log_weight(site(dist.Bernoulli(torch.full((3,), 0.25)), value, mask=MASK))
    assert weight == pytest.approx(math.log(0.25) + math.log(0.75))
    with pytest.raises(OutsideSupportError):
        scaled_log_weight(site(dist.Bernoulli(torch.full((3,), 0.25)), value, mask=~MASK))


@pytest.mark.parametrize(
    "fn, scale, mask, expected",
    [
        (dist.Bernoulli(0.5), 2.0, None, [2.0]),
        (dist.Bernoulli(0.5), 2.0, False, [0.0]),
        (dist.Bernoulli(0.5), 1.0, MASK, [2.0]),
        (dist.Bernoulli(torch.full((3,), 0.5)), 2.0, MASK, [2.0, 0.0, 2.0]),
        (
            dist.Bernoulli(torch.full((3,), 0.5)),
            torch.tensor([[1.0], [2.0]]),
            MASK,
            [3.0, 0.0, 3.0],
        ),
        (dist.Flip(0.5), 1.0, MASK, [2.0]),
    ],
)
def test_each_element_of_a_batch_has_a_scale(fn, scale, mask, expected):
    assert element_scales(site(fn, scale=scale, mask=mask)) == expected


def test_scales_that_are_no_scales_are_refused():
    with pytest.raises(BadWeightError, match="scaled by -1"):
        element_scales(site(dist.Bernoulli(torch.ones(2)), scale=torch.tensor([1.0, -1.0])))
    with pytest.raises(ShapeError, match=r"a mask of shape \(3,\).*do not broadcast"):
        element_scales(site(dist.Bernoulli(torch.ones(2)), mask=MASK))


class Masked(cp.Messenger):
    fork_shared = True

    def _process_message(self, msg):
        msg["mask"], msg["scale"] = MASK, 2.0


def test_a_masked_batch_is_enumerated_with_the_weights_of_its_elements():
    probs = torch.tensor([0.2, 0.3, 0.4])

    def model():
        with Masked():
            x = yield cp.sample("x", dist.Bernoulli(probs))
            yield cp.sample("y", dist.Normal(x, 1.0), obs=torch.ones(3))
        return tuple(x.tolist())

    posterior = cp.infer.enumerate(model)()
    total = 0.0
    for x in itertools.product((0.0, 1.0), repeat=3):
        value = torch.tensor(x)
        log_prob = dist.Bernoulli(probs).log_prob(value) + dist.Normal(value, 1.0).log_prob(
            torch.ones(3)
        )
        weight = float((2.0 * log_prob[MASK]).sum().exp())
        total += weight
        assert posterior.marginal()[x] * math.exp(posterior.log_evidence) == pytest.approx(
            weight, rel=1e-5
        )
    assert math.exp(posterior.log_evidence) == pytest.approx(total, rel=1e-5)
