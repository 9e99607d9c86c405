"""poutine.queue resumes suspended executions, and cannot be told from a queue that replays."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import pickle
import queue
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.errors import EmptyQueueError, MaxTriesError, OverruledError, TraceMismatchError
from contpoutine.poutine.util import all_escape, enum_extend, mc_extend
from tests.capture.law import WORKING, strategy
from tests.models.corpus import (
    closures,
    flips,
    half_built,
    lazy_streams,
    owned_list,
    sprinkler,
    try_finally,
    unequal_depths,
    weighted,
)
from tests.poutine.replay_queue import executions, iterate, log_probs, replay_queue, sites


class LikelyFirst:
    """A priority queue of traces, heaviest first; of equal ones the first that was put."""

    def __init__(self):
        self._heap, self._count = [], itertools.count()

    def put(self, trace):
        heapq.heappush(self._heap, (-float(trace.log_prob_sum()), next(self._count), trace))

    def get(self):
        return heapq.heappop(self._heap)[2]

    def empty(self):
        return not self._heap


QUEUES = [queue.Queue, queue.LifoQueue, LikelyFirst]


def geometric(n):
    count = 0
    while count < n and not (yield cp.sample(f"stop{count}", dist.Flip(0.5))):
        count += 1
    return count


def two_observations():
    a = yield cp.sample("a", dist.Flip(0.3))
    yield cp.sample("y", dist.Flip(0.9 if a else 0.2), obs=True)
    b = yield cp.sample("b", dist.UniformDraw("xyz"))
    yield cp.factor("f", -1.0 if b == "x" else 0.5)
    yield cp.deterministic("both", (a, b))
    c = yield cp.sample("c", dist.Flip(0.5 if a else 0.25))
    return a, b, c


def named_tree(depth, name="n"):
    if depth == 0 or not (yield cp.sample(name, dist.Flip(0.5))):
        return 1
    left = yield named_tree(depth - 1, name + "l")
    return left + (yield from named_tree(depth - 1, name + "r"))


MODELS = [
    (flips, (4,)),
    (sprinkler, ()),
    (closures, ()),
    (half_built, ()),
    (weighted, ()),
    (unequal_depths, ()),
    (geometric, (5,)),
    (two_observations, ()),
    (named_tree, (2,)),
]


@pytest.mark.parametrize("make_queue", QUEUES)
@pytest.mark.parametrize(("model", "args"), MODELS, ids=lambda p: getattr(p, "__name__", None))
def test_it_gives_the_traces_of_a_replay_queue_in_the_same_order(model, args, make_queue, capture):
    ours = executions(poutine.queue, model, args, make_queue)
    theirs = executions(replay_queue, model, args, make_queue)
    assert [sites(trace) for trace in ours] == [sites(trace) for trace in theirs]
    assert log_probs(ours) == log_probs(theirs)


def make_wild(seed):
    """A queue that gives any of its traces, drops some and gives some twice; by its seed."""

    class Wild:
        def __init__(self):
            self.random, self.items = random.Random(seed), []

        def put(self, trace):
            self.items += [trace] * self.random.choice([0, 1, 1, 1, 1, 1, 2])

        def get(self):
            return self.items.pop(self.random.randrange(len(self.items)))

        def empty(self):
            return not self.items

    return Wild


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(MODELS), st.sampled_from(WORKING))
def test_whatever_the_queue_does_it_is_what_a_replay_queue_does(seed, case, capture):
    model, args = case

    def found(made):
        traces = []
        try:
            for trace in iterate(made, model, args, make_wild(seed)):
                traces.append(sites(trace))
        except (EmptyQueueError, ValueError):  # everything was dropped
            traces.append("empty")
        return traces

    with strategy(capture):
        assert found(poutine.queue) == found(replay_queue)


@pytest.mark.parametrize("make_queue", QUEUES)
@pytest.mark.parametrize(("model", "args"), MODELS, ids=lambda p: getattr(p, "__name__", None))
def test_its_weights_are_those_of_the_enumeration(model, args, make_queue):
    traces = executions(poutine.queue, model, args, make_queue)
    posterior = cp.infer.enumerate(model)(*args)
    total = math.fsum(math.exp(weight) for weight in log_probs(traces))
    assert total == pytest.approx(math.exp(posterior.log_evidence), rel=1e-12)


@pytest.mark.clones("every second resumption is a replay")
@pytest.mark.parametrize("make_queue", [queue.Queue, queue.LifoQueue])
def test_twelve_flips_run_the_model_once_and_visit_each_choice_once(make_queue):
    if not cp.capabilities().native:
        pytest.skip("without native capture every second resumption is a replay")
    seen = {"executions": 0, "choices": 0}

    def model():
        seen["executions"] += 1
        heads = 0
        for i in range(12):
            seen["choices"] += 1
            heads += yield cp.sample(f"x{i}", dist.Flip(0.3))
        return heads

    traces = executions(poutine.queue, model, make_queue=make_queue)
    assert len(traces) == 4096
    assert seen == {"executions": 1, "choices": 4095}
    assert math.fsum(map(math.exp, log_probs(traces))) == pytest.approx(1.0)


def test_code_before_a_choice_runs_once_so_an_unnamed_random_number_is_one(capture):
    def model():
        secret = random.random()
        a = yield cp.sample("a", dist.Flip(0.5))
        b = yield cp.sample("b", dist.Flip(0.5))
        return secret, a, b

    results = [trace.nodes["_RETURN"]["value"] for trace in executions(poutine.queue, model)]
    assert len({secret for secret, _, _ in results}) == 1
    assert len(set(results)) == 4


def test_an_execution_that_waits_in_the_queue_runs_no_clean_up(capture):
    """A queue that leaves by an exception runs `finally` at each choice, and asks for its site."""
    expected = cp.infer.enumerate(try_finally)().marginal()
    traces = executions(poutine.queue, try_finally)
    table = {
        trace.nodes["_RETURN"]["value"]: math.exp(weight)
        for trace, weight in zip(traces, log_probs(traces), strict=True)
    }
    assert len(traces) == len(table) == len(expected)
    assert all(table[value] == pytest.approx(expected[value]) for value in table)


def test_branches_do_not_see_each_others_lists(capture):
    for model in (owned_list, lazy_streams):
        renamed = poutine.block(unique_names(model), hide=[])
        results = [t.nodes["_RETURN"]["value"] for t in executions(poutine.queue, renamed)]
        assert sorted(results) == sorted(cp.infer.enumerate(model)().marginal())


def unique_names(model):
    """The model with its sites renamed, so that a trace can be recorded."""

    def renamed():
        body, value = model(), None
        for i in itertools.count():
            try:
                request = body.send(value)
            except StopIteration as stop:
                return stop.value
            request.perform()
            value = yield cp.sample(f"{request['name']}{i}", request["fn"])

    return renamed


@pytest.mark.parametrize("make_queue", QUEUES)
def test_a_tensor_changed_in_place_by_one_branch_is_not_seen_by_another(make_queue, capture):
    import torch

    if capture == "clone":
        pytest.skip("a branch that another has changed cannot be cloned")

    def model():
        total = torch.zeros(2)
        for i in range(3):
            total += (yield cp.sample(f"x{i}", dist.RandInt(2))) * 2**i
        return total.tolist()

    results = [
        t.nodes["_RETURN"]["value"] for t in executions(poutine.queue, model, (), make_queue)
    ]
    assert sorted(results) == [[float(n)] * 2 for n in range(8)]


def test_handlers_of_both_kinds_work_inside(capture):
    put, get = cp.operation("put"), cp.operation("get")

    class State(cp.Handler):
        def __init__(self, value):
            self.value = value

        def on_put(self, msg, k):
            self.value = msg["args"][0]
            return (yield k(None))

        def on_get(self, msg, k):
            return (yield k(self.value))

    def model():
        for i in range(2):
            x = yield cp.sample(f"x{i}", dist.RandInt(2))
            with poutine.condition(data={f"y{i}": x + 2}):
                y = yield cp.sample(f"y{i}", dist.RandInt(5))
            yield put((yield get()) + (x, y))
        return (yield get())

    def stateful():
        return (yield cp.handle(State(()), model)())

    traces = executions(poutine.queue, stateful)
    assert [trace.nodes["_RETURN"]["value"] for trace in traces] == [
        (a, a + 2, b, b + 2) for a, b in itertools.product(range(2), repeat=2)
    ]


# --- around the queue -----------------------------------------------------------------------


def hidden_coin():
    """Discrete choices around a continuous site, an observation and a deterministic site."""
    a = yield cp.sample("a", dist.Flip(0.5))
    z = yield cp.sample("z", dist.Normal(float(a), 1.0))
    yield cp.sample("y", dist.Normal(0.0, 1.0), obs=0.25)
    b = yield cp.sample("b", dist.Flip(0.25))
    yield cp.deterministic("sum", a + b)
    return a, float(z), b


@pytest.mark.parametrize("make_queue", QUEUES)
def test_continuous_sites_are_drawn_once_for_all_that_follows(make_queue, capture):
    traces = executions(poutine.queue, hidden_coin, (), make_queue)
    results = [trace.nodes["_RETURN"]["value"] for trace in traces]
    assert sorted((a, b) for a, _, b in results) == sorted(
        itertools.product([False, True], repeat=2)
    )
    assert len({(a, z) for a, z, _ in results}) == 2
    for trace in traces:
        assert list(trace) == ["_INPUT", "a", "z", "y", "b", "sum", "_RETURN"]
        assert float(trace.nodes["z"]["value"]) == trace.nodes["_RETURN"]["value"][1]
        assert trace.nodes["y"]["is_observed"]


class Log(poutine.messenger.Messenger):
    """Writes down what passes, and forgets when told to."""

    def __init__(self):
        self.up, self.down = [], []

    def _process_message(self, msg):
        self.up.append((msg["type"], msg["name"]))

    def _postprocess_message(self, msg):
        self.down.append((msg["name"], msg["value"], msg["done"]))

    def _reset(self):
        self.up.clear()
        self.down.clear()


@pytest.mark.parametrize("make_queue", QUEUES)
def test_a_handler_around_it_sees_each_execution_once_and_in_order(make_queue, capture):
    add = cp.effectful(lambda x, y: x + y, type="apply")

    def model():
        a = yield cp.sample("a", dist.RandInt(2))
        b = yield add(a, 1, name="b")
        c = yield cp.sample("c", dist.RandInt(2))
        return (yield add(b, c, name="d"))

    partial = make_queue()
    partial.put(poutine.Trace())
    explored = poutine.queue(model, queue=partial)
    results = []
    while not partial.empty():
        with Log() as log:
            results.append(cp.run(explored))
        assert log.up == [("sample", "a"), ("apply", "b"), ("sample", "c"), ("apply", "d")]
        values = [value for _, value, done in log.down if done]
        assert values[1] == values[0] + 1 and values[3] == values[1] + values[2] == results[-1]
    assert sorted(results) == [1, 2, 2, 3]


def test_a_trace_around_more_than_the_queue_keeps_what_was_before_it():
    def around(explored):
        yield cp.sample("before", dist.Flip(1.0))
        value = yield explored()
        yield cp.sample("after", dist.Flip(1.0))
        return value

    partial = queue.Queue()
    partial.put(poutine.Trace())
    explored = poutine.queue(two_observations, queue=partial)
    names = ["before", "a", "y", "b", "f", "both", "c", "after"]
    while not partial.empty():
        trace = poutine.trace(around).get_trace(explored)
        assert list(trace) == ["_INPUT", *names, "_RETURN"]


def test_block_around_the_queue_hides_its_sites():
    partial = queue.Queue()
    partial.put(poutine.Trace())
    explored = poutine.block(poutine.queue(two_observations, queue=partial), hide=["a", "y"])
    trace = poutine.trace(explored).get_trace()
    assert list(trace) == ["_INPUT", "b", "f", "both", "c", "_RETURN"]


def test_condition_around_the_queue_observes_what_the_queue_does_not_choose(capture):
    partial = queue.Queue()
    partial.put(poutine.Trace())
    explored = poutine.queue(hidden_coin, queue=partial)
    while not partial.empty():
        trace = poutine.trace(poutine.condition(explored, data={"z": 2.0})).get_trace()
        assert trace.nodes["z"]["value"] == 2.0 and trace.nodes["z"]["is_observed"]
        assert trace.nodes["_RETURN"]["value"][1] == 2.0


def test_an_observation_that_a_handler_overrules_differently_later_is_followed(capture):
    """The execution goes back to the site, as a replay would come by it with the new answer."""

    def model():
        a = yield cp.sample("a", dist.Flip(0.5))
        y = yield cp.sample("y", dist.Flip(0.5), obs=True)
        b = yield cp.sample("b", dist.Flip(0.5))
        return a, y, b

    partial = queue.Queue()
    partial.put(poutine.Trace())
    explored = poutine.queue(model, queue=partial)
    results = []
    for y in itertools.cycle([True, False, "other"]):
        if partial.empty():
            break
        trace = poutine.trace(poutine.condition(explored, data={"y": y})).get_trace()
        assert list(trace) == ["_INPUT", "a", "y", "b", "_RETURN"]
        results.append(trace.nodes["_RETURN"]["value"])
    assert [(a, b) for a, _, b in results] == list(itertools.product([True, False], repeat=2))
    assert [y for _, y, _ in results] == [True, False, "other", True]


def test_a_handler_that_changes_a_choice_is_refused():
    partial = queue.Queue()
    partial.put(poutine.Trace())
    explored = poutine.queue(flips, queue=partial)
    with pytest.raises(OverruledError, match=r"site 'x0'.*corpus.py.*queue\(condition"):
        while True:
            cp.run(poutine.condition(explored, data={"x0": True}), 2)


def test_an_error_of_a_handler_around_it_is_raised_in_the_model(capture):
    class Refuse(poutine.messenger.Messenger):
        def _pyro_sample(self, msg):
            if msg["name"] == "y":
                raise KeyError("y")

    def model():
        a = yield cp.sample("a", dist.Flip(0.5))
        try:
            yield cp.sample("y", dist.Flip(0.5), obs=True)
        except KeyError:
            a = "refused"
        return a, (yield cp.sample("b", dist.Flip(0.5)))

    partial = queue.Queue()
    partial.put(poutine.Trace())
    explored = poutine.queue(model, queue=partial)
    results = []
    for refuse in (True, True, False, True):
        with Refuse() if refuse else poutine.block(hide=[]):
            results.append(cp.run(explored))
    assert results == [("refused", True), ("refused", False), (False, True), ("refused", False)]


def test_a_control_handler_around_it_may_capture_and_resume(capture):
    ask = cp.operation("ask")

    def model():
        a = yield cp.sample("a", dist.RandInt(2))
        seen = [a]
        seen.append((yield ask()))
        seen.append((yield cp.sample("b", dist.RandInt(2))))
        return tuple(seen)

    class Answer(cp.Handler):
        def on_ask(self, msg, k):
            return (yield k("told"))

    partial = queue.Queue()
    partial.put(poutine.Trace())
    explored = cp.handle(Answer(), poutine.queue(model, queue=partial))
    results = []
    while not partial.empty():
        results.append(cp.run(explored))
    assert results == [(a, "told", b) for a, b in itertools.product(range(2), repeat=2)]


@pytest.mark.clones("a replay would take from the queue twice")
def test_a_branch_that_a_control_handler_forks_has_its_own_execution():
    if not cp.capabilities().native:
        pytest.skip("a replay would take from the queue twice")
    ask = cp.operation("ask")

    def model():
        a = yield cp.sample("a", dist.Delta(1))
        seen = [a]
        seen.append((yield ask()))
        return seen

    class Both(cp.Handler):
        def on_ask(self, msg, k):
            first = yield k("one")
            second = yield k("two")
            return first, second

    partial = queue.Queue()
    partial.put(poutine.Trace())
    assert cp.run(cp.handle(Both(), poutine.queue(model, queue=partial))) == (
        [1, "one"],
        [1, "two"],
    )


@pytest.mark.parametrize("names", [["y"], ["y", "a", "b"]])
def test_closing_it_closes_the_model_where_it_waits(names):
    log = []

    def model():
        try:
            yield cp.sample("y", dist.Flip(0.5), obs=True)
            yield cp.sample("a", dist.Flip(0.5))
            yield cp.sample("b", dist.Flip(0.5), obs=True)
        finally:
            log.append("clean")

    waiting = queue.LifoQueue()
    waiting.put(poutine.Trace())
    body = poutine.queue(model, queue=waiting)()
    msg = body.send(None)
    for name in names[1:]:
        msg.perform()
        msg = body.send(msg["value"])
        assert msg["name"] == name
    msg.perform()
    body.close()
    assert log == ["clean"]


def test_closing_it_while_it_shows_closes_the_model_too():
    log = []

    def model():
        try:
            yield cp.sample("a", dist.Flip(0.5))
            yield cp.sample("y", dist.Flip(0.5), obs=True)
        finally:
            log.append("clean")

    waiting = queue.Queue()
    waiting.put(poutine.Trace())
    body = poutine.queue(model, queue=waiting)()
    msg = body.send(None)
    assert msg["name"] == "a" and msg["value"] is True
    body.close()
    assert log == ["clean"]


# --- the queue is the user's ----------------------------------------------------------------


def test_a_copied_or_pickled_trace_is_replayed_and_gives_the_same(capture):
    for change in (lambda trace: trace.copy(), lambda trace: pickle.loads(pickle.dumps(trace))):

        class Changing(queue.Queue):
            def get(self, change=change):
                return change(super().get())

        ours = executions(poutine.queue, two_observations, (), Changing)
        theirs = executions(replay_queue, two_observations)
        assert [sites(trace) for trace in ours] == [sites(trace) for trace in theirs]


def test_a_changed_trace_is_replayed_as_it_was_changed(capture):
    def extend(trace, msg, num_samples):
        extended = enum_extend(trace, msg, num_samples)
        for longer in extended:
            if msg["name"] == "x1":
                longer.nodes["x0"] = {**longer.nodes["x0"], "value": "changed"}
        return extended

    def model():
        values = []
        for i in range(3):
            values.append((yield cp.sample(f"x{i}", dist.RandInt(2))))
        return values

    for made in (poutine.queue, replay_queue):
        traces = executions(made, model, extend_fn=extend)
        results = [trace.nodes["_RETURN"]["value"] for trace in traces]
        assert results == [["changed", b, c] for _ in range(2) for b in range(2) for c in range(2)]


def test_a_value_written_into_a_partial_trace_is_what_the_model_gets(capture):
    def extend(trace, msg, num_samples):
        (longer,) = enum_extend(trace, msg, 1)
        longer.nodes[msg["name"]]["value"] = "mine"
        return [longer]

    for made in (poutine.queue, replay_queue):
        (trace,) = executions(made, geometric, (3,), extend_fn=extend)
        assert trace.nodes["_RETURN"]["value"] == 0
        assert trace.nodes["stop0"]["value"] == "mine"


def test_a_trace_that_is_put_twice_gives_its_executions_twice(capture):
    class Doubling(queue.Queue):
        def put(self, trace):
            super().put(trace)
            super().put(trace)

    ours = executions(poutine.queue, flips, (2,), Doubling)
    theirs = executions(replay_queue, flips, (2,), Doubling)
    assert len(ours) == 32
    assert [sites(trace) for trace in ours] == [sites(trace) for trace in theirs]


def test_other_arguments_start_the_model_afresh(capture):
    def model(n):
        return n, (yield cp.sample("x", dist.Flip(0.5)))

    for made in (poutine.queue, replay_queue):
        partial = queue.Queue()
        partial.put(poutine.Trace())
        explored = made(model, queue=partial)
        results = [cp.run(explored, n) for n in (1, 2)]
        assert results == [(1, True), (2, False)]


def test_a_partial_trace_of_the_users_own_lends_its_values(capture):
    known = poutine.trace(poutine.condition(flips, data={"x0": True})).get_trace(1)
    partial = poutine.Trace()
    partial.add_node("x0", **{**known.nodes["x0"], "is_observed": False})
    for made in (poutine.queue, replay_queue):
        waiting = queue.Queue()
        waiting.put(partial.copy())
        explored = made(flips, queue=waiting)
        results = []
        while not waiting.empty():
            results.append(cp.run(explored, 2))
        assert results == [2, 1]


def test_a_partial_trace_with_an_observation_at_a_drawn_site_is_refused():
    waiting = queue.Queue()
    waiting.put(poutine.trace(poutine.condition(flips, data={"x0": True})).get_trace(1))
    with pytest.raises(TraceMismatchError, match="'x0' as an observed site"):
        cp.run(poutine.queue(flips, queue=waiting), 2)


def test_max_tries_is_a_named_error():
    waiting = queue.Queue()
    waiting.put(poutine.Trace())
    with pytest.raises(MaxTriesError, match=r"3 partial executions of flips \("):
        cp.run(poutine.queue(flips, queue=waiting, max_tries=3), 5)
    assert waiting.qsize() == 4


def test_an_empty_queue_is_a_named_error():
    with pytest.raises(EmptyQueueError, match=r"queue.put\(poutine.Trace\(\)\)"):
        cp.run(poutine.queue(flips, queue=queue.Queue()), 2)


def test_what_is_no_trace_is_refused():
    waiting = queue.Queue()
    waiting.put({"x0": True})
    with pytest.raises(TypeError, match="needs traces"):
        cp.run(poutine.queue(flips, queue=waiting), 2)
    with pytest.raises(TypeError, match="get, put and empty"):
        poutine.queue(flips, queue=[])


def test_num_samples_and_the_extend_functions():
    traces = executions(poutine.queue, flips, (3,), num_samples=1)
    assert [trace.nodes["_RETURN"]["value"] for trace in traces] == [3]
    traces = executions(poutine.queue, flips, (3,), extend_fn=mc_extend)
    assert len(traces) == 1
    traces = executions(poutine.queue, flips, (2,), extend_fn=mc_extend, num_samples=3)
    assert len(traces) == 9


def test_all_escape_stops_at_continuous_sites_too(capture):
    traces = executions(
        poutine.queue, hidden_coin, escape_fn=all_escape, extend_fn=mc_extend, num_samples=2
    )
    assert len(traces) == 8
    assert len({trace.nodes["_RETURN"]["value"][1] for trace in traces}) == 4


def test_a_batched_site_goes_through_the_product_of_its_elements():
    import torch

    def model():
        return (yield cp.sample("x", dist.Bernoulli(torch.tensor([0.3, 0.3, 0.3]))))

    traces = executions(poutine.queue, model)
    assert len(traces) == 8
    assert math.fsum(map(math.exp, log_probs(traces))) == pytest.approx(1.0, abs=1e-6)


def test_it_is_a_decorator_and_wraps_every_kind_of_model(capture):
    waiting = queue.Queue()

    @poutine.queue(queue=waiting)
    def decorated():
        return (yield cp.sample("x", dist.Flip(0.5)))

    class Coins:
        def __init__(self, n):
            self.n = n

        def model(self):
            return (yield flips(self.n))

        def __call__(self):
            return (yield flips(self.n))

    wrapped = [functools.partial(flips, 1), Coins(1), Coins(1).model]
    for model in [decorated, *(poutine.queue(model, queue=waiting) for model in wrapped)]:
        waiting.put(poutine.Trace())
        assert [cp.run(model), cp.run(model)] == [True, False]


def test_it_runs_inside_another_model(capture):
    def outer():
        waiting = queue.Queue()
        waiting.put(poutine.Trace())
        explored = poutine.queue(flips, queue=waiting)
        found = []
        while not waiting.empty():
            with poutine.block():
                found.append((yield explored(2)))
        return found

    assert cp.run(outer) == [2, 1, 1, 0]
