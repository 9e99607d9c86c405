"""A posterior over a state graph, every question against every path of drawn graphs."""

from __future__ import annotations

import itertools
import math
import pickle
import random
import sys
from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from contpoutine.errors import (
    AmbiguousSiteError,
    SecondDerivativeError,
    UnknownSiteError,
    ZeroEvidenceError,
)
from contpoutine.infer.marginal import entry_key
from contpoutine.infer.posterior import Posterior
from contpoutine.infer.state_graph import StateGraph
from tests.graphs.drawn import (
    branching,
    drawn,
    drawn_with_cycles,
    finished,
    hidden_markov,
    markov_answers,
    ruin,
    runs,
)

seeds = st.integers(0, 10**6)


def posterior(graph, **changes) -> Posterior:
    facts = {"complete": True, "likelihood_bounded": True, "branches": 1}
    return Posterior(graph, **{**facts, **changes})


def typed(marginal):
    return {entry_key(value): p for value, p in marginal.items()}


def distribution(pairs, total):
    found = defaultdict(float)
    for value, weight in pairs:
        found[entry_key(value)] += math.exp(weight) / total
    return {key: p for key, p in found.items() if p > 0}


def close(x, abs=1e-11):
    return pytest.approx(x, rel=1e-9, abs=abs)


def graph_and_paths(seed, states, calls):
    graph = drawn(seed, states, calls=calls)
    found = finished(graph)
    assume(found)
    return graph, found, math.fsum(math.exp(run.log_weight) for run in found)


@given(seeds, st.integers(3, 14), st.booleans())
def test_return_values_and_every_occurrence_of_every_site(seed, states, calls) -> None:
    graph, found, total = graph_and_paths(seed, states, calls)
    p = posterior(graph)
    assert p.log_evidence == close(math.log(total))
    assert typed(p.marginal()) == close(
        distribution([(r.outcome, r.log_weight) for r in found], total)
    )
    assert p.executions == len(found)
    assert {name for run in found for name, _ in run.choices} <= set(p.sites)
    for site in ("x", "y", "z", "d"):
        values = [[v for name, v in run.choices if name == site] for run in found]
        most = max(map(len, values))
        for k in range(-most, most):
            exact = distribution(
                [
                    (vs[k], run.log_weight)
                    for vs, run in zip(values, found)
                    if (k if k >= 0 else -k - 1) < len(vs)
                ],
                total,
            )
            marginal = p.marginal(site, occurrence=k)
            assert typed(marginal) == close(exact)
            assert marginal.presence == close(min(1.0, sum(exact.values())))
        for k in (most, -most - 1):
            with pytest.raises(UnknownSiteError):
                p.marginal(site, occurrence=k)
        if most == 1:
            assert typed(p.marginal(site)) == close(typed(p.marginal(site, occurrence=0)))
        elif most > 1:
            with pytest.raises(AmbiguousSiteError, match=f"up to {most} times"):
                p.marginal(site)


@settings(max_examples=25)
@given(seeds, st.integers(3, 11), st.booleans())
def test_sites_together(seed, states, calls) -> None:
    graph, found, total = graph_and_paths(seed, states, calls)
    p = posterior(graph)
    counts = Counter()
    for run in found:
        counts |= Counter(name for name, _ in run.choices)
    visits = [(site, k) for site, most in counts.items() for k in range(-most, most)]
    for asked in itertools.islice(itertools.permutations(visits, 2), 0, None, 3):
        exact = defaultdict(float)
        for run in found:
            values = [[v for name, v in run.choices if name == site] for site, _ in asked]
            try:
                key = tuple(entry_key(vs[k]) for vs, (_, k) in zip(values, asked))
            except IndexError:
                continue
            exact[key] += math.exp(run.log_weight) / total
        joint = p.joint(*asked)
        mine = {tuple(map(entry_key, values)): q for values, q in joint.items()}
        assert mine == close(dict(exact))
        assert joint.presence == close(min(1.0, sum(exact.values())))


@given(seeds, st.integers(3, 14), st.booleans())
def test_the_most_probable_executions_come_in_order(seed, states, calls) -> None:
    graph, found, _ = graph_and_paths(seed, states, calls)
    p = posterior(graph)
    ranked = p.most_probable(len(found) + 3)
    assert len(ranked) == len(found)
    weights = sorted([run.log_weight for run in found], reverse=True)
    assert [e.log_weight for e in ranked] == close(weights)
    assert [e.log_weight for e in p.most_probable(3)] == close(weights[:3])
    told = Counter(
        (tuple((n, entry_key(v)) for n, v in e.choices), entry_key(e.value)) for e in ranked
    )
    exact = Counter(
        (tuple((n, entry_key(v)) for n, v in run.choices), entry_key(run.outcome)) for run in found
    )
    assert told == exact
    assert math.fsum(e.probability for e in ranked) == close(1.0)
    frame = p.to_dataframe()
    assert len(frame) == len(found) and math.fsum(frame["probability"]) == close(1.0)


@settings(max_examples=20)
@given(seeds, st.integers(4, 10), st.booleans())
def test_samples_have_the_probabilities_of_their_paths(seed, states, calls) -> None:
    graph, found, total = graph_and_paths(seed, states, calls)
    p = posterior(graph)
    exact = defaultdict(float)
    for run in found:
        key = tuple((n, entry_key(v)) for n, v in run.choices), round(run.log_weight, 9)
        exact[key] += math.exp(run.log_weight) / total
    random.seed(seed)
    n = 400
    counts = Counter(
        (tuple((n, entry_key(v)) for n, v in e.choices), round(e.log_weight, 9))
        for e in p.sample(n)
    )
    assert set(counts) <= set(exact)
    for key, q in exact.items():
        # What is rare comes in whole numbers, which no bell curve fits.
        assert abs(counts[key] / n - q) < 5.5 * math.sqrt(q * (1 - q) / n) + 6 / n


@settings(max_examples=40)
@given(seeds, st.integers(3, 8), st.booleans())
def test_with_cycles_answers_are_limits(seed, states, calls) -> None:
    graph = drawn_with_cycles(seed, states, calls=calls)
    found = finished(graph, 9)
    short = math.fsum(math.exp(r.log_weight) for r in found if len(r.edges) < 7)
    total = math.fsum(math.exp(r.log_weight) for r in found)
    assume(found and total - short < 1e-4 * total)
    p = posterior(graph)
    assert typed(p.marginal()) == pytest.approx(
        distribution([(r.outcome, r.log_weight) for r in found], total), abs=2e-3
    )
    best = sorted([run.log_weight for run in found], reverse=True)[:4]
    assert [e.log_weight for e in p.most_probable(4)][: len(best)] == close(best)
    for site, k in itertools.product("xyd", (0, 1, -1, -2)):
        exact = distribution(
            [
                (vs[k], run.log_weight)
                for run in found
                for vs in [[v for name, v in run.choices if name == site]]
                if (k if k >= 0 else -k - 1) < len(vs)
            ],
            total,
        )
        if math.fsum(exact.values()) > 1e-3:
            assert typed(p.marginal(site, occurrence=k)) == pytest.approx(exact, abs=3e-3)


@given(seeds, st.integers(4, 12), st.booleans())
def test_bounds_hold_for_what_the_frontier_may_turn_into(seed, states, calls) -> None:
    graph = drawn(seed, states, calls=calls, partial=True)
    for state in range(len(graph)):  # likelihoods of at most one
        graph.weight[state] = min(graph.weight[state], 0.0)
    found = list(runs(graph, graph.root))
    known = [run for run in found if run.end == 3]
    assume(known)
    left = math.fsum(math.exp(run.log_weight) for run in found if run.end == 0)
    total = math.fsum(math.exp(run.log_weight) for run in known)
    p = posterior(graph, complete=left == 0.0)
    low, high = p.log_evidence_bounds
    assert low == close(math.log(total)) and high == close(math.log(total + left))
    for value, lower, upper in p.bounds():
        mine = distribution([(r.outcome, r.log_weight) for r in known], 1.0)[entry_key(value)]
        assert lower == close(mine / (total + left))
        assert upper == close(min(1.0, (mine + left) / (total + left)))
    assert p.explored_mass + p.frontier_mass == close(1.0)
    if left > 0.0:
        assert "partial" in repr(p) and posterior(
            graph, complete=False, likelihood_bounded=False
        ).log_evidence_bounds == (low, math.inf)


# --- models that are known ----------------------------------------------------------------------


@pytest.mark.parametrize("names", [True, False])
def test_a_hidden_markov_model_of_a_thousand_steps(names) -> None:
    steps = 1000
    evidence, single, pairs = markov_answers(steps)
    p = posterior(hidden_markov(steps, names=names))
    assert abs(p.log_evidence - evidence) < 1e-10
    for t in range(steps):
        m = p.marginal(f"z{t}") if names else p.marginal("z", occurrence=t)
        assert max(abs(m[z] - float(single[t, z])) for z in range(3)) < 1e-10
    asked = (lambda t: f"z{t}") if names else (lambda t: ("z", t))
    for t in (0, 500, 998):
        joint = p.joint(asked(t), asked(t + 1))
        for a, b in itertools.product(range(3), repeat=2):
            assert abs(joint[a, b] - float(pairs[t, a, b])) < 1e-10
    far = p.joint(asked(3), asked(900))
    assert math.fsum(far.values()) == close(1.0)
    assert far[1, 2] == pytest.approx(float(single[3, 1] * single[900, 2]), rel=1e-9)
    assert p.executions == 3**steps and "about 10^477 executions" in repr(p)
    assert len(p.sample().choices) == steps
    assert abs(p.most_probable(1)[0].log_weight - viterbi(steps)) < 1e-9
    if not names:
        with pytest.raises(AmbiguousSiteError, match="up to 1000 times"):
            p.marginal("z")


def viterbi(steps):
    from tests.graphs.drawn import DATA, FIRST, NEXT, SEEN

    best = [math.log(FIRST[z]) + math.log(SEEN[z][DATA[0]]) for z in range(3)]
    for t in range(1, steps):
        best = [
            max(best[a] + math.log(NEXT[a][z]) for a in range(3)) + math.log(SEEN[z][DATA[t % 10]])
            for z in range(3)
        ]
    return max(best)


def test_the_walk_to_ruin() -> None:
    graph, _ = ruin(10, 0.4, 5)
    p = posterior(graph)
    exact = math.expm1(5 * math.log(1.5)) / math.expm1(10 * math.log(1.5))
    assert p.marginal()[True] == pytest.approx(exact, rel=1e-12)
    assert p.limit.error < 1e-11 and p.executions == math.inf
    assert "endlessly many executions" in repr(p) and "limit" in repr(p)
    first = p.marginal("up", occurrence=0)
    after = math.expm1(6 * math.log(1.5)) / math.expm1(10 * math.log(1.5))
    assert first[True] == pytest.approx(0.4, rel=1e-12)
    pair = [p.marginal("up", occurrence=k)[True] for k in (1, -1)]
    assert pair[0] == pytest.approx(0.4, rel=1e-12)
    assert pair[1] == pytest.approx(exact, rel=1e-12)  # the last step decides
    assert 0.0 < after < 1.0
    last = p.most_probable(1)[0]
    assert last.value is False and last.choices == (("up", False),) * 5
    assert last.probability == pytest.approx(0.6**5)
    with pytest.raises(AmbiguousSiteError, match="more than once"):
        p.marginal("up")
    walks = p.sample(300)
    assert {w.value for w in walks} == {True, False}


def test_a_branching_recursion() -> None:
    p = posterior(branching(0.3))
    assert p.log_evidence == pytest.approx(0.0, abs=1e-12) and p.endless_mass == 0.0
    assert [e.probability for e in p.most_probable(3)] == close([0.7, 0.3 * 0.49, 0.09 * 0.343])
    assert p.marginal("split", occurrence=0)[True] == pytest.approx(0.3)
    assert p.marginal("split", occurrence=-1)[False] == pytest.approx(1.0)
    two = p.joint(("split", 0), ("split", 1))
    assert two[True, True] == pytest.approx(0.09) and two.presence == pytest.approx(0.3)
    often = posterior(branching(0.6))
    assert often.endless_mass == pytest.approx(1 / 3)
    assert "33.3% of the prior mass never comes to an end" in repr(often)


# --- the rest -----------------------------------------------------------------------------------


def test_no_evidence_is_an_error_that_says_so() -> None:
    graph = StateGraph()
    graph.root = graph.choice("x", [(0, -0.5, graph.prune()), (1, -1.0, graph.prune())])
    p = posterior(graph)
    for ask in (p.marginal, p.sample, p.most_probable, lambda: p.joint("x"), lambda: p.entropy):
        with pytest.raises(ZeroEvidenceError, match="every execution"):
            ask()
    assert "weight zero" in repr(p)


def test_unknown_sites_and_what_is_no_site() -> None:
    p = posterior(hidden_markov(3))
    with pytest.raises(UnknownSiteError, match="Did you mean 'z1'"):
        p.marginal("z11")
    with pytest.raises(UnknownSiteError, match="has no occurrence 1"):
        p.marginal("z1", occurrence=1)
    for bad in ((), (1,), (("z0", "z1"),)):
        with pytest.raises(TypeError, match=r"joint|whole number"):
            p.joint(*bad)
    with pytest.raises(AttributeError, match=r"posterior\.graph"):
        p.tree  # noqa: B018


def test_tensor_values_are_compared_by_content() -> None:
    graph = StateGraph()
    graph.root = graph.choice(
        "x", [(torch.tensor(float(i % 2)), math.log(0.25), graph.returns(i)) for i in range(4)]
    )
    p = posterior(graph)
    assert p.marginal("x")[torch.tensor(1.0)] == pytest.approx(0.5) and len(p.marginal("x")) == 2


def gradients(p):
    """The model of `test_gradients_are_those_of_autograd`, its posterior and its evidence."""
    rain = torch.stack([p.log(), (1 - p).log()])
    wet = {True: (0.9 * p).log(), False: (0.2 * p * p).log()}
    graph = StateGraph()
    ends = {v: graph.returns(v, weight=wet[v].item()) for v in wet}
    graph.root = graph.choice("rain", [(v, w.item(), ends[v]) for v, w in zip((True, False), rain)])
    graph.tensor_weights = {graph.root: rain}
    graph.tensor_node_weights = {ends[v]: wet[v] for v in wet}
    exact = torch.logsumexp(rain + torch.stack([wet[True], wet[False]]), 0)
    return posterior(graph), exact


def test_gradients_are_those_of_autograd() -> None:
    p = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    found, exact = gradients(p)
    mine = found.log_evidence_tensor()
    assert mine.item() == pytest.approx(exact.item()) and mine.dtype == torch.float64
    (by_graph,) = torch.autograd.grad(2.0 * mine, p, retain_graph=True)
    (by_autograd,) = torch.autograd.grad(2.0 * exact, p, retain_graph=True)
    assert by_graph.item() == pytest.approx(by_autograd.item(), rel=1e-12)
    (once,) = torch.autograd.grad(mine, p, create_graph=True)
    with pytest.raises(SecondDerivativeError, match="differentiated once"):
        once.backward()


def test_gradients_in_single_precision_keep_their_type() -> None:
    p = torch.tensor(0.3, requires_grad=True)
    found, _ = gradients(p)
    found.log_evidence_tensor().backward()
    assert p.grad.dtype == torch.float32 and math.isfinite(p.grad)


def test_gradients_need_a_graph() -> None:
    import contpoutine as cp

    def flip():
        return (yield cp.sample("x", cp.distributions.Flip(0.5)))

    tree = cp.infer.enumerate(flip)()
    with pytest.raises(TypeError, match="merge=True"):
        tree.log_evidence_tensor()
    with pytest.raises(AttributeError, match="merge=True"):
        tree.graph  # noqa: B018
    assert tree.entropy == pytest.approx(math.log(2)) and tree.limit is None
    assert tree.joint("x")[(True,)] == pytest.approx(0.5) and tree.endless_mass == 0.0


def test_deep_graphs_do_not_recurse() -> None:
    graph = StateGraph()
    state = graph.returns(0)
    for _ in range(20_000):
        state = graph.choice("x", [(True, math.log(0.5), state), (False, math.log(0.5), state)])
    graph.root = state
    p = posterior(graph)
    assert sys.getrecursionlimit() < 20_000
    assert p.log_evidence == close(0.0) and len(p.most_probable(2)) == 2
    assert p.entropy == pytest.approx(20_000 * math.log(2))
    assert len(p.sample().choices) == 20_000


@pytest.mark.parametrize("seed", range(12))
def test_a_posterior_can_be_pickled(seed) -> None:
    graph = drawn(seed, 12, calls=True)
    for state in range(len(graph)):  # numbers that a pickle makes two of
        if graph.outcome[state] == 1 and graph.outcome[state] is not True:
            graph.outcome[state] = BIG
    for edge, value in enumerate(graph.value):
        if value == 1 and value is not True:
            graph.value[edge] = BIG
    p = posterior(graph)
    if p.log_evidence == -math.inf:
        return
    again = pickle.loads(pickle.dumps(p))
    fresh = pickle.loads(pickle.dumps(posterior(graph)))
    for other in (again, fresh):
        assert other.log_evidence == p.log_evidence and other.marginal() == p.marginal()
        assert other.most_probable(3)[-1].choices == p.most_probable(3)[-1].choices


BIG = 10**30
