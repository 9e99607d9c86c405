"""infer.enumerate against brute force, and its loops and strategies against each other."""

from __future__ import annotations

import math
import threading
import time

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
    BudgetError,
    CaptureError,
    DistributionError,
    NotAModelError,
    NotEnumerableError,
    OutsideSupportError,
    UnhandledEffectError,
    UnperformedEffectError,
    ZeroEvidenceError,
)
from contpoutine.infer.driver import Driver
from contpoutine.infer.enumeration import make_explorer
from contpoutine.infer.explorer import Explorer
from tests.models.corpus import CORPUS, brute_force, flips, sprinkler

ORDERS = ("depth_first", "breadth_first", "likely_first")
STRATEGIES = ("auto", "replay") + (("clone",) if native is not None else ())

every_order = pytest.mark.parametrize("order", ORDERS)
every_strategy = pytest.mark.parametrize("capture", STRATEGIES)
every_model = pytest.mark.parametrize("case", CORPUS, ids=repr)


# --- exact answers --------------------------------------------------------------------------


@every_model
@every_order
@every_strategy
def test_the_posterior_is_that_of_brute_force(case, order, capture):
    exact = brute_force(case.model, *case.args)
    posterior = cp.infer.enumerate(case.model, order=order, capture=capture)(*case.args)
    total = math.fsum(exact.values())
    assert posterior.complete
    assert posterior.log_evidence == pytest.approx(math.log(total), abs=1e-12)
    marginal = dict(posterior.marginal().items())
    assert marginal == pytest.approx({v: p / total for v, p in exact.items() if p > 0})


@every_model
@every_order
def test_the_loop_in_c_and_the_loop_in_python_make_the_same_tree(case, order):
    trees = []
    for make in (Explorer, make_explorer):
        explorer = make(Driver(case.model, case.args, {}, "auto"), order)
        assert explorer.run()
        tree = explorer.tree()
        columns = {name: list(getattr(tree, name)) for name in tree.__slots__}
        trees.append((columns, explorer.branches, explorer.explored_mass))
    assert trees[0] == trees[1]


@every_model
@every_order
def test_a_search_in_many_small_runs_ends_like_one_in_one_run(case, order):
    whole = make_explorer(Driver(case.model, case.args, {}, "auto"), order)
    whole.run()
    parts = make_explorer(Driver(case.model, case.args, {}, "auto"), order)
    budget = 0
    while not parts.run(budget):
        assert parts.executions == budget
        budget += 1
    assert list(parts.tree().leaf_values) == list(whole.tree().leaf_values)


@every_order
@every_strategy
def test_the_order_of_leaves_does_not_depend_on_the_strategy(order, capture):
    posterior = cp.infer.enumerate(flips, order=order, capture=capture)(4)
    reference = cp.infer.enumerate(flips, order=order, capture="replay")(4)
    assert list(posterior.tree.leaf_values) == list(reference.tree.leaf_values)
    assert list(posterior.tree.leaf_log_weights) == list(reference.tree.leaf_log_weights)


def test_likely_first_finishes_executions_in_the_order_of_their_weight():
    def model():
        a = yield cp.sample("a", dist.Finite({1: 0.6, 2: 0.3, 3: 0.1}))
        b = yield cp.sample("b", dist.Finite({1: 0.5, 2: 0.4, 3: 0.1}))
        return a, b

    weights = cp.infer.enumerate(model, order="likely_first")().tree.leaf_log_weights
    assert list(weights) == sorted(weights, reverse=True)


# --- what is run, and how often -------------------------------------------------------------


@pytest.mark.clones("a replay runs code before a choice again")
def test_code_before_a_choice_runs_once():
    runs = []

    def model():
        runs.append("start")
        a = yield cp.sample("a", dist.Flip(0.5))
        runs.append("middle")
        b = yield cp.sample("b", dist.Flip(0.5))
        return a, b

    cp.infer.enumerate(model)()
    assert runs.count("start") == (1 if native is not None else runs.count("start"))
    if native is not None:
        assert runs.count("middle") == 2


@every_strategy
def test_an_unnamed_random_number_is_the_same_on_every_path_that_shares_it(capture):
    import random

    def model():
        noise = (random.random(), float(torch.rand(())))
        a = yield cp.sample("a", dist.Flip(0.5))
        b = yield cp.sample("b", dist.Flip(0.5))
        return noise, a, b

    posterior = cp.infer.enumerate(model, capture=capture)()
    assert len({value[0] for value in posterior.marginal()}) == 1
    before = random.getstate()
    cp.infer.enumerate(sprinkler, capture=capture)()
    assert random.getstate() == before


def test_a_branch_of_weight_zero_is_given_up_at_once():
    seen = []

    def model():
        a = yield cp.sample("a", dist.RandInt(0, 4))
        yield cp.observe("even", dist.Flip(1.0 if a % 2 == 0 else 0.0), True)
        seen.append(a)
        return a

    posterior = cp.infer.enumerate(model)()
    assert sorted(seen) == [0, 2]
    assert posterior.executions == 2
    assert posterior.explored_mass == pytest.approx(1.0)


@every_order
def test_pruned_paths_do_not_eat_the_budget(order):
    def model():
        a = yield cp.sample("a", dist.RandInt(0, 10))
        yield cp.factor("late", 0.0 if a >= 7 else -math.inf)
        return a

    posterior = cp.infer.enumerate(model, order=order, max_executions=2)()
    assert posterior.executions == 2
    assert not posterior.complete


@every_order
def test_bounds_of_a_partial_result_contain_the_exact_answer(order):
    exact = cp.infer.enumerate(sprinkler)().marginal("rain")[True]
    for budget in range(1, 4):
        partial = cp.infer.enumerate(sprinkler, order=order, max_executions=budget)()
        low, high = partial.marginal("rain").bounds(True)
        assert low - 1e-12 <= exact <= high + 1e-12
        assert partial.explored_mass + partial.frontier_mass == pytest.approx(1.0)


def test_a_time_budget_stops_the_search():
    def endless():
        while (yield cp.sample("go", dist.Flip(0.999999))):
            pass

    begun = time.monotonic()
    posterior = cp.infer.enumerate(endless, order="breadth_first", max_seconds=0.2)()
    assert time.monotonic() - begun < 5
    assert not posterior.complete
    assert 0 < posterior.executions


def test_progress_says_how_far_it_is(capsys):
    cp.infer.enumerate(flips, progress=True)(8)
    assert "explored mass 1.0000" in capsys.readouterr().err


def test_a_site_name_may_be_used_again_and_again():
    def model():
        total = 0
        for _ in range(3):
            total += yield cp.sample("x", dist.Flip(0.5))
        return total

    assert cp.infer.enumerate(model)().marginal()[3] == pytest.approx(0.125)


# --- torch ----------------------------------------------------------------------------------


@every_order
@every_strategy
def test_torch_coins_agree_with_python_coins(order, capture):
    def model(flip):
        total = 0
        for i in range(4):
            total = total + (yield cp.sample(f"x{i}", flip(0.3)))
        yield cp.observe("seen", dist.Normal(total * 1.0, 1.0), torch.tensor(2.5))
        return int(total)

    torch_one = cp.infer.enumerate(model, order=order, capture=capture)(dist.Bernoulli)
    plain = cp.infer.enumerate(model, order=order, capture=capture)(dist.Flip)
    assert torch_one.log_evidence == pytest.approx(plain.log_evidence, abs=1e-5)
    assert dict(torch_one.marginal()) == pytest.approx(dict(plain.marginal()), abs=1e-6)


@every_order
@every_strategy
def test_a_batched_site_is_enumerated_element_by_element(order, capture):
    def model():
        x = yield cp.sample("x", dist.Bernoulli(torch.tensor([0.3, 0.3, 0.3])))
        return int(x.sum())

    posterior = cp.infer.enumerate(model, order=order, capture=capture)()
    assert posterior.executions == 8
    assert posterior.log_evidence == pytest.approx(0.0, abs=1e-6)
    expected = {k: math.comb(3, k) * 0.3**k * 0.7 ** (3 - k) for k in range(4)}
    assert dict(posterior.marginal()) == pytest.approx(expected, abs=1e-6)
    assert len(posterior.marginal("x")) == 8
    assert posterior.marginal("x[1]").to_torch() is not None


@every_order
@every_strategy
def test_a_tensor_changed_in_place_is_changed_in_one_branch_only(order, capture):
    def model():
        total = torch.zeros(())
        for i in range(4):
            total += yield cp.sample(f"x{i}", dist.Bernoulli(0.4))
        return float(total)

    marginal = cp.infer.enumerate(
        model, order=order, capture="auto" if capture == "clone" else capture
    )().marginal()
    expected = {float(k): math.comb(4, k) * 0.4**k * 0.6 ** (4 - k) for k in range(5)}
    assert dict(marginal) == pytest.approx(expected, abs=1e-6)


@every_order
@every_strategy
def test_a_drawn_tensor_changed_in_place_harms_nobody_else(order, capture):
    def model():
        x = yield cp.sample("x", dist.Bernoulli(0.5))
        x += 10
        y = yield cp.sample("y", dist.Bernoulli(0.5))
        y += x
        return float(y)

    capture = "auto" if capture == "clone" else capture
    marginal = cp.infer.enumerate(model, order=order, capture=capture)().marginal()
    assert dict(marginal) == pytest.approx({10.0: 0.25, 11.0: 0.5, 12.0: 0.25})


# --- handlers -------------------------------------------------------------------------------


class Names(cp.Messenger):
    """A user's handler with a state."""

    def __enter__(self):
        self.names = []
        return super().__enter__()

    def _pyro_post_sample(self, msg):
        self.names.append((msg["name"], msg["value"]))


@every_order
@every_strategy
def test_a_handler_with_a_state_is_right_in_every_branch(order, capture):
    def model():
        with Names() as seen:
            a = yield cp.sample("a", dist.Flip(0.5))
            b = yield cp.sample("b", dist.RandInt(0, 3))
        return a, b, tuple(seen.names)

    for a, b, names in cp.infer.enumerate(model, order=order, capture=capture)().marginal():
        assert names == (("a", a), ("b", b))


@every_order
@every_strategy
def test_a_handler_that_is_entered_twice_is_right_in_every_branch(order, capture):
    ask = cp.effectful(lambda: None, type="ask")

    class Telling(Names):
        def _pyro_ask(self, msg):
            msg["value"], msg["done"] = tuple(self.names), True

    shared = Telling()

    def model():
        with shared:
            yield cp.sample("a", dist.Flip(0.5))
        yield cp.sample("b", dist.Flip(0.5))
        with shared:
            c = yield cp.sample("c", dist.Flip(0.5))
            d = yield cp.sample("d", dist.Flip(0.5))
            return c, d, (yield ask())

    if capture == "clone":
        capture = "auto"
    for c, d, names in cp.infer.enumerate(model, order=order, capture=capture)().marginal():
        assert names == (("c", c), ("d", d))


@every_strategy
def test_handlers_further_out_see_each_site_and_each_resumption(capture):
    class Count(cp.Messenger):
        def __init__(self):
            self.up = self.down = 0

        def _pyro_sample(self, msg):
            self.up += 1

        def _pyro_post_sample(self, msg):
            self.down += 1

    with Count() as count:
        cp.infer.enumerate(flips, capture=capture)(3)
    assert (count.up, count.down) == (7, 14)


@every_strategy
def test_a_handler_further_out_can_observe(capture):
    class Observe(cp.Messenger):
        def _pyro_sample(self, msg):
            if msg["name"] == "x0":
                msg["value"], msg["is_observed"] = True, True

    with Observe():
        posterior = cp.infer.enumerate(flips, capture=capture)(2)
    assert posterior.executions == 2
    assert posterior.log_evidence == pytest.approx(math.log(0.4))


def test_a_hidden_site_is_drawn_and_the_result_says_so():
    class Hide(cp.Messenger):
        def _pyro_sample(self, msg):
            msg["stop"] = True

    posterior = cp.infer.enumerate(Hide()(flips))(2)
    assert posterior.executions == 1
    assert "not exact" in " ".join(posterior.notes)


@every_strategy
def test_a_handler_further_out_may_overrule_what_is_observed(capture):
    class Overrule(cp.Messenger):
        def _pyro_sample(self, msg):
            if msg["name"] == "seen":
                msg["value"] = False

    def model():
        a = yield cp.sample("a", dist.Flip(0.5))
        seen = yield cp.observe("seen", dist.Flip(0.25), True)
        b = yield cp.sample("b", dist.Flip(0.5))
        return a, seen, b

    with Overrule():
        posterior = cp.infer.enumerate(model, capture=capture)()
    assert {value[1] for value in posterior.marginal()} == {False}
    assert posterior.log_evidence == pytest.approx(math.log(0.75))


@every_strategy
def test_a_model_run_by_a_plain_call_inside_is_refused_and_not_drawn_at_random(capture):
    def model():
        a = yield cp.sample("a", dist.Flip(0.5))
        return a, cp.run(flips, 2)

    with pytest.raises(BarrierError, match=r"yield model\(\.\.\.\)"):
        cp.infer.enumerate(model, capture=capture)()
    assert cp.run(flips, 2) in (0, 1, 2)


def test_an_enumeration_inside_a_model_is_exact():
    def model():
        p = cp.infer.enumerate(flips)(2).marginal()[0]
        return p, (yield cp.sample("a", dist.Flip(p)))

    marginal = cp.infer.enumerate(model)().marginal()
    assert sorted((round(p, 9), value, round(q, 9)) for (p, value), q in marginal.items()) == [
        (0.36, False, 0.64),
        (0.36, True, 0.36),
    ]


@every_strategy
def test_escape_further_out_leaves_the_model(capture):
    with pytest.raises(poutine.NonlocalExit), poutine.escape(escape_fn=lambda msg: True):
        cp.infer.enumerate(flips, capture=capture)(2)


def test_control_handlers_inside_the_model_work_under_enumeration():
    choose = cp.operation("choose")

    class Both(cp.Handler):
        def on_choose(self, msg, k):
            return sum((yield k.each(msg["args"])))

    def inner():
        x = yield choose(1, 10)
        y = yield cp.sample("y", dist.Flip(0.5))
        return x * (2 if y else 1)

    def model():
        return (yield from cp.handle(Both(), inner)())

    for capture in STRATEGIES:
        marginal = cp.infer.enumerate(model, capture=capture)().marginal()
        assert dict(marginal) == pytest.approx({22: 0.25, 12: 0.25, 21: 0.25, 11: 0.25})


# --- falling back ---------------------------------------------------------------------------


@pytest.mark.clones("nothing falls back on what is asked for")
@every_order
def test_what_cannot_be_cloned_is_replayed_and_said(order):
    def model():
        handle = threading.Lock()
        with handle:
            a = yield cp.sample("a", dist.RandInt(0, 3))
            b = yield cp.sample("b", dist.Flip(0.5))
        return a, b

    posterior = cp.infer.enumerate(model, order=order)()
    assert len(posterior.marginal()) == 6
    if native is not None:
        assert "local 'handle'" in " ".join(posterior.notes)
        with pytest.raises(CaptureError, match="local 'handle'"):
            cp.infer.enumerate(model, order=order, capture="clone")()


@every_strategy
def test_an_iterator_as_argument_is_refused_by_name(capture):
    def model(items):
        for item in items:
            yield cp.sample(f"x{item}", dist.Flip(0.5))

    with pytest.raises(CaptureError, match=r"handed to the model|given the iterator"):
        cp.infer.enumerate(model, capture=capture)(iter([1, 2]))


# --- bad input ------------------------------------------------------------------------------


def _continuous():
    yield cp.sample("a", dist.Flip(0.5))
    yield cp.sample("height", dist.Normal(0.0, 1.0))


def _no_distribution():
    yield cp.sample("p", 0.5)


def _outside_support():
    yield cp.sample("coin", dist.Flip(0.5), obs="tails")


def _nan():
    yield cp.factor("oops", float("nan"))


def _not_an_effect():
    yield 5


def _forgotten():
    cp.sample("x", dist.Flip(0.5))
    yield cp.sample("y", dist.Flip(0.5))


def _nobody_handles():
    yield cp.operation("launch")()


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (_continuous, NotEnumerableError, "height"),
        (_no_distribution, DistributionError, "Flip"),
        (_outside_support, OutsideSupportError, "coin"),
        (_nan, BadWeightError, "log-factor"),
        (_not_an_effect, BadYieldError, "yielded 5"),
        (_forgotten, UnperformedEffectError, "x = yield"),
        (_nobody_handles, UnhandledEffectError, "on_launch"),
        (lambda: 3, NotAModelError, "generator"),
    ],
)
@every_strategy
def test_each_mistake_has_a_named_error_that_shows_the_line(model, error, words, capture):
    with pytest.raises(error, match=words) as caught:
        cp.infer.enumerate(model, capture=capture)()
    text = str(caught.value) + " ".join(getattr(caught.value, "__notes__", []))
    if error is not BadWeightError:
        assert "test_enumerate.py:" in text


def test_all_paths_of_weight_zero_are_said_when_something_is_asked():
    def model():
        yield cp.sample("a", dist.Flip(0.5))
        yield cp.factor("never", -math.inf)

    posterior = cp.infer.enumerate(model)()
    assert posterior.log_evidence == -math.inf
    with pytest.raises(ZeroEvidenceError):
        posterior.marginal()


def test_an_error_of_the_model_says_on_which_execution_it_happened():
    def model():
        a = yield cp.sample("a", dist.RandInt(0, 3))
        return 1 / (a - 1)

    for capture in STRATEGIES:
        with pytest.raises(ZeroDivisionError) as caught:
            cp.infer.enumerate(model, capture=capture)()
        assert caught.value.__notes__ == ["this happened on the execution with a=1"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"order": "sideways"}, ValueError),
        ({"capture": "magic"}, ValueError),
        ({"max_executions": -1}, BudgetError),
        ({"max_executions": 1.5}, BudgetError),
        ({"max_seconds": -1}, BudgetError),
        ({"max_seconds": float("nan")}, BudgetError),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, error):
    with pytest.raises(error):
        cp.infer.enumerate(flips, **options)


def test_a_model_that_is_not_callable_is_refused():
    with pytest.raises(TypeError, match="its arguments"):
        cp.infer.enumerate(flips(3))


def test_the_handler_stack_is_as_before_after_an_error():
    from contpoutine.core.ambient import AMBIENT

    def model():
        with Names():
            yield cp.sample("a", dist.Flip(0.5))
            raise RuntimeError

    for capture in STRATEGIES:
        with pytest.raises(RuntimeError):
            cp.infer.enumerate(model, capture=capture)()
        assert AMBIENT.get() == ()


# --- size -----------------------------------------------------------------------------------


def test_deep_executions_need_no_recursion():
    def long(n):
        total = 0
        for i in range(n):
            total += yield cp.sample("x", dist.Flip(1.0))
        return total

    def nested(n):
        return 1 + (yield nested(n - 1)) if n else (yield cp.sample("x", dist.Flip(0.5)))

    assert cp.infer.enumerate(long)(100_000).marginal()[100_000] == 1.0
    assert cp.infer.enumerate(nested)(10_000).marginal()[10_001] == pytest.approx(0.5)
