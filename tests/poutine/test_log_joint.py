"""The seed's two log-joint handlers, as a user writes them, in every branch of an enumeration."""

from __future__ import annotations

import math

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from tests.poutine.test_tutorial import LogJointMessenger, LogJointMessenger2

ORDERS = ("depth_first", "breadth_first", "likely_first")
DATA = {"y": torch.tensor(1.0)}


def walk(n):
    """Choices of its own, and one site that the data decide."""
    x = 0
    path = []
    for i in range(n):
        x += yield cp.sample(f"x{i}", dist.Flip(0.25 if x else 0.5))
        path.append(x)
    yield cp.sample("y", torch.distributions.Normal(float(x), 1.0))
    return path


def log_joint_by_hand(path):
    total, before = 0.0, 0
    for x in path:
        p = 0.25 if before else 0.5
        total += math.log(p if x > before else 1 - p)
        before = x
    return total + torch.distributions.Normal(float(before), 1.0).log_prob(DATA["y"]).item()


def inside(n):
    with LogJointMessenger2(DATA) as handler:
        path = yield from walk(n)
        return tuple(path), float(handler.logp)


def around(handler):
    def model(n):
        path = []

        def body():
            path.extend((yield from walk(n)))

        logp = yield from handler(body)()
        return tuple(path), float(logp)

    return model


def after_a_choice(n):
    """Each branch enters a handler of its own, and goes on to choose inside of it."""
    first = yield cp.sample("first", dist.Flip(0.5))
    found = yield from inside(n)
    return (first, *found)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "model",
    [inside, around(LogJointMessenger2(DATA)), after_a_choice],
    ids=["with", "around", "in"],
)
def test_the_second_handler_has_the_log_joint_of_its_branch(model, order, capture):
    leaves = cp.infer.enumerate(model, order=order, capture=capture)(3).marginal()
    assert len(leaves) == (16 if model is after_a_choice else 8)
    for value in leaves:
        path, logp = value[-2:]
        assert logp == pytest.approx(log_joint_by_hand(path), abs=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_the_first_handler_conditions_and_weighs_in_its_own_branch(order, capture):
    """It decides every site, so the choices of the model lie around it."""

    def model():
        a = yield cp.sample("a", dist.Flip(0.25))
        with LogJointMessenger({"y": torch.tensor(1.0), "z": torch.tensor(0.0)}) as handler:
            yield cp.sample("y", torch.distributions.Normal(float(a), 1.0))
            halfway = float(handler.logp)
        b = yield cp.sample("b", dist.Flip(0.5))
        with handler:
            yield cp.sample("z", torch.distributions.Normal(float(b), 2.0))
            return a, b, halfway, float(handler.logp)

    def log_prob(x, mean, deviation):
        return torch.distributions.Normal(mean, deviation).log_prob(torch.tensor(x)).item()

    leaves = cp.infer.enumerate(model, order=order, capture=capture)().marginal()
    assert len(leaves) == 4
    for a, b, first, second in leaves:
        assert first == pytest.approx(log_prob(1.0, float(a), 1.0))
        assert second == pytest.approx(log_prob(0.0, float(b), 2.0))


@pytest.mark.parametrize("order", ORDERS)
def test_a_model_that_was_wrapped_outside_reads_the_log_joint_of_its_branch(order, capture):
    def body():
        x = 0
        for i in range(3):
            x += yield cp.sample(f"x{i}", dist.Flip(0.25 if x else 0.5))

    wrapped = LogJointMessenger2(DATA)(body)
    posterior = cp.infer.enumerate(wrapped, order=order, capture=capture)()
    for execution in posterior.most_probable(8):
        assert float(execution.value) == pytest.approx(execution.log_weight, abs=1e-5)
