"""The sums over a state graph, computed when somebody asks, and how far they can be trusted.

One object answers for one graph. A graph without cycles gets a sweep each way; a graph with cycles
the equations of `infer.cycles`, and then `limit` says how well they are solved.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from contpoutine.infer import sweeps
from contpoutine.infer.cycles import Cyclic, Limit, log_sum
from contpoutine.infer.network import Network, network
from contpoutine.infer.state_graph import CALL, FRONTIER, PRUNED, StateGraph

_NONE = -math.inf
_SOME = 1e-9  # what is lost by recursion is known to about this much


class Sums:
    """The sums over the executions of a graph that is laid out."""

    def __init__(self, graph: StateGraph, tolerance: float = 1e-12) -> None:
        self.graph, self.tolerance = graph, tolerance
        self.network = network(graph)
        self.order = sweeps.order(self.network)

    @property
    def acyclic(self) -> bool:
        return self.order is not None

    @cached_property
    def cyclic(self) -> Cyclic:
        return Cyclic(self.network, [self.network.goal], self._sites)

    def _sites(self, items: list[int]) -> list[str]:
        """The names of the sites at some items."""
        states = [self.network.states[item] for item in items]
        names = [self.graph.site[state] for state in states if state >= 0]
        return sorted({name for name in names if name is not None})

    @cached_property
    def _inside(self) -> tuple[array[float], Limit | None]:
        if self.order is not None:
            return sweeps.inside(self.network, self.order, self.network.coefficient), None
        limit = Limit(self.tolerance)
        return self.cyclic.inside(self.network.coefficient, limit), limit

    @property
    def inside(self) -> array[float]:
        """The log-weight of each item of the network."""
        return self._inside[0]

    @property
    def limit(self) -> Limit | None:
        """How well the sums over cycles are known; None where there are none."""
        return self._inside[1]

    @property
    def log_evidence(self) -> float:
        return self.inside[self.network.goal]

    @cached_property
    def best(self) -> array[float]:
        """The log-weight of the heaviest derivation of each item."""
        if self.order is None:
            return self.cyclic.best(self.network.coefficient)
        return sweeps.best(self.network, self.order)

    @cached_property
    def _flow(self) -> tuple[array[float], array[float]]:
        if self.order is None:
            return self.cyclic.flow(self.inside)
        return sweeps.flow(self.network, self.order, self.inside)

    @property
    def items(self) -> array[float]:
        """How often a posterior execution is expected to use each item."""
        return self._flow[0]

    @property
    def rules(self) -> array[float]:
        """How often it is expected to use each rule."""
        return self._flow[1]

    @cached_property
    def edges(self) -> array[float]:
        """How often it is expected to follow each edge of the graph."""
        return sweeps.by_edge(self.network, self.rules, len(self.graph.target))

    @cached_property
    def states(self) -> Any:
        """How often it is expected to come through each state of the graph."""
        return sweeps.by_state(self.network, self.items, len(self.graph))

    @cached_property
    def entropy(self) -> float:
        """The entropy of the posterior over executions, in nats.

        What is uncertain about a derivation is, item by item, by which rule it was come by.
        """
        net, items, rules = self.network, self.items, self.rules
        parts = []
        for item, mass in enumerate(items):
            if mass > 0.0 and net.first[item + 1] - net.first[item] > 1:
                for rule in net.rules(item):
                    if rules[rule] > 0.0:
                        parts.append(-rules[rule] * math.log(rules[rule] / mass))
        return math.fsum(parts) + 0.0

    # --- mass -----------------------------------------------------------------------------------

    @cached_property
    def frontier_log_weight(self) -> float:
        """The log-weight of all that is not explored, as far as it is known."""
        return _reached(self, FRONTIER, self.network.coefficient, prior=False)

    @cached_property
    def mass(self) -> Mass:
        """Where the prior mass goes."""
        prior = self.network.prior_coefficients(self.graph)
        if prior == self.network.coefficient:  # nothing is observed
            weights: Sequence[float] = self.inside
        else:
            weights, _ = _evaluate(self.network, self.order, prior, self.tolerance)
        frontier = math.exp(_reached(self, FRONTIER, prior, prior=True))
        pruned = math.exp(_reached(self, PRUNED, prior, prior=True))
        explored = math.exp(weights[self.network.goal]) + pruned
        lost = 0.0 if self.acyclic else max(0.0, 1.0 - explored - frontier)
        return Mass(explored, frontier, lost if lost > _SOME else 0.0)


@dataclass(frozen=True)
class Mass:
    """The prior probability of what was explored, of what was left, and of never coming to an end.

    Attributes:
        explored: of the executions that end, or are given up at weight zero.
        frontier: of those that reach a state which was not resumed.
        lost: of those that go on for ever.
    """

    explored: float
    frontier: float
    lost: float


def _evaluate(
    net: Network,
    order: Sequence[int] | None,
    coefficient: Sequence[float],
    tolerance: float,
    ends: Iterable[int] = (),
) -> tuple[array[float], Limit | None]:
    if order is not None:
        return sweeps.inside(net, order, coefficient), None
    limit = Limit(tolerance)
    return Cyclic(net, [net.goal, *ends]).inside(coefficient, limit), limit


def _reached(sums: Sums, kind: int, coefficient: Sequence[float], *, prior: bool) -> float:
    """The log of the weight with which executions come to states of one kind.

    Inside of a sub-model it is that of coming there from its start, times that of its being called.
    """
    graph, net = sums.graph, sums.network
    if kind not in graph.kind:
        return _NONE
    states, homes = net.states, net.homes
    found = [i for i in range(len(net)) if states[i] >= 0 and graph.kind[states[i]] == kind]
    if homes is None:
        weights, _ = _evaluate(net, sums.order, coefficient, sums.tolerance, found)
        return log_sum([weights[i] for i in found])
    calls = [i for i in range(len(net)) if states[i] >= 0 and graph.kind[states[i]] == CALL]
    below = {homes[i] for i in found}
    grew = True
    while grew:
        more = {homes[i] for i in calls if graph.callee[states[i]] in below}
        grew = not more <= below
        below |= more
    calls = [i for i in calls if graph.callee[states[i]] in below]
    weights, _ = _evaluate(net, sums.order, coefficient, sums.tolerance, [*found, *calls])
    starts = {start: i for i, start in enumerate(net.entries)}
    rules: list[list[tuple[int, float]]] = [[] for _ in range(len(starts) + 1)]
    rules[starts[graph.root]].append((-1, 0.0))
    for i in calls:
        weight = weights[i] + (0.0 if prior else graph.weight[states[i]])
        rules[starts[graph.callee[states[i]]]].append((starts[homes[i]], weight))
    for i in found:
        rules[-1].append((starts[homes[i]], weights[i]))
    called = _made(rules)
    order = sweeps.order(called)
    return _evaluate(called, order, called.coefficient, sums.tolerance)[0][called.goal]


def _made(rules: list[list[tuple[int, float]]]) -> Network:
    """A network without calls from the (tail, coefficient) of each item's rules; the goal last."""
    first = array("i", [0])
    for found in rules:
        first.append(first[-1] + len(found))
    flat = [rule for found in rules for rule in found]
    return Network(
        first=first,
        tail=array("i", [tail for tail, _ in flat]),
        second=None,
        coefficient=array("d", [x for _, x in flat]),
        edge=array("i", [-1]) * len(flat),
        goal=len(rules) - 1,
        states=range(len(rules)),
        entries={},
        homes=None,
    )
