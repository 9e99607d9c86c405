"""infer.enumerate on ordinary functions: the same posteriors as for generators, and its own cares."""

from __future__ import annotations

import gc
import itertools
import math
import random

import pytest

import contpoutine as cp
import contpoutine.compat.pyro as pyro
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.native import native
from contpoutine.errors import (
    BarrierError,
    CaptureError,
    NotAModelError,
    NotEnumerableError,
    ReplayDiverged,
    SharedIteratorError,
    UnperformedEffectError,
)
from contpoutine.infer.driver import Driver
from contpoutine.infer.enumeration import make_explorer
from contpoutine.infer.explorer import Explorer
from tests.models.direct import TWINS

ORDERS = ("depth_first", "breadth_first", "likely_first")
every_order = pytest.mark.parametrize("order", ORDERS)
every_strategy = pytest.mark.parametrize("capture", ["auto", "replay"])
in_c = pytest.mark.skipif(native is None, reason="this is how the loop in C does it")
every_twin = pytest.mark.parametrize("twins", TWINS, ids=lambda twins: repr(twins[1]))


def columns(posterior):
    return {name: list(getattr(posterior.tree, name)) for name in posterior.tree.__slots__}


# --- the same tree --------------------------------------------------------------------------


@every_twin
@every_order
@every_strategy
def test_a_function_has_the_tree_of_the_generator_that_it_would_be(twins, order, capture):
    direct, generator = twins
    found = cp.infer.enumerate(direct.model, order=order, capture=capture)(*direct.args)
    expected = cp.infer.enumerate(generator.model, order=order)(*generator.args)
    assert columns(found) == columns(expected)
    assert found.branches == expected.branches
    assert found.log_evidence == expected.log_evidence


@every_twin
@every_order
def test_both_loops_make_the_same_tree_of_a_function(twins, order):
    case = twins[0]
    trees = []
    for make in (Explorer, make_explorer):
        explorer = make(Driver(case.model, case.args, {}, "auto"), order)
        assert explorer.run()
        trees.append(explorer.tree())
    for name in trees[0].__slots__:
        assert list(getattr(trees[0], name)) == list(getattr(trees[1], name))


@every_twin
@every_order
def test_a_search_in_many_small_runs_ends_like_one_in_one_run(twins, order):
    case = twins[0]
    whole = make_explorer(Driver(case.model, case.args, {}, "auto"), order)
    whole.run()
    parts = make_explorer(Driver(case.model, case.args, {}, "auto"), order)
    budget = 0
    while not parts.run(budget):
        assert parts.executions == budget
        budget += 1
    assert list(parts.tree().leaf_values) == list(whole.tree().leaf_values)


def flips(n):
    return sum(pyro.sample(f"x{i}", dist.Flip(0.4)) for i in range(n))


@every_order
@pytest.mark.parametrize("budget", [0, 1, 3, 8])
def test_a_budget_stops_a_function_where_it_stops_a_generator(order, budget):
    def generator(n):
        heads = 0
        for i in range(n):
            heads += yield cp.sample(f"x{i}", dist.Flip(0.4))
        return heads

    found = cp.infer.enumerate(flips, order=order, max_executions=budget)(3)
    expected = cp.infer.enumerate(generator, order=order, max_executions=budget)(3)
    assert columns(found) == columns(expected)
    assert found.explored_mass == expected.explored_mass
    assert found.complete == expected.complete


def test_more_suspended_functions_than_are_kept_are_run_again():
    posterior = cp.infer.enumerate(flips, order="breadth_first")(12)
    assert posterior.branches == 2**13 - 2
    assert posterior.marginal()[3] == pytest.approx(math.comb(12, 3) * 0.4**3 * 0.6**9)


def test_an_enumeration_with_a_clock_finds_the_same():
    posterior = cp.infer.enumerate(flips, max_seconds=600)(6)
    assert columns(posterior) == columns(cp.infer.enumerate(flips)(6))


@pytest.mark.clones("about the explorer in C")
@in_c
def test_the_notes_say_how_often_the_function_ran_again():
    (note,) = cp.infer.enumerate(flips)(3).notes
    assert "flips" in note and __file__ in note and "7 of the resumptions" in note


# --- what a function may do -----------------------------------------------------------------


def test_the_first_resumption_goes_on_and_each_other_one_runs_the_function_again():
    begun = []

    def model():
        begun.append(None)
        return pyro.sample("x", dist.RandInt(5))

    cp.infer.enumerate(model)()
    assert len(begun) == 5


def test_handlers_inside_of_a_function_act_in_each_branch():
    def model():
        a = pyro.sample("a", dist.Flip(0.5))
        with poutine.trace() as tr, poutine.condition(data={"b": True}):
            pyro.sample("b", dist.Flip(0.9 if a else 0.1))
            c = pyro.sample("c", dist.Flip(0.5))
        return a, c, tuple(tr.trace.nodes), tr.trace.nodes["c"]["value"]

    posterior = cp.infer.enumerate(model)()
    assert posterior.marginal("a")[True] == pytest.approx(0.9)
    assert set(posterior.marginal()) == {
        (a, c, ("b", "c"), c) for a, c in itertools.product((True, False), repeat=2)
    }


def test_a_handler_with_a_state_that_a_function_keeps_across_choices():
    class Names(cp.Messenger):
        def __enter__(self):
            self.names = []
            return super().__enter__()

        def _pyro_post_sample(self, msg):
            self.names.append((msg["name"], msg["value"]))

    def model():
        with Names() as seen:
            for name in "abc":
                pyro.sample(name, dist.Flip(0.5))
        return tuple(seen.names)

    found = set(cp.infer.enumerate(model)().marginal())
    assert found == {
        tuple(zip("abc", values)) for values in itertools.product((True, False), repeat=3)
    }


@pytest.mark.parametrize("wrap", [poutine.trace, lambda m: poutine.condition(m, data={"b": True})])
def test_a_wrapped_function_is_enumerated(wrap):
    def model():
        return pyro.sample("a", dist.Flip(0.25)), pyro.sample("b", dist.Flip(0.5))

    posterior = cp.infer.enumerate(wrap(model))()
    assert posterior.marginal("a")[True] == pytest.approx(0.25)


def test_styles_call_each_other_to_any_depth():
    def generator(depth):
        x = yield cp.sample(f"g{depth}", dist.Flip(0.5))
        rest = (yield cp.call(function, depth - 1)) if depth else ()
        return (x, *rest)

    def function(depth):
        x = pyro.sample(f"f{depth}", dist.Flip(0.5))
        rest = cp.run(generator, depth - 1) if depth else ()
        y = pyro.sample(f"after{depth}", dist.Flip(0.5))
        return (x, *rest, y)

    for model in (generator, function):
        for order in ORDERS:
            posterior = cp.infer.enumerate(model, order=order)(3)
            outcomes = dict(posterior.marginal().items())
            assert len(outcomes) == 2 ** len(next(iter(outcomes)))
            assert len(set(outcomes.values())) == 1


def test_a_sampled_list_is_each_branch_its_own():
    def model():
        items = pyro.sample("items", dist.UniformDraw([[1], [2]]))
        items.append(pyro.sample("more", dist.RandInt(3)))
        return tuple(items)

    assert sorted(cp.infer.enumerate(model)().marginal()) == [
        (first, more) for first in (1, 2) for more in range(3)
    ]


def test_a_sampled_tensor_may_be_changed_in_place():
    import torch

    def model():
        x = pyro.sample("x", dist.Bernoulli(torch.tensor(0.5)))
        y = pyro.sample("y", dist.Bernoulli(torch.tensor(0.5)))
        x += 2 * y
        return float(x)

    assert sorted(cp.infer.enumerate(model)().marginal()) == [0.0, 1.0, 2.0, 3.0]


def test_a_batched_site_of_a_function_is_enumerated_element_by_element():
    import torch

    def model():
        first = pyro.sample("first", dist.Flip(0.5))
        x = pyro.sample("x", dist.Bernoulli(torch.tensor([0.5, 0.25])))
        last = pyro.sample("last", dist.Flip(0.5))
        return first, int(x.sum()), last

    marginal = cp.infer.enumerate(model)().marginal()
    assert len(marginal) == 12
    assert marginal[True, 2, False] == pytest.approx(0.25 * 0.125)


@pytest.mark.clones("about the explorer in C")
@in_c  # a replay that the whole machine drives goes on with numbers of its own after the prefix
def test_unnamed_random_numbers_are_the_same_in_each_branch():
    def model():
        before = random.random()
        a = pyro.sample("a", dist.RandInt(3))
        between = random.random() if a else None
        b = pyro.sample("b", dist.RandInt(3))
        return before, a, between, b

    for order in ORDERS:
        random.seed(7)
        outcomes = list(cp.infer.enumerate(model, order=order)().marginal())
        assert len(outcomes) == 9
        assert len({before for before, *_ in outcomes}) == 1
        for a in range(3):
            assert len({between for _, x, between, _ in outcomes if x == a}) == 1


def test_an_enumeration_inside_of_an_enumerated_function():
    def inner(p):
        a = pyro.sample("a", dist.Flip(p))
        pyro.sample("seen", dist.Flip(0.9 if a else 0.2), obs=True)
        return a

    def outer():
        p = pyro.sample("p", dist.UniformDraw([0.25, 0.5]))
        belief = cp.infer.enumerate(inner)(p).marginal()[True]
        return p, belief, pyro.sample("b", dist.Flip(belief))

    outcomes = set(cp.infer.enumerate(outer)().marginal())
    beliefs = {p: p * 0.9 / (p * 0.9 + (1 - p) * 0.2) for p in (0.25, 0.5)}
    assert {(p, round(belief, 9)) for p, belief, _ in outcomes} == {
        (p, round(belief, 9)) for p, belief in beliefs.items()
    }
    assert len(outcomes) == 4


def test_a_function_that_gives_a_generator_is_that_model():
    def generator():
        return (yield cp.sample("x", dist.Flip(0.25)))

    posterior = cp.infer.enumerate(lambda: generator())()
    assert posterior.marginal()[True] == pytest.approx(0.25)
    assert native is None or not posterior.notes


# --- clean-up -------------------------------------------------------------------------------


@pytest.mark.skipif(native is None, reason="without the extension a greenlet runs its clean-up")
@every_order
def test_a_function_that_is_given_up_runs_no_clean_up(order):
    log = []

    class Block:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            log.append("exit")

    def model():
        n = pyro.sample("n", dist.RandInt(3))
        with Block():
            try:
                list(map(lambda i: pyro.sample(f"x{i}", dist.Flip(0.5)), range(n)))
                pyro.sample("no", dist.Flip(0.0), obs=True)
            except BaseException:
                log.append("except")
                raise
            finally:
                log.append("finally")
        return n

    posterior = cp.infer.enumerate(model, order=order)()
    assert posterior.log_evidence == -math.inf
    gc.collect()
    partial = cp.infer.enumerate(model, order=order, max_executions=0)()
    assert not partial.complete
    gc.collect()
    assert log == []


@every_order
def test_a_function_that_swallows_everything_is_given_up_all_the_same(order):
    def model():
        x = pyro.sample("x", dist.RandInt(3))
        while True:
            try:
                pyro.sample("y", dist.Flip(0.5))
                pyro.sample("even", dist.Flip(1.0 if x == 2 else 0.0), obs=True)
                return x
            except:  # noqa: E722
                continue

    posterior = cp.infer.enumerate(model, order=order)()
    assert dict(posterior.marginal().items()) == {2: pytest.approx(1.0)}
    gc.collect()


# --- bad input ------------------------------------------------------------------------------


@every_order
@every_strategy
def test_a_function_that_is_not_deterministic_given_its_answers_is_named_with_its_site(
    order, capture
):
    runs = []

    def model():
        runs.append(None)
        pyro.sample(f"a{len(runs)}", dist.Flip(0.5))
        pyro.sample("b", dist.Flip(0.5))

    with pytest.raises(ReplayDiverged, match="asked for sample 'a2'.* asked for sample 'a1'"):
        cp.infer.enumerate(model, order=order, capture=capture)()


def test_a_diverging_function_cannot_swallow_that():
    runs = []

    def model():
        runs.append(None)
        try:
            pyro.sample(f"a{len(runs)}", dist.Flip(0.5))
            pyro.sample("b", dist.Flip(0.5))
        except:  # noqa: E722
            return "swallowed"

    with pytest.raises(ReplayDiverged):
        cp.infer.enumerate(model)()


def test_a_function_that_ends_early_when_it_runs_again_is_named():
    runs = []

    def model():
        runs.append(None)
        if len(runs) == 1:
            pyro.sample("a", dist.Flip(0.5))

    with pytest.raises(ReplayDiverged, match="nothing more and returned"):
        cp.infer.enumerate(model)()


def test_a_function_called_plainly_by_a_generator_is_refused_with_the_line_to_write():
    def function():
        return pyro.sample("x", dist.Flip(0.5))

    def model():
        yield cp.sample("y", dist.Flip(0.5))
        return function()

    with pytest.raises(BarrierError, match=r"'x'.*`yield cp.call\(function, ...\)`"):
        cp.infer.enumerate(model)()


def test_clone_alone_is_refused_for_a_function_with_more_than_one_value():
    with pytest.raises(CaptureError, match="ordinary function"):
        cp.infer.enumerate(flips, capture="clone" if native else "auto")(2)
        raise CaptureError("an ordinary function")  # without the extension there is no clone


def test_a_forgotten_yield_is_not_taken_for_direct_style():
    def dropped():
        cp.sample("x", dist.Flip(0.5))
        return 3

    def returned():
        return cp.sample("x", dist.Flip(0.5))

    for model in (dropped, returned):
        with pytest.raises(UnperformedEffectError, match="x = yield sample"):
            cp.infer.enumerate(model)()


def test_a_function_without_effects_is_no_model():
    with pytest.raises(NotAModelError, match="performed no effect"):
        cp.infer.enumerate(lambda: 3)()


def test_a_site_that_cannot_be_enumerated_is_named():
    def model():
        return pyro.sample("height", dist.Normal(0.0, 1.0))

    with pytest.raises(NotEnumerableError, match="height"):
        cp.infer.enumerate(model)()


def test_an_iterator_as_an_argument_is_refused():
    def model(source):
        return pyro.sample("x", dist.Flip(0.5)), next(source)

    with pytest.raises(SharedIteratorError):
        cp.infer.enumerate(model)(iter("abc"))


def test_an_error_of_the_function_leaves_with_its_path_and_the_stack_as_it_was():
    def model():
        with poutine.block():
            pass
        x = pyro.sample("x", dist.RandInt(3))
        with poutine.trace():
            if x == 1:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        cp.infer.enumerate(model)()
    assert "x=1" in caught.value.__notes__[0]
    assert not poutine.runtime.am_i_wrapped()


def test_greenlets_that_began_at_another_depth_of_the_c_stack():
    def deeper(levels, found):
        """Call `found` from below that many C frames."""
        return found() if levels == 0 else max([0], key=lambda _: deeper(levels - 1, found) or 0)

    expected = columns(cp.infer.enumerate(flips)(4))
    for levels in (0, 40, 10, 60, 0):
        results = []
        deeper(levels, lambda: results.append(cp.infer.enumerate(flips)(4)))
        assert columns(results[0]) == expected

    def outer():
        first = pyro.sample("first", dist.Flip(0.5))
        results = []
        deeper(20 if first else 0, lambda: results.append(cp.infer.enumerate(flips)(4)))
        assert columns(results[0]) == expected
        return first, pyro.sample("second", dist.Flip(0.5))

    assert len(cp.infer.enumerate(outer)().marginal()) == 4


def test_a_generator_that_a_function_gives_is_cloned_with_its_cells():
    def generator():
        total = 0

        def add(n):
            nonlocal total
            total += yield cp.sample(f"n{n}", dist.RandInt(3))
            return total

        for n in range(3):
            yield add(n)
        return total

    for order in ORDERS:
        found = cp.infer.enumerate(lambda: generator(), order=order)()
        assert columns(found) == columns(cp.infer.enumerate(generator, order=order)())
