"""The effect `param`: its message, and parameters as outside objects of every branch."""

from __future__ import annotations

import traceback

import pyro
import pyro.poutine as pyro_poutine
import pytest
import torch
from torch.distributions import constraints

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.ambient import AMBIENT
from contpoutine.core.capture import STRATEGY
from contpoutine.errors import (
    BadYieldError,
    CaptureError,
    DistributionError,
    ParamError,
    ParamMismatchError,
    UnknownParamError,
    UnperformedEffectError,
)


def trace_node(name, init, **options):
    def model():
        return (yield cp.param(name, init, **options))

    return poutine.trace(model).get_trace().nodes[name]


@pytest.mark.parametrize("options", [{}, {"constraint": constraints.positive, "event_dim": 1}])
def test_the_message_has_the_fields_of_pyro(options):
    init = torch.ones(2)

    def model():
        return pyro.param("x", init.clone(), **options)

    ours, theirs = (
        trace_node("x", init, **options),
        pyro_poutine.trace(model).get_trace().nodes["x"],
    )
    assert ours.keys() >= theirs.keys() - {"_intervention"}
    for field in ("type", "name", "is_observed", "kwargs", "infer", "done", "stop", "mask"):
        assert ours[field] == theirs[field], field
    assert ours["args"][0] == theirs["args"][0] and torch.equal(ours["args"][1], theirs["args"][1])
    assert ours["cond_indep_stack"] == theirs["cond_indep_stack"]
    assert torch.equal(ours["value"], theirs["value"])
    assert torch.equal(ours["value"].unconstrained(), theirs["value"].unconstrained())


def test_trace_and_block_capture_parameters_as_in_the_seed():
    def model():
        loc = yield cp.param("loc", 0.5)
        scale = yield cp.param("scale", 2.0, constraint=constraints.positive)
        yield cp.sample("x", dist.Normal(loc, scale))
        yield cp.param("loc")

    with poutine.trace() as capture, poutine.block(hide_fn=lambda node: node["type"] != "param"):
        inner = poutine.trace(model).get_trace()
    assert list(capture.trace.nodes) == ["loc", "scale"]
    leaves = {node["value"].unconstrained() for node in capture.trace.nodes.values()}
    assert leaves == {leaf for _, leaf in cp.get_param_store().named_parameters()}
    assert inner.param_nodes == ["loc", "scale"] and inner.stochastic_nodes == ["x"]


def test_param_only_traces_parameters_only():
    def model():
        p = yield cp.param("p", 0.5)
        yield cp.sample("x", dist.Bernoulli(p))

    assert list(poutine.trace(model, param_only=True).get_trace().nodes) == ["p"]


def test_handlers_decide_a_parameter_as_in_pyro():
    def model():
        return (yield cp.param("p", torch.tensor(0.5)))

    assert cp.run(poutine.replay(model, params={"p": torch.tensor(2.0)})).item() == 2.0
    assert len(cp.get_param_store()) == 0


def two_choices():
    p = yield cp.param("p", torch.tensor([0.25, 0.5]), constraint=constraints.unit_interval)
    w = yield cp.param("w", torch.tensor(0.5, dtype=torch.float64))
    a = yield cp.sample("a", dist.Bernoulli(p[0]))
    q = yield cp.param("p")
    b = yield cp.sample("b", dist.Bernoulli(q[1]))
    return a, b, p, q, w


def test_branches_share_parameters(capture):
    posterior = cp.infer.enumerate(two_choices)()
    leaf = cp.get_param_store()["p"].unconstrained()
    weight = cp.get_param_store()["w"]
    assert posterior.executions == 4 and posterior.exact
    for execution in posterior.most_probable(4):
        _, _, p, q, w = execution.value
        assert p.unconstrained() is q.unconstrained() is leaf
        assert w is weight


def test_gradients_flow_to_a_parameter_through_every_branch(capture):
    posterior = cp.infer.enumerate(two_choices)()
    total = sum(
        (p * torch.tensor([1.0, 10.0])).sum() * w for *_, p, _, w in posterior.tree.leaf_values
    )
    total.backward()
    p = torch.tensor([0.25, 0.5])
    expected = 4 * 0.5 * p * (1 - p) * torch.tensor([1.0, 10.0])
    assert torch.allclose(cp.get_param_store()["p"].unconstrained().grad, expected)
    assert cp.get_param_store()["w"].grad.item() == pytest.approx(4 * (0.25 + 5.0))


def test_a_parameter_made_in_one_branch_is_there_in_the_next(capture):
    calls = []

    def model():
        a = yield cp.sample("a", dist.Flip(0.5))
        p = yield cp.param("p", lambda: calls.append(1) or torch.tensor(0.25))
        b = yield cp.sample("b", dist.Bernoulli(p))
        return a, b.item()

    posterior = cp.infer.enumerate(model)()
    assert len(calls) == 1
    assert posterior.marginal("b")[torch.tensor(1.0)] == pytest.approx(0.25)


def test_a_control_handler_that_resumes_twice_finds_the_same_parameter(capture):
    choose = cp.operation("choose")

    class Both(cp.Handler):
        def on_choose(self, msg, k):
            return (yield k(0)) + (yield k(1)) + (yield k(2))

        def on_return(self, value):
            return [value]

    def model():
        p = yield cp.param("p", 2.0, constraint=constraints.positive)
        i = yield choose()
        q = yield cp.param("p")
        return i, p, q

    found = cp.run(cp.handle(Both(), model))
    leaf = cp.get_param_store()["p"].unconstrained()
    assert [i for i, _, _ in found] == [0, 1, 2]
    assert all(p.unconstrained() is q.unconstrained() is leaf for _, p, q in found)


def test_what_a_handler_around_the_enumeration_says_is_what_each_branch_gets(capture):
    with poutine.trace(param_only=True) as outside, poutine.replay(params={"w": torch.tensor(7.0)}):
        posterior = cp.infer.enumerate(two_choices)()
    assert {w.item() for *_, w in posterior.tree.leaf_values} == {7.0}
    leaf = cp.get_param_store()["p"].unconstrained()
    assert all(p.unconstrained() is leaf for _, _, p, *_ in posterior.tree.leaf_values)
    assert outside.trace.nodes["p"]["value"].unconstrained() is leaf
    assert outside.trace.nodes["w"]["value"].item() == 7.0


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [cp.run, lambda model: cp.infer.enumerate(model)()])
def test_a_bad_initial_value_is_raised_in_the_model_at_its_line(run):
    seen = []

    def model():
        yield cp.param("good", 1.0)
        with poutine.block():
            pass
        try:
            with poutine.condition(data={}):
                yield cp.param("scale", -1.0, constraint=constraints.positive)
        except ParamError as error:
            seen.append(error)
            raise
        yield cp.sample("x", dist.Flip(0.5))

    with pytest.raises(ParamError, match=r"'scale' lies outside its constraint GreaterThan.*-1\.0"):
        run(model)
    assert len(seen) == 1 and AMBIENT.get() == ()
    assert list(cp.get_param_store()) == ["good"]
    frames = [frame.name for frame in traceback.extract_tb(seen[0].__traceback__)]
    assert "model" in frames


def test_a_model_can_go_on_after_a_bad_parameter():
    def model():
        try:
            return (yield cp.param("scale", -1.0, constraint=constraints.positive))
        except ParamError:
            return (yield cp.param("scale", 1.0, constraint=constraints.positive))

    assert cp.run(model).item() == pytest.approx(1.0)


def test_a_store_loaded_from_another_model_is_refused_where_the_model_asks():
    def model():
        yield cp.param("loc", torch.zeros(2))

    cp.get_param_store().set_state(
        {"params": {"loc": torch.zeros(5)}, "constraints": {"loc": constraints.real}}
    )
    with pytest.raises(ParamMismatchError, match=r"'loc' is in the store with the shape \(5,\)"):
        cp.run(model)
    assert cp.get_param_store()["loc"].shape == (5,)


def test_a_forgotten_yield_is_reported():
    def model():
        scale = cp.param("scale", 1.0)
        return scale * 2.0
        yield

    with pytest.raises(UnperformedEffectError, match=r"param\('scale'"):
        cp.run(model)


def test_a_name_that_is_no_string_is_refused_at_once():
    with pytest.raises(TypeError, match="name of a parameter"):
        cp.param(torch.tensor(1.0))


# --- parameters under enumeration, in whatever way a branch is resumed ------------------------


def outcomes(model, *args):
    marginal = cp.infer.enumerate(model)(*args).marginal()
    return {value: round(marginal[value], 9) for value in marginal}


def test_a_branch_that_has_to_be_replayed_reads_its_parameters_again(capture):
    def model():
        p = yield cp.param("p", 0.25, constraint=constraints.unit_interval)
        total = torch.zeros(())
        a = yield cp.sample("a", dist.Bernoulli(p))
        total += a  # in place: the other branches are rebuilt by replay
        q = yield cp.param("q", lambda: torch.tensor(0.5))
        b = yield cp.sample("b", dist.Bernoulli(q))
        total += b
        return total.item(), p.unconstrained() is cp.get_param_store()["p"].unconstrained()

    if STRATEGY.get() == "clone":
        with pytest.raises(CaptureError):
            cp.infer.enumerate(model)()
        return
    assert outcomes(model) == pytest.approx(
        {(0.0, True): 0.375, (1.0, True): 0.5, (2.0, True): 0.125}
    )


def test_a_handler_inside_sees_each_read_in_each_branch(capture):
    class Reads(cp.Messenger):
        def __init__(self):
            self.seen = []

        def _pyro_param(self, msg):
            assert msg["value"] is None
            self.seen.append("up")

        def _pyro_post_param(self, msg):
            self.seen.append(round(msg["value"].item(), 3))

    def model():
        with Reads() as reads:
            a = yield cp.sample("a", dist.Flip(0.5))
            yield cp.param("x", 1.0)
            b = yield cp.sample("b", dist.Flip(0.5))
            yield cp.param("y", 2.0)
        return (a, b, *reads.seen)

    found = {value[2:] for value in outcomes(model)}
    assert found == {("up", 1.0, "up", 2.0)}


def test_trace_inside_an_enumerated_model_records_parameters(capture):
    def inner():
        p = yield cp.param("p", 0.25)
        return (yield cp.sample("a", dist.Bernoulli(p)))

    def model():
        with poutine.trace() as tr:
            yield inner()
        return tuple(tr.trace.param_nodes), tr.trace.nodes["p"]["value"].item()

    assert outcomes(model) == {(("p",), 0.25): 1.0}


def test_a_parameter_that_a_handler_makes_a_sample_is_enumerated(capture):
    class Lift(cp.Messenger):
        def _pyro_param(self, msg):
            msg["type"], msg["fn"], msg["args"], msg["kwargs"] = "sample", dist.Flip(0.25), (), {}

    def model():
        with poutine.trace() as tr, Lift():
            p = yield cp.param("p", 1.0)
        return p, tr.trace.stochastic_nodes[0]

    assert outcomes(model) == {(True, "p"): 0.25, (False, "p"): 0.75}
    assert len(cp.get_param_store()) == 0


def test_a_hidden_parameter_is_read_and_nobody_outside_hears_of_it(capture):
    def model():
        with poutine.trace() as tr, poutine.block(hide=["p"]):
            p = yield cp.param("p", 0.25)
            a = yield cp.sample("a", dist.Bernoulli(p))
        return a.item(), tuple(tr.trace.nodes)

    assert outcomes(model) == {(1.0, ("a",)): 0.25, (0.0, ("a",)): 0.75}


def test_an_error_of_a_parameter_is_raised_in_the_branch_that_reads_it(capture):
    def model():
        a = yield cp.sample("a", dist.Flip(0.5))
        try:
            with poutine.condition(data={}):
                yield cp.param("s", 1.0 if a else -1.0, constraint=constraints.positive)
        except ParamError:
            return "refused"
        yield cp.sample("b", dist.Flip(0.5))
        return "taken"

    # true comes last, or else the first branch's parameter would be there for the second
    assert set(outcomes(model)) <= {"refused", "taken"}
    assert AMBIENT.get() == ()


def test_an_error_that_leaves_the_model_names_the_execution(capture):
    def model():
        yield cp.sample("a", dist.Flip(0.5))
        yield cp.param("nowhere")

    with pytest.raises(UnknownParamError) as caught:
        cp.infer.enumerate(model)()
    assert any("a=" in note for note in caught.value.__notes__)


def test_a_request_for_a_parameter_is_performed_once(capture):
    def model():
        request = cp.param("p", 1.0)
        yield request
        yield cp.sample("a", dist.Flip(0.5))
        yield request

    with pytest.raises(BadYieldError, match="second"):
        cp.infer.enumerate(model)()


def test_a_handler_cannot_make_a_parameter_anything_else(capture):
    class Odd(cp.Messenger):
        def _pyro_param(self, msg):
            msg["type"] = "sample"
            msg["fn"] = None
            msg["args"], msg["kwargs"] = (), {}

    def model():
        with Odd():
            yield cp.param("p", 1.0)

    with pytest.raises(DistributionError):
        cp.infer.enumerate(model)()


def test_a_constraint_that_a_model_makes_and_holds_is_shared_by_its_branches(capture):
    def model():
        low = yield cp.sample("low", dist.Finite({0.0: 0.5, 1.0: 0.5}))
        inside = constraints.interval(low, 3.0)
        yield cp.sample("a", dist.Flip(0.5))
        x = yield cp.param(f"x{low:.0f}", 2.0, constraint=inside)
        return low, round(x.item(), 4)

    assert outcomes(model) == {(0.0, 2.0): 0.5, (1.0, 2.0): 0.5}


def test_a_block_around_an_enumeration_hides_from_the_handlers_around_it(capture):
    def model():
        a = yield cp.sample("a", dist.Flip(0.5))
        yield cp.param("p", 1.0)
        yield cp.sample("b", dist.Flip(0.5))
        return a

    with poutine.trace() as captured, poutine.block(hide_fn=lambda msg: msg["type"] != "param"):
        posterior = cp.infer.enumerate(model)()
    assert posterior.executions == 4
    assert list(captured.trace.nodes) == ["p"]
