"""Programs that gave wrong answers once, held against `cp.run` in every loop and order."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import defaultdict

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.native import native
from contpoutine.errors import (
    BadWeightError,
    BadYieldError,
    BarrierError,
    EmptySupportError,
    UnperformedEffectError,
)
from contpoutine.infer.driver import Driver
from contpoutine.infer.explorer import Explorer
from contpoutine.infer.native_explorer import NativeExplorer

ORDERS = ("depth_first", "breadth_first", "likely_first")
LOOPS = (Explorer, NativeExplorer) if native is not None else (Explorer,)


class Answers(cp.Messenger):
    """Gives the choices from a list, and stops the run where it ends."""

    class Ask(Exception):
        pass

    def __init__(self, answers):
        self.left, self.weight = list(answers), 0.0

    def _process_message(self, msg):
        if msg["type"] != "sample":
            return
        if not msg["is_observed"] and msg["value"] is None:
            if not self.left:
                raise self.Ask(len(msg["fn"].values))
            msg["value"] = msg["fn"].values[self.left.pop(0)]
        self.weight += msg["fn"].log_weight(msg["value"])


def by_running(make):
    """Weights of the return values, by a fresh model and a fresh run for each path."""
    table, prefixes = defaultdict(float), [()]
    while prefixes:
        prefix = prefixes.pop()
        answers = Answers(prefix)
        try:
            with answers:
                value = cp.run(make())
        except Answers.Ask as ask:
            prefixes += [(*prefix, pick) for pick in range(ask.args[0])]
        else:
            table[value] += math.exp(answers.weight)
    return dict(table)


def check(make, strategies=("auto", "replay")):
    expected = by_running(make)
    for order in ORDERS:
        for loop in LOOPS:
            for capture in strategies:
                if loop is not Explorer and capture == "replay":
                    continue
                explorer = loop(Driver(make(), (), {}, capture), order)
                assert explorer.run()
                got = defaultdict(float)
                for value, weight in zip(
                    explorer.tree().leaf_values, explorer.tree().leaf_log_weights
                ):
                    got[value] += math.exp(weight)
                assert dict(got) == pytest.approx(expected), (order, loop.__name__, capture)


def flip(name):
    return cp.sample(name, dist.Flip(0.5))


ask = cp.operation("ask")


class One(cp.Handler):
    def on_ask(self, msg, k):
        return (yield k(1))


def test_an_object_handed_to_a_handled_model_in_a_deep_call_is_one_object():
    def inner(xs):
        xs.append((yield flip("c")))
        yield ask()
        xs.append((yield flip("d")))

    def sub():
        xs = [(yield flip("a"))]
        yield cp.handle(One(), inner)(xs)
        return tuple(xs)

    def model():
        return (yield sub())

    check(lambda: model)


def test_an_object_handed_to_an_effect_in_a_deep_call_is_one_object():
    push = cp.effectful(lambda xs, x: xs.append(x), type="push")

    def sub():
        xs = [(yield flip("a"))]
        b = yield flip("b")
        yield push(xs, 7)
        return (*xs, b)

    def model():
        return (yield sub())

    # A replay answers the effect from its record and does not repeat what its default did to xs.
    check(lambda: model, strategies=("auto",))


def test_the_first_tensor_of_a_process_is_watched():
    code = """
import contpoutine as cp, contpoutine.distributions as dist, torch
def model():
    t = torch.zeros(1)
    x = yield cp.sample("x", dist.Flip(0.5))
    t += 1 if x else 2
    return t.item()
print(sorted(cp.infer.enumerate(model)().marginal()))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "[1.0, 2.0]", printed.stderr


class Keeps(cp.Messenger):
    def __enter__(self):
        self.last, self.seen = None, []
        return super().__enter__()

    def _pyro_sample(self, msg):
        self.last = msg

    def _pyro_post_sample(self, msg):
        self.seen.append((msg["name"], self.last["value"]))


def test_a_handler_may_keep_the_message_on_its_way_up():
    def model():
        with Keeps() as kept:
            yield flip("a")
            yield flip("b")
        return tuple(kept.seen)

    check(lambda: model)


def test_a_model_may_draw_one_of_its_own_objects_and_change_it():
    def model():
        a, b = [0], [1]
        x = yield cp.sample("x", dist.UniformDraw([a, b]))
        x.append(5)
        y = yield cp.sample("y", dist.UniformDraw([a, b]))
        y.append(6)
        return tuple(a), tuple(b)

    check(lambda: model)


def test_a_model_may_change_what_it_has_drawn():
    def urn():
        bag = yield cp.sample("bag", dist.Finite([(["r", "b"], 0.5), (["r", "r"], 0.5)]))
        drawn = []
        for i in range(2):
            drawn.append(bag.pop((yield cp.sample(f"i{i}", dist.RandInt(0, len(bag))))))
        return tuple(drawn)

    check(lambda: urn)


@pytest.mark.skipif(native is None, reason="without the extension outside and owned look alike")
def test_a_distribution_outside_keeps_its_values():
    outside = dist.UniformDraw([[0], [1]])

    def model():
        x = yield cp.sample("x", outside)
        x.append((yield flip("y")))
        return tuple(x)

    for capture in ("auto", "replay"):
        for order in ORDERS:
            marginal = cp.infer.enumerate(model, order=order, capture=capture)().marginal()
            assert sorted(marginal) == [(0, False), (0, True), (1, False), (1, True)]
            assert list(outside.values) == [[0], [1]]


def test_what_a_deterministic_site_named_is_recorded_as_it_was():
    def model():
        xs = []
        yield cp.deterministic("empty", xs)
        xs.append((yield flip("a")))
        return len(xs)

    for capture in ("auto", "replay"):
        assert list(cp.infer.enumerate(model, capture=capture)().marginal("empty")) == [[]]


def test_a_model_may_catch_what_an_effect_raises():
    boom = cp.effectful(lambda: 1 / 0, type="boom")

    def model():
        a = yield flip("a")
        try:
            yield boom()
        except ZeroDivisionError:
            return "caught", a

    check(lambda: model)


@pytest.mark.parametrize("capture", ["auto", "replay"])
def test_one_request_yielded_twice_is_refused(capture):
    def model():
        request = flip("a")
        return (yield request), (yield request)

    with pytest.raises(BadYieldError, match="second time"):
        cp.infer.enumerate(model, capture=capture)()
    with pytest.raises(BadYieldError, match="second time"):
        cp.run(model)


@pytest.mark.parametrize("scale", [math.nan, -1.0, math.inf])
def test_a_scale_that_is_no_scale_is_refused(scale):
    class Scaled(cp.Messenger):
        def _pyro_sample(self, msg):
            msg["scale"] = scale

    def model():
        with Scaled():
            return (yield flip("a"))

    with pytest.raises(BadWeightError, match="scale"):
        cp.infer.enumerate(model)()


def test_a_plain_clause_around_samples_is_refused_and_draws_nothing():
    class Reader(cp.Handler):
        def on_ask(self, msg, k):
            return k(1)

    def model():
        yield ask()
        x = yield flip("x")
        yield cp.observe("o", dist.Flip(0.9 if x else 0.1), True)
        return x

    for capture in ("auto", "replay"):
        with pytest.raises(BarrierError, match="Reader.on_ask"):
            cp.infer.enumerate(cp.handle(Reader(), model), capture=capture)()


def test_an_observation_in_a_model_that_is_run_by_a_plain_call_is_not_lost():
    def observing():
        yield cp.observe("o", dist.Flip(0.25), True)

    def model():
        cp.run(observing)
        return (yield flip("x"))

    def tracing():
        poutine.trace(observing).get_trace()
        return (yield flip("x"))

    for wrong in (model, tracing):
        with pytest.raises(BarrierError):
            cp.infer.enumerate(wrong)()


def test_a_request_that_is_returned_is_no_answer():
    def model():
        for x in cp.sample("x", dist.Flip(0.5)):
            pass
        return x
        yield

    for capture in ("auto", "replay"):
        with pytest.raises(UnperformedEffectError):
            cp.infer.enumerate(model, capture=capture)()


def test_requests_that_are_no_sites_do_not_crash():
    def nameless():
        yield cp.Message(type="sample", fn=dist.Flip(0.5))

    def unfilled():
        yield cp.sample("x", object.__new__(dist.Finite))

    def empty():
        class Empty:
            has_enumerate_support = True

            def log_prob(self, value):
                return 0.0

            def enumerate_support(self):
                return ()

        yield cp.sample("x", Empty())

    for model, error in ((nameless, TypeError), (unfilled, Exception), (empty, EmptySupportError)):
        for capture in ("auto", "replay"):
            with pytest.raises(error):
                cp.infer.enumerate(model, capture=capture)()


def test_clone_means_that_a_tensor_changed_by_another_branch_is_an_error():
    if native is None:
        pytest.skip("there is no clone without the extension")

    def model():
        t = torch.zeros(())
        for i in range(2):
            t += yield cp.sample(f"x{i}", dist.Bernoulli(0.5))
        return float(t)

    with pytest.raises(cp.errors.CaptureError, match="changed a tensor in place"):
        cp.infer.enumerate(model, capture="clone")()


@pytest.mark.skipif(native is None, reason="about clones")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("refused_from", range(1, 6))
def test_an_object_that_refuses_to_be_forked_later_falls_back_on_replay(order, refused_from):
    class Moody:
        asked = 0

        def __fork__(self, memo):
            Moody.asked += 1
            if Moody.asked >= refused_from:
                raise cp.errors.CaptureError("not now")
            return Moody()

    def inner():
        return (yield flip("b")), (yield flip("c"))

    def model():
        mood = Moody()
        a = yield flip("a")
        try:
            pair = yield inner()
        except Exception as error:
            return error
        return a, *pair, type(mood) is Moody

    marginal = cp.infer.enumerate(model, order=order)().marginal()
    assert len(marginal) == 8
    assert all(p == pytest.approx(0.125) for p in marginal.values())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("capture", ["auto", "replay"])
def test_a_distribution_of_the_users_own_that_counts_is_right_in_every_branch(order, capture):
    class Urn(torch.distributions.Distribution):
        """Two colours; each draw that is seen adds a ball of its colour."""

        has_enumerate_support = True
        arg_constraints = {}

        def __init__(self):
            super().__init__(validate_args=False)
            self.balls = [1.0, 1.0]

        def enumerate_support(self, expand=True):
            return torch.tensor([0.0, 1.0])

        def log_prob(self, value):
            return torch.log(torch.tensor(self.balls, dtype=torch.float64) / sum(self.balls))[
                value.long()
            ]

    def model():
        urn, seen = Urn(), []
        for i in range(3):
            x = int((yield cp.sample(f"x{i}", urn)))
            urn.balls[x] += 1
            seen.append(x)
        return sum(seen)

    marginal = cp.infer.enumerate(model, order=order, capture=capture)().marginal()
    assert dict(marginal) == pytest.approx(dict.fromkeys(range(4), 0.25))


@pytest.mark.parametrize("order", ORDERS)
def test_gradients_are_on_again_after_a_branch_was_given_up_without_them(order):
    def model():
        a = yield flip("a")
        with torch.no_grad():
            yield cp.observe("never", dist.Flip(1.0 if a else 0.0), True)
            yield flip("b")

    cp.infer.enumerate(model, order=order, max_executions=1)()
    assert torch.is_grad_enabled()


def test_a_failed_search_does_not_claim_to_be_complete():
    def model():
        a = yield flip("a")
        return 1 / a

    for loop in LOOPS:
        explorer = loop(Driver(model, (), {}, "auto"), "depth_first")
        with pytest.raises(ZeroDivisionError):
            explorer.run()
        with pytest.raises(RuntimeError):
            explorer.run()
