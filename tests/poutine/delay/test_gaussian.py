"""The sparse joint of normal variables, held against dense linear algebra."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contpoutine.poutine.delay.gaussian import Gaussian
from contpoutine.poutine.delay.symbol import Variable

numbers = st.floats(-2.0, 2.0).map(lambda x: round(x, 3))
scales = st.floats(0.2, 3.0).map(lambda x: round(x, 3))


@st.composite
def networks(draw):
    """A few normal variables, each around an affine expression of some earlier ones."""
    sites = []
    for place in range(draw(st.integers(1, 7))):
        parents = draw(st.sets(st.integers(0, place - 1), max_size=3)) if place else set()
        terms = {parent: draw(numbers) for parent in sorted(parents)}
        sites.append((terms, draw(numbers), draw(scales)))
    return sites


def sparse(sites):
    joint = Gaussian({}, {})
    names = [Variable(f"x{i}", i) for i in range(len(sites))]
    for name, (terms, constant, scale) in zip(names, sites):
        factor = {names[parent]: -weight for parent, weight in terms.items()}
        factor[name] = 1.0
        joint = joint.with_factor(factor, constant, scale * scale)
    return joint, names


def dense(sites):
    """Mean and covariance of all of them."""
    mean = torch.zeros(len(sites), dtype=torch.float64)
    cov = torch.zeros(len(sites), len(sites), dtype=torch.float64)
    for i, (terms, constant, scale) in enumerate(sites):
        weights = torch.zeros(len(sites), dtype=torch.float64)
        for parent, weight in terms.items():
            weights[parent] = weight
        mean[i] = weights @ mean + constant
        cov[i] = cov[:, i] = cov @ weights
        cov[i, i] = weights @ cov @ weights + scale * scale
    return mean, cov


def conditioned(mean, cov, place, value):
    gain = cov[:, place] / cov[place, place]
    return mean + gain * (value - mean[place]), cov - torch.outer(gain, cov[place])


@given(networks(), st.data())
def test_mean_and_variance_of_any_expression_are_those_of_the_dense_joint(sites, data):
    joint, names = sparse(sites)
    mean, cov = dense(sites)
    if len(sites) > 1 and data.draw(st.booleans()):
        place, value = data.draw(st.integers(0, len(sites) - 1)), data.draw(numbers)
        joint = joint.fix(names[place], value)
        mean, cov = conditioned(mean, cov, place, value)
    else:
        place = None
    rest = [i for i in range(len(sites)) if i != place]
    asked = data.draw(st.sets(st.sampled_from(rest), min_size=1, max_size=3))
    terms = {i: data.draw(numbers.filter(bool)) for i in sorted(asked)}
    weights = torch.zeros(len(sites), dtype=torch.float64)
    for i, weight in terms.items():
        weights[i] = weight
    got_mean, got_variance = joint.moments({names[i]: weight for i, weight in terms.items()})
    assert got_mean == pytest.approx(float(weights @ mean), rel=1e-6, abs=1e-6)
    expected = float(weights @ cov @ weights)
    assert got_variance == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_a_joint_never_changes():
    x, y = Variable("x", 0), Variable("y", 1)
    one = Gaussian({}, {}).with_factor({x: 1.0}, 0.0, 1.0)
    two = one.with_factor({y: 1.0, x: -1.0}, 0.0, 1.0)
    three = two.fix(x, 3.0)
    assert one.moments({x: 1.0}) == (0.0, 1.0)
    assert two.moments({y: 1.0}) == pytest.approx((0.0, 2.0))
    assert three.moments({y: 1.0}) == pytest.approx((3.0, 1.0))
    assert x not in three.precision and y not in one.precision


@given(networks(), st.data())
def test_what_is_remembered_of_one_question_is_right_for_the_next(sites, data):
    joint, names = sparse(sites)
    for _ in range(6):
        chosen = data.draw(st.sets(st.sampled_from(names), min_size=1, max_size=2))
        terms = {name: data.draw(numbers.filter(bool)) for name in sorted(chosen)}
        if data.draw(st.booleans()):
            joint = joint.with_factor(terms, data.draw(numbers), 0.5)
        fresh = Gaussian(joint.precision, joint.shift)
        assert joint.moments(terms) == pytest.approx(fresh.moments(terms), rel=1e-6, abs=1e-8)
        if len(joint.precision) > 2 and data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(joint.precision)))
            joint = joint.fix(gone, data.draw(numbers))
            names = [name for name in names if name != gone]


def test_a_filter_takes_the_same_work_at_each_step():
    work = []
    joint = Gaussian({}, {}).with_factor({Variable("x", 0): 1.0}, 0.0, 1.0)
    for i in range(1, 60):
        before, now = Variable("x", i - 1), Variable("x", i)
        joint = joint.with_factor({now: 1.0, before: -1.0}, 0.0, 1.0)
        joint.moments({now: 1.0})
        joint = joint.with_factor({now: 1.0}, 0.5, 2.0)
        work.append(len(joint._front.precision))
    assert max(work) == 1
    fresh = Gaussian(joint.precision, joint.shift)
    assert joint.moments({now: 1.0}) == pytest.approx(fresh.moments({now: 1.0}))


def test_a_chain_fills_nothing_in():
    names = [Variable("x", i) for i in range(200)]
    joint = Gaussian({}, {}).with_factor({names[0]: 1.0}, 0.0, 1.0)
    for before, after in itertools.pairwise(names):
        joint = joint.with_factor({after: 1.0, before: -1.0}, 0.0, 1.0)
    assert max(map(len, joint.precision.values())) == 3
    assert joint.moments({names[-1]: 1.0}) == pytest.approx((0.0, 200.0))
    assert joint.moments({names[0]: 1.0}) == pytest.approx((0.0, 1.0))
