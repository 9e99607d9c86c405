"""trace records an execution; under enumeration every branch has a record of its own, at O(1)."""

from __future__ import annotations

import functools
import math

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.errors import DuplicateSiteError, NotAModelError
from contpoutine.poutine.trace_messenger import TraceHandler, TraceMessenger
from tests.models.corpus import flips, sprinkler

ORDERS = ["depth_first", "breadth_first", "likely_first"]


def two(p=0.5):
    a = yield cp.sample("a", dist.Flip(p))
    b = yield cp.sample("b", dist.Flip(0.25 if a else 0.75))
    return a, b


def branching():
    """As many sites as the first answers say."""
    with poutine.trace() as tr:
        n = yield cp.sample("n", dist.RandInt(3))
        for i in range(n):
            yield cp.sample(f"x{i}", dist.Flip(0.3))
        yield cp.observe("y", dist.Flip(0.9 if n else 0.2), True)
    return tuple((name, tr.trace.nodes[name]["value"]) for name in tr.trace), tr.trace


@pytest.mark.parametrize("order", ORDERS)
def test_each_branch_has_its_own_trace(order, capture):
    def model():
        _, trace = yield from branching()
        return tuple((name, trace.nodes[name]["value"]) for name in trace), float(
            trace.log_prob_sum()
        )

    posterior = cp.infer.enumerate(model, order=order, capture=capture)()
    leaves = list(posterior.marginal().items())
    assert len(leaves) == 1 + 2 + 4
    evidence = math.exp(posterior.log_evidence)
    for (values, log_prob), probability in leaves:
        named = dict(values)
        assert list(named) == ["n", *(f"x{i}" for i in range(named["n"])), "y"]
        assert math.exp(log_prob) == pytest.approx(probability * evidence)


@pytest.mark.parametrize("order", ORDERS)
def test_a_model_under_trace_is_enumerated_like_the_model(order, capture):
    for model, args in ((sprinkler, ()), (flips, (4,))):
        plain = cp.infer.enumerate(model, order=order, capture=capture)(*args)
        traced = cp.infer.enumerate(poutine.trace(model), order=order, capture=capture)(*args)
        assert dict(plain.marginal()) == pytest.approx(dict(traced.marginal()))


def test_a_sub_models_trace_is_of_the_branch_that_it_ran_in(capture):
    def model():
        handler = poutine.trace(two)
        value = yield handler()
        c = yield cp.sample("c", dist.Flip(0.5))
        return value, c, tuple(handler.trace.nodes[name]["value"] for name in "ab")

    posterior = cp.infer.enumerate(model, capture=capture)()
    assert all(value == recorded for value, _, recorded in posterior.marginal())
    assert len(posterior.marginal()) == 8


def test_values_that_a_model_changes_in_place_are_recorded_for_each_branch(capture):
    def model():
        seen = []
        with poutine.trace() as tr:
            yield cp.deterministic("seen", seen)
            for i in range(3):
                seen.append((yield cp.sample(f"x{i}", dist.Flip(0.5))))
        return tuple(seen), tuple(tr.trace.nodes["seen"]["value"])

    posterior = cp.infer.enumerate(model, capture=capture)()
    assert len(posterior.marginal()) == 8
    assert all(seen == recorded for seen, recorded in posterior.marginal())


def test_a_trace_that_was_looked_at_midway_goes_on_in_each_branch(capture):
    def model():
        with poutine.trace() as tr:
            yield cp.sample("a", dist.Flip(0.5))
            early = tr.trace
            early.add_node("extra", type="note", name="extra", value=0)
            yield cp.sample("b", dist.Flip(0.5))
            yield cp.sample("c", dist.Flip(0.5))
        assert tr.trace is early
        return tuple((name, early.nodes[name]["value"]) for name in early)

    posterior = cp.infer.enumerate(model, capture=capture)()
    assert len(posterior.marginal()) == 8
    for values in posterior.marginal():
        assert [name for name, _ in values] == ["a", "extra", "b", "c"]


class CountingMemo:
    """A fork's memo that shares everything and counts what it is asked."""

    def __init__(self):
        self.asked = 0

    def record(self, old, new):
        pass

    def __call__(self, value):
        self.asked += 1
        return value


def test_forking_a_recorder_costs_the_same_however_much_it_has_recorded():
    asked = []
    for length in (1, 10_000):
        tracer = TraceMessenger()
        with tracer:
            cp.run(flips, length)
        memo = CountingMemo()
        fresh = tracer.__fork__(memo)
        assert fresh is not tracer and fresh._newest is tracer._newest
        asked.append(memo.asked)
        assert len(fresh.trace) == length
    assert asked[0] == asked[1]


# --- recording ------------------------------------------------------------------------------


def test_entering_starts_afresh():
    tracer = TraceMessenger()
    assert len(tracer.trace) == 0
    for _ in range(2):
        with tracer:
            cp.run(two)
        assert list(tracer.trace) == ["a", "b"]


def test_get_trace_of_the_context_manager_is_a_copy():
    with poutine.trace() as tr:
        cp.run(two)
    copy = tr.get_trace()
    copy.remove_node("a")
    assert "a" in tr.trace and tr.trace is tr.trace


def test_a_trace_asked_for_while_recording_sees_what_comes_later():
    def model():
        with poutine.trace() as tr:
            early = tr.trace
            yield cp.sample("a", dist.Flip(0.5))
        return early is tr.trace and list(early)

    assert cp.run(model) == ["a"]


def test_input_and_return_are_nodes():
    trace = poutine.trace(two).get_trace(p=1.0)
    assert trace.nodes["_INPUT"]["kwargs"] == {"p": 1.0}
    assert trace.nodes["_RETURN"]["value"][0] is True


def test_sites_marked_do_not_trace_are_left_out():
    def model():
        yield cp.sample("a", dist.Flip(0.5), infer={"_do_not_trace": True, "is_auxiliary": True})
        yield cp.sample("b", dist.Flip(0.5))

    assert list(poutine.trace(model).get_trace()) == ["_INPUT", "b", "_RETURN"]


def test_param_only_records_parameters():
    param = cp.effectful(lambda value: value, type="param")

    def model():
        w = yield param(2.0, name="w")
        yield cp.sample("a", dist.Flip(0.5))
        return w

    assert list(poutine.trace(model, param_only=True).get_trace()) == ["w"]
    assert list(poutine.trace(model).get_trace()) == ["_INPUT", "w", "a", "_RETURN"]
    with poutine.trace(param_only=True) as tr:
        cp.run(model)
    assert list(tr.trace) == ["w"]


def test_a_subclass_may_record_by_itself_and_forks_with_its_state(capture):
    class Counting(TraceMessenger):
        def __enter__(self):
            self.count = []
            return super().__enter__()

        def _pyro_post_sample(self, msg):
            self.count.append(msg["name"])
            self.trace.add_node(msg["name"], **msg.copy())

    def model():
        with Counting() as tr:
            yield from two()
        return tuple(tr.count), tuple(tr.trace.nodes[name]["value"] for name in tr.trace)

    posterior = cp.infer.enumerate(model, capture=capture)()
    assert len(posterior.marginal()) == 4
    assert {count for count, _ in posterior.marginal()} == {("a", "b")}


def test_a_duplicate_is_found_when_the_trace_is_asked_for():
    def model():
        for _ in range(3):
            yield cp.sample("x", dist.Flip(0.5))

    with poutine.trace() as tr:
        cp.run(model)
    with pytest.raises(DuplicateSiteError):
        tr.trace  # noqa: B018
    with poutine.trace() as tr:
        assert len(tr.trace) == 0
        with pytest.raises(DuplicateSiteError):
            cp.run(model)


# --- the handler is a model -----------------------------------------------------------------


class Model:
    def __init__(self, p):
        self.p = p

    def method(self):
        return (yield from two(self.p))

    def __call__(self):
        return (yield from two(self.p))

    @poutine.trace
    def traced(self):
        return (yield from two(self.p))


@pytest.mark.parametrize(
    "model",
    [
        functools.partial(two, 1.0),
        Model(1.0),
        Model(1.0).method,
        Model(1.0).traced,
        lambda: two(1.0),
        poutine.trace(functools.partial(two, 1.0)),
        poutine.condition(functools.partial(two, 1.0), data={}),
    ],
)
def test_every_kind_of_model_is_traced_and_stays_a_model(model):
    handler = poutine.trace(model)
    assert isinstance(handler, TraceHandler)
    trace = handler.get_trace()
    assert list(trace) == ["_INPUT", "a", "b", "_RETURN"]
    assert cp.run(handler)[0] is True

    def outer():
        return (yield handler())

    assert cp.run(outer)[0] is True
    assert list(poutine.trace(poutine.block(handler, hide=["a"])).get_trace()) == [
        "_INPUT",
        "b",
        "_RETURN",
    ]
    assert cp.infer.enumerate(handler)().marginal("b")[True] == pytest.approx(0.25)


def test_it_keeps_the_models_name_and_words():
    handler = poutine.trace(flips)
    assert handler.__name__ == "flips" and handler.__wrapped__ is flips
    assert repr(handler) == "trace(flips)"


def test_after_an_exception_the_record_up_to_it_is_there():
    def model():
        yield cp.sample("a", dist.Flip(0.5))
        raise KeyError("b")

    handler = poutine.trace(model)
    with pytest.raises(KeyError):
        cp.run(handler)
    assert list(handler.trace) == ["_INPUT", "a"]


def test_what_is_no_model_is_refused():
    with pytest.raises(NotAModelError, match="option=..."):
        poutine.trace({"a": 1})
    with pytest.raises(NotAModelError, match="gave 3"):
        cp.run(poutine.trace(len), "abc")


def test_a_function_that_performs_nothing_has_a_trace_without_sites():
    nodes = poutine.trace(len).get_trace("abc").nodes
    assert list(nodes) == ["_INPUT", "_RETURN"] and nodes["_RETURN"]["value"] == 3
