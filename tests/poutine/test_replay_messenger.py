"""replay reproduces an execution."""

from __future__ import annotations

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.errors import TraceMismatchError
from tests.models.corpus import CORPUS, flips

UNIQUE = [
    case for case in CORPUS if case.model.__name__ in "flips sprinkler closures half_built weighted"
]


@pytest.mark.parametrize("case", UNIQUE, ids=repr)
def test_every_value_comes_back(case):
    first = poutine.trace(case.model).get_trace(*case.args)
    again = poutine.trace(poutine.replay(case.model, trace=first)).get_trace(*case.args)
    for name in first:
        assert again.nodes[name].get("value") == first.nodes[name].get("value")
    assert float(again.log_prob_sum()) == float(first.log_prob_sum())


def test_sites_that_the_trace_does_not_know_are_drawn():
    first = poutine.trace(flips).get_trace(2)
    longer = poutine.trace(poutine.replay(flips, trace=first)).get_trace(20)
    assert [longer.nodes[f"x{i}"]["value"] for i in range(2)] == [
        first.nodes[f"x{i}"]["value"] for i in range(2)
    ]
    assert len(longer.stochastic_nodes) == 20


def test_an_observed_site_keeps_its_value():
    def model():
        x = yield cp.sample("x", dist.Flip(1.0))
        y = yield cp.sample("y", dist.Flip(0.5), obs=True)
        return x, y

    first = poutine.Trace()
    for name in "xy":
        first.add_node(name, type="sample", is_observed=False, value=False, infer={"from": "trace"})
    trace = poutine.trace(poutine.replay(model, trace=first)).get_trace()
    assert trace.nodes["_RETURN"]["value"] == (False, True)
    assert trace.nodes["x"]["infer"] == {"from": "trace"}
    assert trace.stochastic_nodes == ["x"]


def test_an_observed_site_of_the_trace_cannot_be_replayed():
    observed = poutine.trace(poutine.condition(flips, data={"x0": True})).get_trace(1)
    with pytest.raises(TraceMismatchError, match=r"'x0' as an observed site.*corpus.py"):
        cp.run(poutine.replay(flips, trace=observed), 1)
    param = poutine.Trace()
    param.add_node("x0", type="param", value=1.0)
    with pytest.raises(TraceMismatchError, match="a param site"):
        cp.run(poutine.replay(flips, trace=param), 1)


def test_parameters_are_replaced_by_name():
    param = cp.effectful(lambda value: value, type="param")

    def model():
        return (yield param(1.0, name="w")), (yield param(2.0, name="v"))

    assert cp.run(poutine.replay(model, params={"w": 5.0})) == (5.0, 2.0)


def test_a_replayed_model_is_enumerated_over_what_is_left():
    first = poutine.trace(flips).get_trace(2)
    posterior = cp.infer.enumerate(poutine.replay(flips, trace=first))(4)
    assert posterior.branches == 2 + 4


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"trace=... or params=..."):
        poutine.replay(flips)
    with pytest.raises(TypeError, match="needs a Trace"):
        poutine.replay(flips, trace={"x0": True})
