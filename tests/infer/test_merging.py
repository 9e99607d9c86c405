"""Enumeration with merging gives what enumeration without merging gives, from fewer states."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import threading
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.core.native import native
from contpoutine.errors import BudgetError, CaptureError
from contpoutine.infer.merged import MergedExplorer
from contpoutine.infer.merging import Search
from contpoutine.infer.native_merged import DONE, NativeMerged
from contpoutine.infer.state_graph import CALL
from contpoutine.testing import DrawnModel, likeness, models
from tests.models.corpus import CORPUS

pytestmark = [
    pytest.mark.skipif(native is None, reason="states are compared by the C extension"),
    pytest.mark.clones("replay has no states to merge, and some of these models do not end"),
]

EXAMPLES = int(os.environ.get("LAWS", "500"))


def table(posterior: Any) -> dict[str, float]:
    """Probability of each return value, by its repr, so that 1 and True are two."""
    found: collections.Counter[str] = collections.Counter()
    for value, p in posterior.marginal().items():
        found[repr(value)] += p
    return dict(found)


def check_same(one: Any, two: Any) -> None:
    if math.isinf(two.log_evidence):
        assert one.log_evidence == two.log_evidence
        return
    assert one.log_evidence == pytest.approx(two.log_evidence, abs=1e-10)
    first, second = table(one), table(two)
    assert first.keys() == second.keys()
    assert all(first[value] == pytest.approx(second[value], abs=1e-10) for value in first)


def check(model: Any, *args: Any, **options: Any) -> Any:
    """The posterior with merging, which must be the one without."""
    merged = cp.infer.enumerate(model, merge=True, **options)(*args)
    check_same(merged, cp.infer.enumerate(model, **options)(*args))
    return merged


def in_python(model: Any, *args: Any) -> Any:
    """The posterior by the loop in Python, whatever the one in C could do."""
    search = Search(model, args, {}, "auto", "breadth_first", 1_000_000)
    search.explorer = search._explorer(1_000_000, bare=False)
    assert isinstance(search.explorer, MergedExplorer)
    return search.run(None, math.inf)


def outcome(call: Any) -> Any:
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


# --- the law ---------------------------------------------------------------------------------------


def told(model: DrawnModel, places: set[int]) -> Any:
    """A drawn model that returns what a few of its locals look like, and holds no others."""
    body, _, held = model.source.rpartition("return [")
    names = held.rstrip("]\n").split(", ")
    kept = sorted({names[place % len(names)] for place in places})
    shorter = DrawnModel(f"{body}return [{', '.join([*kept, 'len(fuel)'])}]\n")

    def run():
        return likeness(*(yield from shorter()))

    return run


drawing = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
few = st.sets(st.integers(0, 11), max_size=4)


@given(models(), few)
@settings(drawing, max_examples=max(1, EXAMPLES // 5))
def test_drawn_models_have_the_same_posterior(model, places):
    model = told(model, places)
    expected = outcome(lambda: cp.infer.enumerate(model)())
    merged = outcome(lambda: cp.infer.enumerate(model, merge=True)())
    if isinstance(expected, tuple):
        assert isinstance(merged, tuple)  # which execution fails first is a matter of order
    else:
        check_same(merged, expected)


@given(models(), few)
@settings(drawing, max_examples=max(1, EXAMPLES // 25))
def test_drawn_models_have_the_same_posterior_in_python(model, places):
    model = told(model, places)
    expected = outcome(lambda: cp.infer.enumerate(model)())
    if not isinstance(expected, tuple):
        check_same(in_python(model), expected)


@pytest.mark.parametrize("case", CORPUS, ids=repr)
@pytest.mark.parametrize("order", ["breadth_first", "depth_first", "likely_first"])
def test_the_corpus_has_the_same_posteriors(case, order):
    check(case.model, *case.args, order=order)


@pytest.mark.parametrize("case", CORPUS, ids=repr)
def test_the_loop_in_python_agrees(case):
    check_same(in_python(case.model, *case.args), cp.infer.enumerate(case.model)(*case.args))


@pytest.mark.parametrize("case", CORPUS, ids=repr)
def test_replay_agrees(case):
    check(case.model, *case.args, capture="replay")


@pytest.mark.parametrize("share_calls", [True, False])
def test_the_two_loops_make_the_same_graph_where_nothing_is_called(share_calls):
    def model(n):
        low, high = 0, []
        for _ in range(n):
            low = min(low + (yield cp.sample("x", dist.RandInt(0, 3))), 2)
            if low == 1:
                yield cp.factor("one", -0.5)
                yield cp.deterministic("low", low)
            high = [low]
        return tuple(high)

    def explore(bare):
        search = Search(model, (4,), {}, "auto", "breadth_first", 1000, share_calls=share_calls)
        search.explorer = search._explorer(1000, bare=bare)
        search.run(None, math.inf)
        return search.explorer.graph()

    one, two = explore(True), explore(False)
    for name in ("kind", "site", "first_edge", "edge_count", "outcome", "target", "value"):
        assert list(getattr(one, name)) == list(getattr(two, name)), name
    for name in ("weight", "log_weight"):
        assert list(getattr(one, name)) == pytest.approx(list(getattr(two, name)))
    assert one.passed == two.passed


# --- what meets, and what must not ------------------------------------------------------------------


def hidden_markov(symbols):
    state = 0
    for symbol in symbols:
        state = yield cp.sample("z", dist.Finite({0: 0.7 - 0.2 * state, 1: 0.3 + 0.2 * state}))
        yield cp.observe("y", dist.Flip(0.3 + 0.5 * state), symbol)
    return state


def test_a_hidden_markov_model_costs_k_states_a_step():
    posterior = check(hidden_markov, [True, False] * 4)
    assert len(posterior.graph) == 1 + 2 * 8
    assert posterior.branches == 2 + 4 * 7
    long = cp.infer.enumerate(hidden_markov, merge=True)([True, False] * 400)
    assert len(long.graph) == 1 + 2 * 800


def test_a_sum_costs_its_values():
    def total(n):
        heads = 0
        for i in range(n):
            heads += yield cp.sample(f"x{i}", dist.Flip(0.5))
        return heads

    posterior = check(total, 10)
    assert len(posterior.graph) == 1 + sum(2 * (i + 1) for i in range(10))
    assert posterior.marginal("x3")[True] == pytest.approx(0.5)


PAIRS = [
    (1, True), (1, 1.0), (True, 1.0), (0.0, -0.0), ((0.0,), (-0.0,)), (0, False), ("1", 1),
    (float("nan"), float("nan")), (b"a", "a"), ([], ()), (frozenset(), ()),
]  # fmt: skip


@pytest.mark.parametrize("first, second", PAIRS, ids=repr)
def test_values_that_look_alike_stay_apart(first, second):
    def model():
        held = first if (yield cp.sample("which", dist.Flip(0.25))) else second
        yield cp.sample("between", dist.Flip(0.5))
        return f"{type(held).__name__} {held!r} {held is first}"

    assert len(check(model).marginal()) == 2


def test_one_list_twice_is_not_two_equal_lists():
    def model():
        a = [0]
        b = a if (yield cp.sample("alias", dist.Flip(0.25))) else [0]
        a.append((yield cp.sample("between", dist.Flip(0.5))))
        return len(b)

    assert check(model).marginal()[2] == pytest.approx(0.25)


def test_what_a_branch_appends_is_its_own():
    def model():
        seen = []
        for _ in range(4):
            seen.append((yield cp.sample("x", dist.Flip(0.5))))
            if len(seen) > 2:
                del seen[0]
        return tuple(seen)

    posterior = check(model)
    assert len(posterior.marginal()) == 4 and posterior.graph.edge_count[0] == 2


def test_objects_that_lie_about_equality_stay_apart():
    class Liar:
        def __init__(self, x):
            self.x = x

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 1

    class Grumpy(Liar):
        def __eq__(self, other):
            raise RuntimeError("do not compare me")

        def __hash__(self):
            raise RuntimeError("do not hash me")

    def model(kind):
        held = kind((yield cp.sample("x", dist.RandInt(0, 3))))
        yield cp.sample("between", dist.Flip(0.5))
        return held.x

    for kind in (Liar, Grumpy):
        assert len(check(model, kind).marginal()) == 3


def test_a_handler_that_counts_keeps_states_apart():
    class Count(cp.Messenger):
        def __enter__(self):
            self.heads = 0
            return super().__enter__()

        def _pyro_post_sample(self, msg):
            self.heads += msg["value"]

    def model():
        with Count() as count:
            for _ in range(4):
                yield cp.sample("x", dist.Flip(0.25))
        return count.heads

    posterior = check(model)
    assert posterior.marginal()[0] == pytest.approx(0.75**4)
    assert len(posterior.graph) < 2**5 - 1


def test_handlers_without_a_state_do_not():
    def steps(n):
        state = False
        for _ in range(n):
            state = yield cp.sample("z", dist.Flip(0.7 if state else 0.2))
            yield cp.sample("y", dist.Flip(0.9 if state else 0.3))
        return state

    model = cp.poutine.condition(steps, data={"y": True})
    assert len(check(model, 6).graph) == 1 + 2 * 6
    blocked = cp.poutine.trace(steps)
    assert len(check(lambda: blocked(3)).marginal()) == 2


def test_weight_zero_is_pruned_and_deterministic_sites_are_known():
    def model():
        x = yield cp.sample("x", dist.RandInt(0, 4))
        yield cp.deterministic("half", x // 2)
        yield cp.factor("odd", 0.0 if x % 2 else -math.inf)
        yield cp.sample("y", dist.Flip(0.5))
        return x

    posterior = check(model)
    assert dict(posterior.marginal("half").items()) == pytest.approx({0: 0.5, 1: 0.5})


# --- calls ------------------------------------------------------------------------------------------


def test_a_call_is_explored_once_for_all_of_its_callers():
    runs = []

    def coin(bias):
        runs.append(bias)
        return (yield cp.sample("coin", dist.Flip(bias)))

    def model():
        first = yield cp.sample("first", dist.RandInt(0, 5))
        a = yield coin(0.25)
        b = yield coin(0.25)
        return (a + b) * (first + 1)

    posterior = cp.infer.enumerate(model, merge=True)()
    assert runs == [0.25]
    assert posterior.graph.kind.count(CALL) == 5 + 5 * 2
    check_same(posterior, cp.infer.enumerate(model)())


def test_each_caller_gets_a_list_of_its_own():
    def make():
        return [(yield cp.sample("x", dist.Flip(0.5)))]

    def model():
        a = yield make()
        b = yield make()
        a.append((yield cp.sample("y", dist.Flip(0.5))))
        return tuple(a), tuple(b), a is b

    check(model)


def test_a_call_that_shares_a_list_with_its_caller_is_run_on_its_stack():
    def push(log):
        log.append((yield cp.sample("x", dist.Flip(0.5))))

    def model():
        log = []
        yield push(log)
        yield push(log)
        return tuple(log)

    posterior = check(model)
    assert CALL not in posterior.graph.kind


def test_an_exception_goes_through_calls():
    def risky(n):
        if (yield cp.sample("fails", dist.Flip(0.25))):
            raise ValueError(n)
        return n

    def model():
        total = 0
        for n in range(3):
            try:
                total += yield risky(n)
            except ValueError as error:
                total -= 10 * error.args[0]
            total += yield cp.sample("then", dist.Flip(0.5))
        return total

    check(model)


def test_an_error_of_the_model_says_where():
    def inner(x):
        yield cp.sample("y", dist.Flip(0.5))
        return 1 // x

    def model():
        return (yield inner((yield cp.sample("x", dist.RandInt(0, 2)))))

    with pytest.raises(ZeroDivisionError) as raised:
        cp.infer.enumerate(model, merge=True)()
    assert any("x=0" in note for note in raised.value.__notes__)


def test_a_program_that_calls_itself_is_a_cycle():
    def geometric(p):
        if (yield cp.sample("stop", dist.Flip(p))):
            return 0
        return (1 + (yield geometric(p))) % 3

    posterior = cp.infer.enumerate(geometric, merge=True)(0.25)
    mass = [0.25 * 0.75**k / (1 - 0.75**3) for k in range(3)]
    assert [posterior.marginal()[k] for k in range(3)] == pytest.approx(mass, abs=1e-10)
    assert len(posterior.graph) < 20


def test_a_walk_until_absorption_is_a_cycle():
    def walk(x, n, up):
        while 0 < x < n:
            x += 1 if (yield cp.sample("step", dist.Flip(up))) else -1
        return x

    posterior = cp.infer.enumerate(walk, merge=True)(5, 20, 0.45)
    ratio = 0.55 / 0.45
    ruin = (1 - ratio**5) / (1 - ratio**20)
    assert posterior.marginal()[20] == pytest.approx(ruin, rel=1e-10)


# --- other models -----------------------------------------------------------------------------------


def test_control_handlers_inside_a_model():
    choose = cp.operation("choose")

    class Sums(cp.Handler):
        def on_choose(self, msg, k):
            total = 0
            for value in msg["args"]:
                total += yield k(value)
            return total

    def inner():
        x = yield choose(1, 2)
        return x * (yield cp.sample("x", dist.RandInt(0, 3)))

    def model():
        return (yield from cp.handle(Sums(), inner)())

    check(model)


def test_batched_sites_and_tensors():
    def model():
        state = torch.tensor(0.0)
        for _ in range(2):
            both = yield cp.sample("both", dist.Bernoulli(torch.tensor([0.25, 0.5])))
            state = (state + both.sum()).clamp(max=2.0)
        return float(state)

    check(model)


def test_a_hidden_markov_model_in_torch():
    rows = torch.tensor([[0.9, 0.1], [0.3, 0.7]])

    def model(n):
        state = torch.tensor(0)
        for t in range(n):
            state = yield cp.sample(f"z{t}", dist.Categorical(rows[state]))
            yield cp.observe(f"y{t}", dist.Bernoulli(rows[state, 0]), torch.tensor(1.0))
        return int(state)

    posterior = check(model, 5)
    assert len(posterior.graph) == 1 + 2 * 5


def test_gradients_flow_through_the_graph():
    def model(logits, bias):
        state = torch.tensor(0)
        for _ in range(3):
            state = yield cp.sample("z", dist.Categorical(logits=logits[state]))
            yield cp.observe("y", dist.Bernoulli(logits=bias[state]), torch.tensor(1.0))
            yield cp.factor("f", 0.1 * bias[state])
        return int(state)

    logits = torch.tensor([[0.3, -0.2], [0.1, 0.5]], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)

    forward = torch.log_softmax(logits, -1)
    weight = torch.nn.functional.logsigmoid(bias) + 0.1 * bias
    alpha = forward[0] + weight
    for _ in range(2):
        alpha = torch.logsumexp(alpha[:, None] + forward, 0) + weight
    expected = torch.autograd.grad(torch.logsumexp(alpha, 0), [logits, bias])

    posterior = cp.infer.enumerate(model, merge=True)(logits, bias)
    got = torch.autograd.grad(posterior.log_evidence_tensor(), [logits, bias])
    for one, two in zip(got, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-9, rtol=1e-9)


def test_a_tensor_that_a_branch_changes_in_place():
    def model():
        total = torch.zeros(2)
        for _ in range(2):
            total[1] += float((yield cp.sample("x", dist.Flip(0.5))))
        return float(total.sum())

    check(model)


def test_a_model_that_cannot_be_cloned_is_replayed_and_says_so():
    def model():
        lock = threading.Lock()
        a = yield cp.sample("a", dist.Flip(0.5))
        b = yield cp.sample("b", dist.Flip(0.5))
        return a + b + lock.locked()

    posterior = check(model)
    assert "replay" in " ".join(posterior.notes)
    with pytest.raises(CaptureError):
        cp.infer.enumerate(model, merge=True, capture="clone")()


def test_what_cannot_be_compared_is_noted():
    def model():
        try:
            raise ValueError((yield cp.sample("a", dist.Flip(0.5))))
        except ValueError as error:
            yield cp.sample("b", dist.Flip(0.5))
            return error.args

    assert "could not be compared" in " ".join(check(model).notes)


def test_dataclasses_are_states():
    def model():
        at = Spot(0, 0)
        for _ in range(3):
            right = yield cp.sample("right", dist.Flip(0.5))
            at = Spot(at.x + right, at.y + (not right))
        return at.x

    assert len(check(model).graph) < 15


@dataclasses.dataclass(frozen=True)
class Spot:
    x: int
    y: int


# --- budgets ----------------------------------------------------------------------------------------


def waiting():
    n = 0
    while not (yield cp.sample("done", dist.Flip(0.5))):
        n += 1
    return n


def test_a_partial_search_is_refined_and_its_bounds_close():
    posterior = cp.infer.enumerate(waiting, merge=True, max_executions=2)()
    gaps = []
    for _ in range(4):
        assert not posterior.complete
        low, high = posterior.marginal().bounds(0)
        assert low <= 0.5 <= high
        gaps.append(high - low)
        posterior = cp.infer.refine(posterior, max_executions=2)
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 0.01


def test_a_refined_search_ends_as_one_that_was_never_stopped():
    posterior = cp.infer.enumerate(hidden_markov, merge=True, max_seconds=0)([True, False] * 5)
    assert not posterior.complete
    posterior = cp.infer.refine(posterior)
    assert posterior.complete and cp.infer.refine(posterior) is posterior
    check_same(posterior, cp.infer.enumerate(hidden_markov)([True, False] * 5))


def test_only_the_newest_partial_posterior_can_be_refined():
    first = cp.infer.enumerate(waiting, merge=True, max_executions=2)()
    before = first.marginal().bounds(0)
    cp.infer.refine(first, max_executions=2)
    assert first.marginal().bounds(0) == before
    with pytest.raises(TypeError, match="newest"):
        cp.infer.refine(first, max_executions=2)
    tree = cp.infer.enumerate(waiting, order="likely_first", max_executions=2)()
    with pytest.raises(TypeError, match="merge=True"):
        cp.infer.refine(tree, max_executions=2)


def test_states_without_end_are_an_error_that_names_what_grows():
    def model():
        steps, half, fixed = 0, 0, 3
        while (yield cp.sample("more", dist.Flip(0.5))):
            steps += 1
            half = steps // 2
            yield cp.sample("again", dist.Flip(0.5))
            fixed = 3 + 0 * half
        return steps + half + fixed

    with pytest.raises(BudgetError, match="'steps' in .*'half' in") as raised:
        cp.infer.enumerate(model, merge=True, max_states=5000)()
    assert "'fixed'" not in str(raised.value)


def test_options_are_checked():
    with pytest.raises(ValueError, match="merge must be"):
        cp.infer.enumerate(waiting, merge="yes")
    with pytest.raises(BudgetError, match="max_states"):
        cp.infer.enumerate(waiting, merge=True, max_states=0)


# --- choosing ---------------------------------------------------------------------------------------


def test_auto_merges_where_states_meet_again():
    merged = cp.infer.enumerate(hidden_markov, merge="auto")([True] * 200)
    assert len(merged.graph) == 401


def test_auto_makes_a_tree_where_they_do_not():
    def words(n):
        kept = []
        for _ in range(n):
            kept.append((yield cp.sample("letter", dist.UniformDraw("ab"))))
        return "".join(kept)

    posterior = cp.infer.enumerate(words, merge="auto")(9)
    assert len(posterior.tree.leaf_nodes) == 2**9


# --- looking ----------------------------------------------------------------------------------------


def test_a_state_knows_where_it_waits():
    graph = cp.infer.enumerate(hidden_markov, merge=True)([True] * 3).graph
    lines = {where.line for where in graph.where.values()}
    assert any('cp.sample("z"' in line for line in lines)
    live = {name for where in graph.where.values() for name, _ in where.live}
    assert live == {"symbols", "symbol"}  # `state` is dead while the next one is drawn


def test_the_loop_in_c_is_the_one_that_runs():
    search = Search(hidden_markov, ([True],), {}, "auto", "breadth_first", 100)
    search._begin()
    assert isinstance(search.explorer, NativeMerged)
    assert search.explorer.run() == DONE
    search.close()
