"""lift draws parameters, and substitute gives them: as Pyro does, and in every branch."""

from __future__ import annotations

import pyro
import pytest
import torch
from torch.distributions import constraints

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.errors import NotAModelError, UnmetNameWarning


@pytest.fixture(autouse=True)
def empty_stores():
    cp.clear_param_store()
    pyro.clear_param_store()
    yield
    cp.clear_param_store()
    pyro.clear_param_store()


def model():
    p = yield cp.param("p", 0.5, constraint=constraints.unit_interval)
    again = yield cp.param("p")
    yield cp.sample("x", dist.Bernoulli(p), obs=torch.tensor(1.0))
    q = yield cp.param("q", torch.tensor(2.0))
    return tuple(torch.as_tensor(each).detach().item() for each in (p, again, q))


def pyros():
    p = pyro.param("p", torch.tensor(0.5), constraint=constraints.unit_interval)
    again = pyro.param("p")
    pyro.sample("x", pyro.distributions.Bernoulli(p), obs=torch.tensor(1.0))
    q = pyro.param("q", torch.tensor(2.0))
    return tuple(torch.as_tensor(each).detach().item() for each in (p, again, q))


def sites(trace):
    return {
        name: (node["type"], node["is_observed"], float(node["value"]), type(node["fn"]).__name__)
        for name, node in trace.nodes.items()
        if node["type"] == "sample"
    }


@pytest.mark.parametrize("by", ["name", "all"])
def test_lifted_parameters_are_pyros_sample_sites(by):
    found = []
    for d, library, body in (
        (dist, poutine, model),
        (pyro.distributions, pyro.poutine, pyros),
    ):
        prior = d.Beta(2.0, 2.0)
        torch.manual_seed(0)
        lifted = library.lift(body, prior={"p": prior} if by == "name" else prior)
        trace = library.trace(lifted).get_trace()
        found.append((sites(trace), trace.nodes["_RETURN"]["value"], float(trace.log_prob_sum())))
    assert found[0][0] == found[1][0] and found[0][1] == found[1][1]
    assert found[0][2] == pytest.approx(found[1][2])
    p, again, _ = found[0][1]
    assert p == again


def test_a_finite_prior_is_enumerated_and_every_branch_remembers_its_own_draw(capture):
    def program():
        first = yield cp.sample("first", dist.Flip(0.5))
        p = yield cp.param("p", 0.5)
        between = yield cp.sample("between", dist.Flip(0.5))
        again = yield cp.param("p")
        yield cp.sample("x", dist.Flip(again), obs=True)
        return first, p, between, again

    lifted = poutine.lift(program, prior={"p": dist.UniformDraw([0.25, 0.75])})
    for order in ("depth_first", "breadth_first"):
        posterior = cp.infer.enumerate(lifted, capture=capture, order=order)()
        assert len(posterior.marginal()) == 8
        assert all(p == again for _, p, _, again in posterior.marginal())
        assert posterior.marginal("p")[0.75] == pytest.approx(0.75)


def test_a_control_handler_inside_of_lift_sees_a_parameter(capture):
    class Count(cp.Handler):
        def on_param(self, msg, k):
            value = yield msg
            return (yield k(value)) + (yield k(value))

        def on_return(self, value):
            return [value]

    def program():
        return (yield cp.param("p", 0.5))

    lifted = poutine.lift(cp.handle(Count(), program), prior={"p": dist.RandInt(5, 6)})
    assert cp.run(lifted) == [5, 5]
    assert cp.infer.enumerate(lifted, capture=capture)().executions == 1


def test_a_function_as_prior_draws_by_itself():
    lifted = poutine.lift(model, prior=lambda *args, **kwargs: torch.tensor(0.125))
    trace = poutine.trace(lifted).get_trace()
    assert trace.nodes["_RETURN"]["value"] == (0.125, 0.125, 0.125) and "p" not in trace

    def drawing(*_):
        yield

    with pytest.raises(NotAModelError, match="generator function 'drawing'"):
        poutine.lift(model, prior={"p": drawing})
    with pytest.raises(TypeError, match="a distribution"):
        poutine.lift(model, prior=3)


def test_substituted_parameters_have_the_given_values_in_every_branch(capture):
    given = poutine.substitute(model, data={"p": torch.tensor(0.25)})
    assert cp.run(given) == (0.25, 0.25, 2.0)
    assert "p" not in cp.get_param_store()

    def program():
        a = yield cp.sample("a", dist.Flip(0.5))
        with poutine.substitute(data={"p": 0.25 if a else 0.5}):
            b = yield cp.sample("b", dist.Flip(0.5))
            p = yield cp.param("p", 0.125)
        return a, b, torch.as_tensor(p).item()

    assert set(cp.infer.enumerate(program, capture=capture)().marginal()) == {
        (a, b, 0.25 if a else 0.5) for a in (False, True) for b in (False, True)
    }


def test_a_parameter_of_a_module_is_meant_by_its_own_name():
    net = torch.nn.Linear(1, 1)

    def program():
        yield from cp.module("net", net)

    with poutine.trace() as tr, poutine.substitute(data={"weight": torch.ones(1, 1)}):
        with pytest.warns(UserWarning, match="computes with parameters of its own"):
            cp.run(program)
    assert torch.equal(tr.trace.nodes["net$$$weight"]["value"], torch.ones(1, 1))


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda: poutine.substitute(model, data={"P": 0.25}),
        lambda: poutine.lift(model, prior={"P": dist.Beta(1.0, 1.0)}),
    ],
)
def test_a_name_that_no_parameter_has_is_warned_of(wrapped):
    with pytest.warns(UnmetNameWarning, match="given 'P', but no param site"):
        cp.run(wrapped())
