"""The sums over a state graph, against every path of drawn graphs and against closed forms."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contpoutine.errors import UnboundedWeightError
from contpoutine.infer import network, sweeps
from contpoutine.infer.state_graph import CALL, FRONTIER, PRUNED, RETURN, StateGraph
from contpoutine.infer.sums import Sums
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


def close(x, abs=1e-11):
    return pytest.approx(x, rel=1e-9, abs=abs)


def totals(found):
    """log-evidence, expected visits of states and of edges, entropy, from the paths themselves."""
    total = math.fsum(math.exp(run.log_weight) for run in found)
    states, edges, entropy = defaultdict(float), defaultdict(float), 0.0
    for run in found:
        p = math.exp(run.log_weight) / total
        entropy -= p * math.log(p) if p else 0.0
        for state in run.states:
            states[state] += p
        for edge in run.edges:
            edges[edge] += p
    return total, states, edges, entropy


def agree(graph, found, abs=1e-11):
    sums = Sums(graph)
    total, states, edges, entropy = totals(found) if found else (0.0, {}, {}, 0.0)
    if total == 0.0:
        assert sums.log_evidence == -math.inf
        return
    assert sums.log_evidence == close(math.log(total), abs)
    for state in range(len(graph)):
        assert sums.states[state] == close(states.get(state, 0.0), abs)
    for edge in range(len(graph.target)):
        assert sums.edges[edge] == close(edges.get(edge, 0.0), abs)
    assert sums.entropy == close(entropy, abs * 100)


@given(seeds, st.integers(3, 14), st.booleans())
def test_without_cycles_they_are_those_of_all_paths(seed, states, calls) -> None:
    graph = drawn(seed, states, calls=calls)
    agree(graph, finished(graph))


@given(seeds, st.integers(3, 7), st.booleans())
def test_with_cycles_they_are_the_limits(seed, states, calls) -> None:
    graph = drawn_with_cycles(seed, states, calls=calls)
    found = finished(graph, 9)
    short = math.fsum(math.exp(r.log_weight) for r in found if len(r.edges) < 6)
    whole = math.fsum(math.exp(r.log_weight) for r in found)
    if not found or whole - short > 1e-3 * whole:  # it dies out too slowly to be added up
        return
    agree(graph, found, abs=1e-2)


@settings(max_examples=50)
@given(seeds, st.integers(3, 20), st.booleans())
def test_with_cycles_they_solve_the_equations_and_their_flow_is_the_derivative(
    seed, states, calls
) -> None:
    graph = drawn_with_cycles(seed, states, calls=calls)
    sums = Sums(graph)
    net, weights = sums.network, [0.0] * len(sums.network)
    for _ in range(300):  # from zero upwards, as slowly as it likes
        before = weights
        weights = [
            math.fsum(
                math.exp(net.coefficient[r])
                * (weights[net.tail[r]] if net.tail[r] >= 0 else 1.0)
                * (weights[net.second[r]] if net.second and net.second[r] >= 0 else 1.0)
                for r in net.rules(item)
            )
            for item in range(len(net))
        ]
        if weights == before:
            break
    total = weights[net.goal]
    if total == 0.0:
        assert sums.log_evidence == -math.inf
        return
    assert sums.log_evidence == close(math.log(total))
    for e in range(0, len(graph.target), 5):
        there = []
        for step in (1e-4, -2e-4):
            graph.log_weight[e] += step
            there.append(Sums(graph).log_evidence)
        graph.log_weight[e] += 1e-4
        assert sums.edges[e] == pytest.approx((there[0] - there[1]) / 2e-4, abs=1e-6, rel=1e-6)


@given(seeds, st.integers(4, 12), st.booleans())
def test_the_frontier_and_the_prior_mass_are_those_of_all_paths(seed, states, calls) -> None:
    graph = drawn(seed, states, calls=calls, partial=True)
    sums, found = Sums(graph), list(runs(graph, graph.root))
    prior = {
        kind: math.fsum(math.exp(r.log_prior) for r in found if r.end == kind)
        for kind in (RETURN, PRUNED, FRONTIER)
    }
    assert sums.mass.explored == close(prior[RETURN] + prior[PRUNED])
    assert sums.mass.frontier == close(prior[FRONTIER])
    assert sums.mass.lost == 0.0
    left = math.fsum(math.exp(r.log_weight) for r in found if r.end == FRONTIER)
    assert math.exp(sums.frontier_log_weight) == close(left)


@given(seeds, st.integers(3, 12), st.booleans())
def test_the_extension_and_python_agree(seed, states, calls) -> None:
    graph = drawn(seed, states, calls=calls)
    net = network.network(graph)
    if not calls:
        assert [list(c) for c in network.predecessors(graph)] == [
            list(c) for c in (net.first, net.tail, net.coefficient, net.edge)
        ]
    order = sweeps.order(net)
    place = {item: i for i, item in enumerate(order)}
    by_python = {item: i for i, item in enumerate(sweeps._order(net))}
    for item in range(len(net)):
        for rule in net.rules(item):
            for used in (net.tail[rule], -1 if net.second is None else net.second[rule]):
                assert used < 0 or (place[used] < place[item] and by_python[used] < by_python[item])
    weights = sweeps.inside(net, order, net.coefficient)
    assert list(weights) == close(list(sweeps._inside(net, order, net.coefficient)), 1e-13)
    assert list(sweeps.best(net, order)) == list(sweeps._best(net, order))
    for mine, other in zip(sweeps.flow(net, order, weights), sweeps._flow(net, order, weights)):
        assert list(mine) == close(list(other), 1e-13)


@pytest.mark.parametrize("steps", [1, 2, 50, 1000])
def test_a_hidden_markov_model_agrees_with_forward_backward(steps) -> None:
    graph = hidden_markov(steps)
    sums = Sums(graph)
    evidence, single, _ = markov_answers(steps)
    assert abs(sums.log_evidence - evidence) < 1e-10
    place = {site: state for state, site in enumerate(graph.site) if site}
    for t in (0, steps // 2, steps - 1):
        states = [s for s, site in enumerate(graph.site) if site == f"z{t}"]
        for z in range(3):
            mass = sum(sums.edges[e] for s in states for e in graph.edges(s) if graph.value[e] == z)
            assert abs(mass - float(single[t, z])) < 1e-10
    assert place


@pytest.mark.parametrize("p", [0.5, 0.4, 0.7])
@pytest.mark.parametrize("n", [2, 3, 20, 200])
def test_gamblers_ruin_agrees_with_the_closed_form(n, p) -> None:
    start = n // 2
    graph, states = ruin(n, p, start)
    sums = Sums(graph)
    r = (1 - p) / p
    exact = start / n if p == 0.5 else math.expm1(start * math.log(r)) / math.expm1(n * math.log(r))
    assert abs(sums.states[states[n]] - exact) < 1e-12
    assert abs(sums.log_evidence) < 1e-11
    assert sums.mass.explored == close(1.0) and sums.mass.lost == 0.0
    if n == 2:
        assert sums.limit is None
    else:
        assert sums.limit.residual < 1e-14 and sums.limit.error < 1e-10
        assert sums.limit.items == n - 1


def test_weights_far_below_what_a_float_can_hold_are_no_zero() -> None:
    graph, states = ruin(800, 0.01, 400)
    for state in states[1:401]:  # no way down: only the top, at 1e-800 or so
        graph.kind[states[0]] = PRUNED
        graph.weight[states[0]] = -math.inf
    sums = Sums(graph)
    r = math.log(99.0)
    assert sums.log_evidence == pytest.approx(400 * r - 800 * r, rel=1e-10)
    assert sums.states[states[800]] == pytest.approx(1.0)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.45, 0.6, 0.9])
def test_a_branching_recursion_ends_with_the_probability_of_extinction(p) -> None:
    sums = Sums(branching(p))
    exact = min(1.0, (1 - p) / p)
    assert math.exp(sums.log_evidence) == pytest.approx(exact, rel=1e-12)
    assert sums.limit.steps > 1 and sums.limit.error < 1e-12
    assert sums.mass.explored == pytest.approx(exact, rel=1e-12)
    assert sums.mass.lost == pytest.approx(1.0 - exact, abs=1e-12)


def test_a_critical_recursion_says_how_well_it_is_known() -> None:
    sums = Sums(branching(0.5))
    error = abs(math.expm1(sums.log_evidence))
    assert error < 1e-6 and error <= 2 * sums.limit.error


@pytest.mark.parametrize("cost", [-1.0, -50.0, -2000.0, 0.1])
def test_a_recursion_with_observations_solves_its_equation(cost) -> None:
    p = 0.3  # z = p z^2 + (1 - p) exp(cost)
    sums = Sums(branching(p, cost))
    if cost == -2000.0:
        assert sums.log_evidence == pytest.approx(cost + math.log(1 - p), rel=1e-14)
        return
    c = (1 - p) * math.exp(cost)
    exact = 2 * c / (1 + math.sqrt(1 - 4 * p * c))
    assert math.exp(sums.log_evidence) == pytest.approx(exact, rel=1e-12)
    # the expected number of leaves is d log z / d cost
    leaves = c / (exact * math.sqrt(1 - 4 * p * c))
    leaf = next(s for s in range(5) if sums.graph.weight[s] == cost)
    assert sums.states[leaf] == pytest.approx(leaves, rel=1e-10)


def test_mass_that_never_ends_is_counted() -> None:
    graph = StateGraph()
    trap = graph.state()
    graph.choice("again", [(0, math.log(0.5), trap), (1, math.log(0.5), trap)], state=trap)
    done = graph.returns("done", weight=-1.0)
    graph.root = graph.choice("first", [(0, math.log(0.25), trap), (1, math.log(0.75), done)])
    sums = Sums(graph)
    assert sums.log_evidence == pytest.approx(math.log(0.75) - 1.0)
    assert sums.mass.explored == pytest.approx(0.75) and sums.mass.lost == pytest.approx(0.25)
    assert sums.states[trap] == 0.0 and sums.states[done] == pytest.approx(1.0)


@pytest.mark.parametrize("gain", [0.0, 0.1, 5.0])
def test_a_loop_whose_weights_have_no_sum_is_refused(gain) -> None:
    graph = StateGraph()
    start, loop = graph.state(), graph.state()
    done = graph.returns(0)
    back = (True, math.log(0.5), loop)
    graph.choice("more", [back, (False, math.log(0.5), done)], state=start)
    graph.choice("one", [(0, 0.0, start)], weight=math.log(2.0) + gain, state=loop)
    graph.root = start
    with pytest.raises(UnboundedWeightError, match=r"'more', 'one' add up without bound.*factor"):
        Sums(graph).log_evidence  # noqa: B018
    growing = branching(0.5, cost=0.1)
    with pytest.raises(UnboundedWeightError, match="without bound"):
        Sums(growing).log_evidence  # noqa: B018


def test_the_frontier_of_a_loop_and_of_a_recursion() -> None:
    graph, states = ruin(20, 0.4, 10)
    graph.kind[states[20]] = FRONTIER
    sums = Sums(graph)
    exact = math.expm1(10 * math.log(1.5)) / math.expm1(20 * math.log(1.5))
    assert sums.mass.frontier == pytest.approx(exact, rel=1e-11)
    assert sums.mass.explored == pytest.approx(1.0 - exact, rel=1e-11)
    assert math.exp(sums.frontier_log_weight) == pytest.approx(exact, rel=1e-11)
    for p in (0.3, 0.8):
        graph = branching(p)
        leaf = graph.target[graph.first_edge[graph.root] + 1]
        graph.kind[leaf] = FRONTIER
        for call in range(len(graph)):  # nothing has returned yet
            if graph.kind[call] == CALL:
                graph.edge_count[call] = 0
        sums = Sums(graph)
        assert sums.log_evidence == -math.inf
        assert sums.mass.frontier == pytest.approx(1.0, rel=1e-12)
        graph.kind[leaf], graph.weight[leaf] = PRUNED, -math.inf
        assert Sums(graph).mass.explored == pytest.approx(1.0, rel=1e-12)


def test_the_mass_of_a_recursion_that_may_meet_an_impossible_observation() -> None:
    p = 0.3  # a leaf is impossible with probability 1 / 2: z = p z^2 + (1 - p) / 2
    graph = branching(p)
    leaf, zero = graph.target[graph.first_edge[graph.root] + 1], graph.prune()
    half = math.log(0.5)
    coin = graph.choice("coin", [(True, half, leaf), (False, half, zero)])
    graph.target[graph.first_edge[graph.root] + 1] = coin
    sums = Sums(graph)
    assert math.exp(sums.log_evidence) == pytest.approx((1 - math.sqrt(1 - 2 * p * 0.7)) / 0.6)
    assert sums.mass.explored == pytest.approx(1.0, rel=1e-12) and sums.mass.lost == 0.0


@pytest.mark.parametrize("exit", [1e-9, 1e-15])
def test_a_loop_that_hardly_ends_is_exact_or_refused(exit) -> None:
    graph = StateGraph()
    first, second = graph.state(), graph.state()
    done = graph.returns(0)
    stay = math.log1p(-exit)
    graph.choice("a", [(0, stay, second), (1, math.log(exit), done)], state=first)
    graph.choice("b", [(0, 0.0, first)], state=second)
    graph.root = first
    if exit < 1e-14:
        with pytest.raises(UnboundedWeightError, match="'a', 'b'"):
            Sums(graph).log_evidence  # noqa: B018
    else:
        sums = Sums(graph)
        assert abs(sums.log_evidence) < 1e-6 and sums.limit.error < 1e-5
