"""Every handler, in its three ways, on every kind of model; laws that they keep together."""

from __future__ import annotations

import functools
import inspect

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.ambient import AMBIENT


def pair(p=0.5):
    a = yield cp.sample("a", dist.Flip(p))
    b = yield cp.sample("b", dist.Flip(p))
    return a, b


KNOWN = poutine.trace(poutine.block(pair, hide=[])).get_trace(1.0)
HANDLERS = {
    "trace": (poutine.trace, {}),
    "condition": (poutine.condition, {"data": {"a": True}}),
    "replay": (poutine.replay, {"trace": KNOWN}),
    "block": (poutine.block, {"hide": ["b"]}),
    "escape": (poutine.escape, {"escape_fn": lambda msg: False}),
    "uncondition": (poutine.uncondition, {}),
    "do": (poutine.do, {"data": {"a": True}}),
    "scale": (poutine.scale, {"scale": 2.0}),
    "mask": (poutine.mask, {"mask": False}),
    "lift": (poutine.lift, {"prior": {}}),
    "seed": (poutine.seed, {"rng_seed": 1}),
    "substitute": (poutine.substitute, {"data": {}}),
    "infer_config": (poutine.infer_config, {"config_fn": lambda msg: {}}),
    "enum": (poutine.enum, {"first_available_dim": -1}),
    "markov": (poutine.markov, {"history": 2}),
    "broadcast": (poutine.broadcast, {}),
    "reparam": (poutine.reparam, {"config": {}}),
    "equalize": (poutine.equalize, {"sites": ["a", "b"]}),
    "scope": (poutine.scope, {"prefix": "in"}),
}


class Model:
    def method(self, p):
        return (yield from pair(p))

    def __call__(self, p):
        return (yield from pair(p))

    @staticmethod
    def static(p):
        return (yield from pair(p))


MODELS = [
    pair,
    functools.partial(pair, p=1.0),
    Model(),
    Model().method,
    Model.static,
    lambda p=1.0: pair(p),
    poutine.trace(pair),
    poutine.block(pair, hide=[]),
]


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_wrapping_a_model_gives_a_model(name, model):
    handler, options = HANDLERS[name]
    wrapped = handler(model, **options)
    args = () if isinstance(model, functools.partial) else (1.0,)
    assert inspect.isgenerator(wrapped(*args))
    assert cp.run(wrapped, *args) == (True, True)

    def outer():
        first = yield wrapped(*args)
        second = yield from wrapped(*args)
        return first, second

    assert cp.run(outer) == ((True, True), (True, True))
    assert AMBIENT.get() == ()


@pytest.mark.parametrize("name", HANDLERS)
def test_the_three_ways_do_the_same(name, capture):
    handler, options = HANDLERS[name]

    @handler(**options)
    def decorated():
        return (yield from pair())

    def entered():
        with handler(**options):
            return (yield from pair())

    called = handler(pair, **options)
    answers = [
        dict(cp.infer.enumerate(model, capture=capture)().marginal())
        for model in (called, decorated, entered)
        if name != "block"
    ]
    assert all(answer == answers[0] for answer in answers)
    assert len({tuple(map(type, cp.run(model))) for model in (called, decorated, entered)}) == 1


@pytest.mark.parametrize("name", HANDLERS)
def test_the_models_name_and_words_are_kept(name):
    def model():
        """What it is."""
        yield

    handler, options = HANDLERS[name]
    wrapped = handler(model, **options)
    assert wrapped.__name__ == "model" and wrapped.__doc__ == "What it is."


@pytest.mark.parametrize("name", HANDLERS)
def test_an_exception_takes_the_handler_down(name):
    def failing():
        yield cp.sample("a", dist.Flip(0.5))
        raise KeyError("a")

    handler, options = HANDLERS[name]
    with pytest.raises(KeyError):
        cp.run(handler(failing, **options))
    assert AMBIENT.get() == ()

    def catching():
        try:
            yield handler(failing, **options)()
        except KeyError:
            return len(AMBIENT.get()), (yield cp.sample("b", dist.Flip(1.0)))

    assert cp.run(catching) == (0, True)


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_that_is_suspended_and_dropped_is_gone(name):
    handler, options = HANDLERS[name]
    body = handler(pair, **options)(0.5)
    body.send(None).perform()
    assert len(AMBIENT.get()) == 1
    body.close()
    assert AMBIENT.get() == ()


@pytest.mark.parametrize("order", ["depth_first", "breadth_first", "likely_first"])
def test_a_handler_used_again_and_again_in_one_model(order, capture):
    @poutine.condition(data={"c": True})
    def sub(i):
        x = yield cp.sample(f"x{i}", dist.Flip(0.5))
        yield cp.sample("c", dist.Flip(0.75 if x else 0.25))
        return x

    def model():
        total = 0
        for i in range(3):
            total += yield sub(i)
        return total

    posterior = cp.infer.enumerate(model, order=order, capture=capture)()
    assert posterior.marginal()[3] == pytest.approx(0.75**3)
    assert posterior.branches == 14


def test_a_recursive_model_may_be_handled_at_each_level(capture):
    @poutine.trace
    @poutine.condition(data={})
    def tree(depth):
        if depth == 0 or not (yield cp.sample(f"grow{depth}", dist.Flip(0.5))):
            return 1
        return 1 + (yield tree(depth - 1))

    assert cp.infer.enumerate(tree, capture=capture)(4).marginal()[5] == pytest.approx(1 / 16)
    assert "grow4" in tree.get_trace(4)


def test_condition_and_block_commute_on_different_sites():
    data = {"a": True}
    one = poutine.block(poutine.condition(pair, data=data), hide=["b"])
    other = poutine.condition(poutine.block(pair, hide=["b"]), data=data)
    for model in (one, other):
        trace = poutine.trace(model).get_trace()
        assert list(trace) == ["_INPUT", "a", "_RETURN"] and trace.nodes["a"]["is_observed"]


def test_trace_and_replay_compose_to_the_identity():
    first = poutine.trace(pair).get_trace()
    second = poutine.trace(poutine.replay(pair, trace=first)).get_trace()
    third = poutine.trace(poutine.replay(pair, trace=second)).get_trace()
    for trace in (second, third):
        assert trace.nodes["_RETURN"]["value"] == first.nodes["_RETURN"]["value"]


def test_tracing_twice_records_the_same_twice():
    inner = poutine.trace(pair)
    outer = poutine.trace(inner).get_trace()
    assert [outer.nodes[name]["value"] for name in "ab"] == [
        inner.trace.nodes[name]["value"] for name in "ab"
    ]


def test_threads_do_not_share_handlers():
    import threading

    seen = []
    with poutine.condition(data={}):
        thread = threading.Thread(target=lambda: seen.append(AMBIENT.get()))
        thread.start()
        thread.join()
    assert seen == [()]


def test_the_module_tree_has_the_names_of_the_tutorial():
    from contpoutine.poutine.block_messenger import BlockMessenger
    from contpoutine.poutine.condition_messenger import ConditionMessenger
    from contpoutine.poutine.escape_messenger import EscapeMessenger
    from contpoutine.poutine.messenger import Messenger
    from contpoutine.poutine.replay_messenger import ReplayMessenger
    from contpoutine.poutine.runtime import NonlocalExit, effectful
    from contpoutine.poutine.trace_messenger import TraceMessenger
    from contpoutine.poutine.trace_struct import Trace

    messengers = [
        BlockMessenger,
        ConditionMessenger,
        EscapeMessenger,
        ReplayMessenger,
        TraceMessenger,
    ]
    assert all(issubclass(kind, Messenger) for kind in messengers)
    assert poutine.Trace is Trace and poutine.NonlocalExit is NonlocalExit
    assert effectful is cp.effectful and poutine.messenger.Messenger is cp.Messenger
