"""The laws of the handlers, over a corpus of models: alone, against pyro-ppl, and in each branch."""

from __future__ import annotations

import itertools
import math
import os
import random

import pytest
import torch

import contpoutine as cp
from contpoutine import poutine
from contpoutine.capture import randomness
from contpoutine.core.ambient import AMBIENT
from tests.models.pyro_corpus import CORPUS, subsampled
from tests.models.twice import OURS, PYROS, assert_same, signature

# Each handler as a function of a library, a model and the data of its case.
HANDLERS = {
    "nothing": lambda L, model, data: model,
    "trace": lambda L, model, data: L.poutine.trace(model),
    "block": lambda L, model, data: L.poutine.block(model, hide=["x", "z0"]),
    "block types": lambda L, model, data: L.poutine.block(model, hide_types=["observe"]),
    "expose": lambda L, model, data: L.poutine.block(
        model, expose_fn=lambda m: str(m["name"]) < "y"
    ),
    "condition": lambda L, model, data: L.poutine.condition(model, data=KNOWN),
    "do": lambda L, model, data: L.poutine.do(model, data=KNOWN),
    "scale": lambda L, model, data: L.poutine.scale(model, scale=2.0),
    "scale twice": lambda L, model, data: L.poutine.scale(
        L.poutine.scale(model, scale=torch.tensor(0.5)), scale=3.0
    ),
    "mask": lambda L, model, data: L.poutine.mask(model, mask=False),
    "mask tensor": lambda L, model, data: L.poutine.mask(model, mask=torch.tensor(True)),
    "mask twice": lambda L, model, data: L.poutine.mask(
        L.poutine.mask(model, mask=torch.tensor(True)), mask=torch.tensor(False)
    ),
    "uncondition": lambda L, model, data: L.poutine.uncondition(model),
    "infer_config": lambda L, model, data: L.poutine.infer_config(
        model, config_fn=lambda msg: {"mark": msg["name"]}
    ),
    "seed": lambda L, model, data: L.poutine.seed(model, rng_seed=7),
    "broadcast": lambda L, model, data: L.poutine.broadcast(model),
    "markov": lambda L, model, data: L.poutine.markov(model),
    "equalize": lambda L, model, data: L.poutine.equalize(model, sites=["a", "b"]),
    "equalize kept": lambda L, model, data: L.poutine.equalize(
        model, sites=["a", "b"], keep_dist=True
    ),
    "plate": lambda L, model, data: _in_a_plate(L, model),
}
KNOWN = {"x": torch.tensor(1.0), "weight": torch.tensor(8.0), "z1": torch.tensor(0)}
SHAPED = {"mixture", "nested_plates", "changing_plate", "crossing_plates"}


def _in_a_plate(L, model):
    def wrapped(*args):
        with L.plate("around", 2, dim=-4):
            return model(*args)

    if L is PYROS:
        return wrapped

    def generator(*args):
        with L.plate("around", 2, dim=-4):
            return (yield from model(*args))

    return generator


pytestmark = pytest.mark.filterwarnings("ignore::contpoutine.errors.UnmetNameWarning")


def agrees(name, case):
    """Does the handler make sense for the case in Pyro?"""
    if name == "plate":  # control flow on a tensor of two
        return case.body.__name__ in {
            "scale_and_weight", "mixture", "beta_bernoulli", "nested_plates", "hierarchical",
            "regression", "factors", "masked_inside",
        }  # fmt: skip
    if name in ("condition", "do") and case.body.__name__ in SHAPED:
        return False  # one value for a batch
    if name == "do" and case.body is subsampled:
        return False  # Pyro scales the site twice, once for each time that it passes the plate
    return not (name == "uncondition" and case.body.__name__ in ("factors", "computed"))


def some(pairs, of):
    """Every `of`-th of the combinations in an ordinary run, all of them with LAWS in the
    environment (`make laws`)."""
    step = 1 if os.environ.get("LAWS") else of
    return [pytest.param(*pair, id="-".join(map(str, pair))) for pair in pairs[::step]]


def fitting(names, cases, *more):
    return [
        (*rest, name, case)
        for case in cases
        for name in names
        for rest in itertools.product(*more)
        if agrees(name, case)
    ]


@pytest.mark.parametrize("name, case", some(fitting(HANDLERS, CORPUS), 2))
def test_each_handler_gives_pyros_trace(name, case):
    wrap = HANDLERS[name]
    mine = OURS.trace(wrap(OURS, OURS.model(case.body), case.data), seed=3)
    pyros = PYROS.trace(wrap(PYROS, PYROS.model(case.body), case.data), seed=3)
    assert_same(signature(mine), signature(pyros))
    assert infer_of(mine) == infer_of(pyros)
    assert AMBIENT.get() == ()


def infer_of(trace):
    private = ("_deterministic", "is_auxiliary", "obs")
    return {
        name: {key: value for key, value in node["infer"].items() if key not in private}
        for name, node in trace.nodes.items()
        if node["type"] == "sample"
    }


# --- in each branch ---------------------------------------------------------------------------

BRANCHING = [
    "nothing",
    "block types",
    "condition",
    "do",
    "scale",
    "mask",
    "mask twice",
    "infer_config",
    "seed",
    "markov",
    "equalize",
    "equalize kept",
]
SMALL = [case for case in CORPUS if repr(case) not in ("recursion", "chain", "loops_and_batches")]


@pytest.mark.parametrize(
    "strategy, name, case", some(fitting(BRANCHING, SMALL, ["clone", "replay"]), 3)
)
def test_each_branch_of_an_enumeration_has_pyros_trace(name, case, strategy):
    if strategy == "clone" and not cp.capabilities().native:
        pytest.skip("no native capture")
    wrap = HANDLERS[name]
    inner = poutine.condition(OURS.model(case.body), data=case.data)
    found = []

    def model():
        with poutine.trace() as tr:
            value = yield from wrap(OURS, inner, case.data)()
        found.append(tr.trace)
        return value

    order = ["depth_first", "breadth_first", "likely_first"][len(repr(case) + name) % 3]
    posterior = cp.infer.enumerate(model, order=order, capture=strategy)()
    assert len(found) == posterior.executions
    total = -math.inf
    chosen = random.Random(repr(case) + name).sample(range(len(found)), min(len(found), 3))
    for place, trace in enumerate(found):
        total = math.log(math.exp(total) + math.exp(float(trace.log_prob_sum())))
        if place in chosen:
            assert_same(signature(trace), signature(pyro_execution(wrap, case, trace)))
    if name != "mask twice" and "hide" not in case.body.__name__ and name != "block types":
        assert posterior.log_evidence == pytest.approx(total, rel=1e-4, abs=1e-4)
    assert AMBIENT.get() == ()


def pyro_execution(wrap, case, trace):
    """Pyro's execution with the values of a branch."""
    values = PYROS.poutine.Trace()
    for name, node in trace.nodes.items():
        if node["type"] == "sample" and not node["is_observed"]:
            if type(node["fn"]).__name__ != "_Subsample":
                values.add_node(name, **node)
    inner = PYROS.poutine.condition(PYROS.model(case.body), data=dict(case.data))
    model = wrap(PYROS, inner, case.data)
    return PYROS.poutine.trace(PYROS.poutine.replay(model, trace=values)).get_trace()


# --- algebra ----------------------------------------------------------------------------------

IDEMPOTENT = [
    "trace", "block", "block types", "condition", "do", "mask", "seed", "broadcast", "infer_config",
    "uncondition", "equalize",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::contpoutine.errors.InterventionWarning")
@pytest.mark.parametrize("name, case", some(fitting(IDEMPOTENT, CORPUS), 3))
def test_handlers_that_are_idempotent_in_pyro_are_so_here(name, case):
    wrap = HANDLERS[name]
    once = wrap(OURS, OURS.model(case.body), case.data)
    twice = wrap(OURS, once, case.data)
    assert_same(signature(OURS.trace(once)), signature(OURS.trace(twice)))


COMMUTING = [
    ("condition", "scale"),
    ("condition", "mask"),
    ("condition", "infer_config"),
    ("scale", "mask"),
    ("scale", "block"),
    ("scale", "scale twice"),
    ("mask", "block"),
    ("mask", "uncondition"),
    ("infer_config", "scale"),
    ("seed", "scale"),
    ("broadcast", "condition"),
]


TOGETHER = [
    (one, other, case)
    for case in CORPUS
    for one, other in COMMUTING
    if agrees(one, case) and agrees(other, case)
]


@pytest.mark.parametrize("one, other, case", some(TOGETHER, 3))
def test_handlers_that_commute_in_pyro_commute_here(one, other, case):
    first, second = HANDLERS[one], HANDLERS[other]
    model = OURS.model(case.body)
    assert_same(
        signature(OURS.trace(first(OURS, second(OURS, model, case.data), case.data))),
        signature(OURS.trace(second(OURS, first(OURS, model, case.data), case.data))),
    )


@pytest.mark.parametrize("case", CORPUS, ids=repr)
def test_condition_then_trace_is_the_log_joint_by_hand(case):
    """By hand: the generator is run without any handler, and what it asks for is added up."""
    first = OURS.trace(OURS.model(case.body), seed=11)
    data = {name: first.nodes[name]["value"] for name in first.stochastic_nodes}
    conditioned = poutine.trace(poutine.condition(OURS.model(case.body), data=data)).get_trace()
    assert conditioned.stochastic_nodes == [n for n in first.stochastic_nodes if n not in data]
    by_hand = 0.0
    for node in (
        PYROS.poutine.trace(PYROS.poutine.condition(PYROS.model(case.body), data=data))
        .get_trace()
        .nodes.values()
    ):
        if node["type"] == "sample":
            log_prob = node["fn"].log_prob(node["value"]) * node["scale"]
            mask = torch.as_tensor(True if node["mask"] is None else node["mask"])
            by_hand += float((log_prob * mask).sum())
    assert float(conditioned.log_prob_sum()) == pytest.approx(by_hand, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("case", CORPUS, ids=repr)
def test_replay_reproduces_values_bit_for_bit(case):
    first = OURS.trace(OURS.model(case.body), seed=5)
    torch.manual_seed(99)
    again = poutine.trace(poutine.replay(OURS.model(case.body), trace=first)).get_trace()
    assert list(again) == list(first)
    for name in first.stochastic_nodes:
        assert again.nodes[name]["value"] is first.nodes[name]["value"]
    assert torch.equal(again.log_prob_sum(), first.log_prob_sum())


# --- seed -------------------------------------------------------------------------------------


def test_seed_restores_the_random_states_on_every_way_out():
    def model(fail):
        yield cp.sample("x", cp.distributions.Normal(0.0, 1.0))
        torch.rand(3), random.random()
        if fail:
            raise KeyError("out")
        return 1

    before = randomness.snapshot()
    cp.run(poutine.seed(model, rng_seed=3), False)
    assert randomness.snapshot() == before
    with pytest.raises(KeyError):
        cp.run(poutine.seed(model, rng_seed=3), True)
    assert randomness.snapshot() == before
    with poutine.seed(rng_seed=3):
        inside = torch.rand(1)
    assert randomness.snapshot() == before
    torch.manual_seed(3)
    assert torch.equal(inside, torch.rand(1))


def seeded_draws(first, second):
    """What a model draws inside of seed when it is run by hand with these choices."""
    state = randomness.snapshot()
    torch.manual_seed(5)
    random.seed(5)
    drawn = [torch.rand(1).item()]
    if first:
        drawn.append(torch.rand(1).item())
    drawn.append(random.random())
    if second:
        drawn.append(torch.rand(1).item())
    randomness.restore(state)
    return tuple(drawn)


def seeded():
    with poutine.seed(rng_seed=5):
        drawn = [torch.rand(1).item()]
        first = yield cp.sample("first", cp.distributions.Flip(0.5))
        if first:
            drawn.append(torch.rand(1).item())
        second = yield cp.sample("second", cp.distributions.Flip(0.5))
        drawn.append(random.random())
        if second:
            drawn.append(torch.rand(1).item())
    yield cp.sample("third", cp.distributions.Flip(0.5))
    return first, second, tuple(drawn)


@pytest.mark.parametrize("order", ["depth_first", "breadth_first", "likely_first"])
def test_each_branch_carries_its_own_random_states(order, capture):
    before = randomness.snapshot()
    posterior = cp.infer.enumerate(seeded, order=order, capture=capture)()
    assert {(a, b): drawn for a, b, drawn in posterior.marginal()} == {
        (a, b): seeded_draws(a, b) for a in (False, True) for b in (False, True)
    }
    assert randomness.snapshot() == before


def test_a_branch_that_is_given_up_inside_of_seed_leaves_the_random_states_as_they_were(capture):
    def model():
        with poutine.seed(rng_seed=5):
            x = yield cp.sample("x", cp.distributions.Flip(0.5))
            torch.rand(1)
            yield cp.factor("out", -math.inf if x else 0.0)
            if not x:
                return x
        return x

    before = randomness.snapshot()
    cp.infer.enumerate(model, capture=capture, max_executions=1)()
    assert randomness.snapshot() == before

    class Abort(cp.Handler):
        def on_sample(self, msg, k):
            return "aborted"
            yield

    assert cp.run(cp.handle(Abort(), model)) == "aborted"
    assert randomness.snapshot() == before


@pytest.mark.parametrize("forward", [True, False])
def test_resumptions_inside_of_seed_draw_what_the_model_alone_draws(forward, capture):
    class Twice(cp.Handler):
        def on_sample(self, msg, k):
            value = (yield msg) if forward else 0.0
            results = []
            for shift in (0.0, 1.0):
                torch.rand(2)
                results += yield k(value + shift)
            return results

        def on_return(self, value):
            return [value]

    def model():
        with poutine.seed(rng_seed=5):
            drawn = [torch.rand(1).item()]
            x = yield cp.sample("x", cp.distributions.Normal(0.0, 1.0))
            drawn.append(torch.rand(1).item())
            y = yield cp.sample("y", cp.distributions.Normal(x, 1.0))
            drawn.append(torch.rand(1).item())
        return tuple(drawn), float(x), float(y)

    torch.manual_seed(5)
    plain = [torch.rand(1).item()]
    if forward:
        x = float(torch.normal(0.0, 1.0, ()))
    plain.append(torch.rand(1).item())
    if forward:
        torch.normal(0.0, 1.0, ())
    plain.append(torch.rand(1).item())
    found = cp.run(cp.handle(Twice(), model))
    assert [drawn for drawn, _, _ in found] == [tuple(plain)] * 4
    if forward:
        assert [value for _, value, _ in found] == pytest.approx([x, x, x + 1, x + 1])
