"""StateGraph: what the builder's methods leave in the columns."""

from __future__ import annotations

import math

from contpoutine.infer.state_graph import CALL, CHOICE, FRONTIER, PRUNED, RETURN, StateGraph


def outcomes(graph, state):
    return [(graph.value[e], graph.outcome[graph.target[e]]) for e in graph.edges(state)]


def test_a_state_is_on_the_frontier_until_it_is_made_into_something() -> None:
    graph = StateGraph()
    a, b, c, d = (graph.state() for _ in range(4))
    assert list(graph.kind) == [FRONTIER] * 4
    assert graph.returns(7, weight=-2.0, state=c) == c
    assert graph.choice("x", [(True, -1.0, c), (False, -0.5, d)], state=a) == a
    assert graph.call(a, state=b) == b
    assert graph.prune(d) == d
    assert list(graph.kind) == [CHOICE, CALL, RETURN, PRUNED]
    assert list(graph.weight) == [0.0, 0.0, -2.0, -math.inf]
    assert graph.site == ["x", None, None, None]
    assert graph.outcome[c] == 7 and list(graph.callee) == [-1, a, -1, -1]
    assert list(graph.edges(a)) == [0, 1] and list(graph.edges(c)) == []


def test_a_call_has_an_edge_for_each_answer_and_more_after_more() -> None:
    graph = StateGraph()
    callee = graph.choice("x", [(v, math.log(0.5), graph.returns(v)) for v in (0, 1)])
    first, second = graph.call(callee), graph.call(callee)
    graph.answer(first, 0, graph.returns("a"))
    graph.answer(second, 0, graph.returns("b"))
    graph.lay_out()
    assert outcomes(graph, first) == [(0, "a")] and outcomes(graph, second) == [(0, "b")]
    graph.answer(first, 1, graph.returns("c"))
    assert graph.lay_out() is graph
    assert outcomes(graph, first) == [(0, "a"), (1, "c")]
    assert outcomes(graph, second) == [(0, "b")]
    graph.lay_out()
    assert sum(graph.edge_count) == 5


def test_equal_return_values_are_one_object_and_one_is_not_true() -> None:
    graph = StateGraph()
    a, b, c, d = (graph.returns(v) for v in ([1, 2], [1, 2], 1, True))
    call = graph.call(a)
    graph.answer(call, [1, 2], b)
    graph.lay_out()
    assert graph.outcome[a] is graph.outcome[b] is graph.value[graph.first_edge[call]]
    assert graph.outcome[c] is 1 and graph.outcome[d] is True  # noqa: F632


def test_its_repr_counts_the_kinds() -> None:
    graph = StateGraph()
    graph.choice("x", [(0, -1.0, graph.returns(0)), (1, -1.0, graph.prune())])
    assert repr(graph) == "StateGraph(3 states: 1 choice, 1 return, 1 pruned; 2 edges)"
