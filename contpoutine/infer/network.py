"""The factored sum-product network of a state graph: what every question is computed on.

An *item* is something that has a total weight: a state, for the paths that lead to it from where
its model or sub-model starts; or a pair (start of a sub-model, return value), for the paths from
the one to the other. A *rule* is one way to come by an item: by way of a `tail` item, and at the
return of a call by way of a `second` one, for what happened inside. The item's weight is the sum
over its rules of the rule's coefficient times the weights of the items that it uses. So each
execution is one derivation of the item `goal`, and the weights are those of Stuhlmueller and
Goodman (2012), "A dynamic programming algorithm for inference in recursive probabilistic programs".

Invariant: the rules of an item are contiguous, `first[i]` to `first[i + 1]`. Where nothing is
called, item i is state i, the goal comes last, and there is no column `second`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contpoutine.core.native import native
from contpoutine.infer.state_graph import CALL, RETURN, StateGraph

_NONE = -float("inf")


@dataclass(frozen=True, slots=True)
class Network:
    """The columns.

    Attributes:
        first: where the rules of each item begin; one entry more than there are items.
        tail: the item that a rule starts from, -1 where a model begins.
        second: the item for the inside of a call, -1 for none; None where there are no calls.
        coefficient: the log-weight of a rule.
        edge: the edge of the graph that a rule follows, -1 for none.
        goal: the item that stands for all executions.
        states: the state that an item stands for, -1 for the goal and for pairs.
        entries: for each start of a model or sub-model, its first item.
        homes: for each item of a state, the start of the sub-model that it is in; None where
            nothing is called.
    """

    first: Sequence[int]
    tail: Sequence[int]
    second: Sequence[int] | None
    coefficient: Sequence[float]
    edge: Sequence[int]
    goal: int
    states: Sequence[int]
    entries: dict[int, int]
    homes: Sequence[int] | None

    def __len__(self) -> int:
        return len(self.first) - 1

    def rules(self, item: int) -> range:
        """The rules of an item."""
        return range(self.first[item], self.first[item + 1])

    def prior_coefficients(self, graph: StateGraph) -> array[float]:
        """The coefficients without what is observed."""
        log_weight = graph.log_weight
        return array("d", [log_weight[e] if e >= 0 else 0.0 for e in self.edge])


def network(graph: StateGraph) -> Network:
    """The network of a graph that is laid out."""
    return _with_calls(graph) if CALL in graph.kind else _plain(graph)


def _plain(graph: StateGraph) -> Network:
    columns: tuple[array[Any], ...] = array("i"), array("i"), array("d"), array("i")
    if native is None:
        columns = predecessors(graph)
    else:
        found = native.predecessors(
            graph.kind,
            graph.weight,
            graph.first_edge,
            graph.edge_count,
            graph.target,
            graph.log_weight,
            graph.root,
            RETURN,
        )
        for column, data in zip(columns, found, strict=True):
            column.frombytes(data)
    first, tail, coefficient, edge = columns
    return Network(
        first=first,
        tail=tail,
        second=None,
        coefficient=coefficient,
        edge=edge,
        goal=len(graph),
        states=_Identity(len(graph)),
        entries={graph.root: graph.root},
        homes=None,
    )


class _Identity(Sequence[int]):
    """0, 1, ..., n - 1, and -1 for the goal."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n + 1

    def __getitem__(self, i: Any) -> Any:
        if not 0 <= i <= self.n:
            raise IndexError(i)
        return i if i < self.n else -1


def predecessors(graph: StateGraph) -> tuple[Any, Any, Any, Any]:
    """The edges by target: first, tail, coefficient, edge. The reference for the one in C."""
    n, kind, weight = len(graph), graph.kind, graph.weight
    first_edge, edge_count, target = graph.first_edge, graph.edge_count, graph.target
    begin = [0] * (n + 2)
    begin[graph.root] += 1
    for state in range(n):
        at = first_edge[state]
        for edge in range(at, at + edge_count[state]):
            begin[target[edge]] += 1
        if kind[state] == RETURN and weight[state] > _NONE:
            begin[n] += 1
    total = 0
    for item in range(n + 2):
        begin[item], total = total, total + begin[item]
    first = array("i", begin)
    tail, edges = array("i", [-1]) * total, array("i", [-1]) * total
    coefficient = array("d", [0.0]) * total
    log_weight = graph.log_weight
    begin[graph.root] += 1
    for state in range(n):
        at, here = first_edge[state], weight[state]
        for edge in range(at, at + edge_count[state]):
            rule = begin[target[edge]]
            begin[target[edge]] = rule + 1
            tail[rule], edges[rule] = state, edge
            coefficient[rule] = here + log_weight[edge]
        if kind[state] == RETURN and here > _NONE:
            rule = begin[n]
            begin[n] = rule + 1
            tail[rule], coefficient[rule] = state, here
    return first, tail, coefficient, edges


def _with_calls(graph: StateGraph) -> Network:
    builder = _Builder(graph)
    builder.entry(graph.root)
    while builder.starts:
        builder.frame(builder.starts.pop())
    return builder.finish()


class _Builder:
    """Makes the items and rules of a graph in which sub-models are called. The goal is item 0."""

    def __init__(self, graph: StateGraph) -> None:
        self.graph = graph
        self.called = set(graph.callee)
        self.rules: list[list[tuple[int, int, float, int]]] = []
        self.states, self.homes = array("i"), array("i")
        self.entries: dict[int, int] = {}
        self.pairs: dict[tuple[int, int], int] = {}
        self.starts: list[int] = []
        self.item(-1, -1)

    def item(self, state: int, home: int) -> int:
        self.rules.append([])
        self.states.append(state)
        self.homes.append(home)
        return len(self.rules) - 1

    def pair(self, start: int, outcome: Any) -> int:
        """The item for one return value of the sub-model that starts there."""
        key = start, id(outcome)
        found = self.pairs.get(key)
        if found is None:
            found = self.pairs[key] = self.item(-1, start)
        return found

    def entry(self, start: int) -> int:
        """The first item of a sub-model, which is entered with weight one."""
        if start not in self.entries:
            self.entries[start] = self.item(start, start)
            self.rules[-1].append((-1, -1, 0.0, -1))
            self.starts.append(start)
        return self.entries[start]

    def frame(self, start: int) -> None:
        """What can be reached from one start without leaving its sub-model."""
        graph = self.graph
        items = {start: self.entries[start]}
        todo = [start]
        while todo:
            state = todo.pop()
            here, weight, kind = items[state], graph.weight[state], graph.kind[state]
            if kind == RETURN and weight > _NONE:
                if start == graph.root:
                    self.rules[0].append((here, -1, weight, -1))
                if start in self.called:
                    pair = self.pair(start, graph.outcome[state])
                    self.rules[pair].append((here, -1, weight, -1))
            if kind == CALL:
                self.entry(graph.callee[state])
            for edge in graph.edges(state):
                target, second = graph.target[edge], -1
                if target not in items:
                    items[target] = self.item(target, start)
                    todo.append(target)
                if kind == CALL:
                    second = self.pair(graph.callee[state], graph.value[edge])
                coefficient = weight + graph.log_weight[edge]
                self.rules[items[target]].append((here, second, coefficient, edge))

    def finish(self) -> Network:
        for (start, _), pair in self.pairs.items():
            if not self.rules[pair]:
                raise ValueError(
                    f"a CALL of the state graph goes on with a value that the sub-model which "
                    f"starts at state {start} does not return"
                )
        first = array("i", [0])
        columns: tuple[list[Any], ...] = [], [], [], []
        for rules in self.rules:
            for rule in rules:
                for column, x in zip(columns, rule, strict=True):
                    column.append(x)
            first.append(len(columns[0]))
        tail, second, coefficient, edge = columns
        return Network(
            first=first,
            tail=array("i", tail),
            second=array("i", second),
            coefficient=array("d", coefficient),
            edge=array("i", edge),
            goal=0,
            states=self.states,
            entries=self.entries,
            homes=self.homes,
        )
