"""condition observes sites."""

from __future__ import annotations

import math

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.errors import NotAModelError
from contpoutine.poutine.condition_messenger import ConditionMessenger


def model(p=0.25):
    x = yield cp.sample("x", dist.Flip(p))
    y = yield cp.sample("y", dist.Flip(0.5 if x else 0.1))
    z = yield cp.sample("z", dist.Normal(float(y), 1.0), obs=0.0)
    return x, y, z


def test_condition_then_trace_gives_the_log_joint():
    data = {"x": True, "y": False, "z": 2.0}
    trace = poutine.trace(poutine.condition(model, data=data)).get_trace()
    by_hand = math.log(0.25) + math.log(0.5) - 0.5 * 2.0**2 - 0.5 * math.log(2 * math.pi)
    assert float(trace.log_prob_sum()) == pytest.approx(by_hand)
    assert trace.observation_nodes == ["x", "y", "z"]
    assert trace.nodes["_RETURN"]["value"] == (True, False, 2.0)


def test_the_value_is_the_very_object_that_was_given():
    value = torch.tensor(1.0)
    trace = poutine.trace(poutine.condition(model, data={"z": value})).get_trace()
    assert trace.nodes["z"]["value"] is value


def test_none_leaves_a_site_unobserved():
    trace = poutine.trace(poutine.condition(model, data={"x": None})).get_trace(1.0)
    assert trace.stochastic_nodes == ["x", "y"]
    assert trace.nodes["x"]["value"] is True


def test_a_trace_serves_as_data():
    first = poutine.trace(model).get_trace()
    again = poutine.trace(poutine.condition(model, data=first)).get_trace()
    assert again.nodes["_RETURN"]["value"] == first.nodes["_RETURN"]["value"]
    assert again.observation_nodes == ["x", "y", "z"]


def test_it_is_idempotent_and_the_outer_one_decides():
    data = {"x": True}
    once = poutine.condition(model, data=data)
    twice = poutine.condition(once, data=data)
    for conditioned in (once, twice):
        posterior = cp.infer.enumerate(conditioned)()
        assert posterior.marginal("y")[True] == pytest.approx(
            cp.infer.enumerate(once)().marginal("y")[True]
        )
    outer = poutine.condition(once, data={"x": False})
    assert poutine.trace(outer).get_trace().nodes["x"]["value"] is False


def test_conditions_on_different_sites_commute():
    a, b = {"x": True}, {"y": False}
    one = poutine.condition(poutine.condition(model, data=a), data=b)
    other = poutine.condition(poutine.condition(model, data=b), data=a)
    weights = [float(poutine.trace(m).get_trace().log_prob_sum()) for m in (one, other)]
    assert weights[0] == weights[1]


def test_the_data_may_be_changed_between_runs():
    data = {"x": True}
    conditioned = poutine.condition(model, data=data)
    assert cp.run(conditioned)[0] is True
    data["x"] = False
    assert cp.run(conditioned)[0] is False


def test_data_that_the_model_makes_is_its_own_in_each_branch(capture):
    def grows():
        data = {}
        with poutine.condition(data=data):
            data["b"] = yield cp.sample("a", dist.Flip(0.5))
            yield cp.sample("c", dist.Flip(0.5))
            b = yield cp.sample("b", dist.Flip(0.25))
        return data["b"] == b

    posterior = cp.infer.enumerate(grows, capture=capture)()
    assert dict(posterior.marginal()) == {True: 1.0}


def test_forks_share_a_condition_whose_data_came_from_outside():
    handler = ConditionMessenger({"x": True})

    class Memo:
        def record(self, old, new):
            pass

        def __call__(self, value):
            return value

    assert handler.__fork__(Memo()) is handler

    class Counting(ConditionMessenger):
        pass

    counting = Counting({})
    assert counting.__fork__(Memo()) is not counting


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="site name: value"):
        poutine.condition(model, data=[("x", True)])
    with pytest.raises(TypeError, match="site name: value"):
        poutine.condition(model)
    with pytest.raises(NotAModelError, match=r"condition\(model, option=...\)"):
        poutine.condition({"x": True})
    assert repr(poutine.condition(data={"x": True, "y": 1})) == "condition(data={x, y})"


def test_a_recorder_inside_sees_what_a_handler_outside_has_said_in_every_branch(capture):
    class Half(cp.Messenger):
        def _pyro_sample(self, msg):
            msg["scale"] = 0.5 * msg["scale"]

    def model():
        with poutine.trace() as tr:
            x = yield cp.sample("x", dist.Flip(0.5))
            a = yield cp.sample("a", dist.Flip(0.5))
            b = yield cp.sample("b", dist.Flip(0.5))
        nodes = tr.trace.nodes
        return x, a, b, nodes["x"]["is_observed"], nodes["a"]["scale"], nodes["b"]["is_observed"]

    with poutine.condition(data={"x": True}), Half():
        posterior = cp.infer.enumerate(model)()
    assert {value[3:] for value in posterior.tree.leaf_values} == {(True, 0.5, False)}
    assert posterior.executions == 4
