"""The tour prints the numbers that Pyro's guide gives for the same code."""

from __future__ import annotations

import math

import pytest
import torch

import contpoutine as cp
from contpoutine import poutine
from tests.examples.conftest import load

tour = load("poutine_tour")


@pytest.fixture(autouse=True)
def empty_store():
    yield
    cp.clear_param_store()


def test_the_tour_prints_what_the_guide_says(printed):
    sections = printed("poutine_tour").strip().split("\n\n")
    blocks = [section.splitlines()[2:] for section in sections]
    log_joints, stack, message, learned, marginal, lazy = blocks
    assert len(log_joints) == 7 and all(line.endswith(" -3.0203") for line in log_joints)
    assert stack == ["inner up, inner sample, outer up, outer sample, outer down, inner down"]
    assert [line.split()[0] for line in message] == [*cp.core.message.KEYS]
    loc, spread = learned[0].removeprefix("learned: Normal(").removesuffix(")").split(", ")
    assert (float(loc), float(spread)) == pytest.approx((9.14, 0.60), abs=0.05)
    for line, expected in zip(marginal, (0.125158, 0.656131, 0.218710)):
        words = line.replace(",", "").split()
        assert (float(words[1]), float(words[4])) == pytest.approx((expected,) * 2, abs=2e-6)
    assert lazy[0] == (
        "((normal (add (mul ((normal 8.5 1.0)) 0.8) 1.0) (sigmoid ((normal 0.0 0.25)))))"
    )


def test_log_joint_messengers_are_right_in_every_branch():
    def model():
        a = yield cp.sample("a", cp.distributions.Flip(0.25))
        b = yield cp.sample("b", cp.distributions.Flip(0.5 if a else 0.125))
        return a, b

    def weighed():
        return float((yield tour.LogJointMessenger2({})(model)()))

    for capture in ("auto", "replay"):
        found = cp.infer.enumerate(weighed, capture=capture)().marginal()
        masses = sorted((math.exp(logp), p) for logp, p in found.items())
        expected = [(0.09375, 0.09375), (0.125, 0.25), (0.65625, 0.65625)]
        assert [x for pair in masses for x in pair] == pytest.approx(sum(expected, ()))


def test_numbers_may_be_tensors():
    data = {name: torch.tensor(value) for name, value in tour.DATA.items()}
    found = tour.make_log_joint(tour.scale)(data, torch.tensor(8.5))
    assert found.item() == pytest.approx(-3.0203, abs=5e-5)


def test_a_marginal_of_one_site():
    marginal = tour.sequential_discrete_marginal(tour.two_coins, {"y": 1.5}, site_name="a")
    exact = cp.infer.enumerate(poutine.condition(tour.two_coins, data={"y": 1.5}))().marginal("a")
    one = torch.tensor(1.0)
    assert marginal.log_prob(one).exp().item() == pytest.approx(exact[one], abs=1e-6)
