"""Single executions out of a network: the heaviest ones, and posterior samples.

Both go through a derivation from its end: an item is come by a rule, which says where it came from
and, at a call, what happened inside. Samples choose each rule by its share of the item's weight
(backward sampling). The n heaviest come out of a best-first search whose estimate of what is left
is exact, the weight of the heaviest derivation: so hardly anything is looked at that is not among
them (the A* of Klein and Manning, 2003, with a perfect heuristic).
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from bisect import bisect
from collections.abc import Iterator
from typing import Any

from contpoutine.infer.state_graph import CHOICE
from contpoutine.infer.sums import Sums
from contpoutine.infer.sweeps import shares, terms

_NONE = -math.inf
Rules = list[int]  # of one derivation: of an item, then of what its rule uses, the inside of a call
# before what came before the call


def heaviest(sums: Sums) -> Iterator[Rules]:
    """The derivations of the goal, heaviest first."""
    net, best = sums.network, sums.best
    tail, second = net.tail, net.second
    ways: dict[int, list[tuple[float, int]]] = {}
    number = itertools.count(0, -1)  # of equal weights the one that was found last, which is longer
    heap: list[Any] = [(-best[net.goal], 0, (net.goal, None), None)]
    while heap and heap[0][0] < math.inf:
        cost, _, todo, path = heapq.heappop(heap)
        while todo is not None:  # along the heaviest way; the others wait
            item, todo = todo
            if item not in ways:
                found = zip(terms(net, item, net.coefficient, best), net.rules(item), strict=True)
                ways[item] = sorted([w for w in found if w[0] > _NONE], key=lambda w: -w[0])
            after, before = todo, path
            for rank, (weight, rule) in enumerate(ways[item]):
                rest = after if tail[rule] < 0 else (tail[rule], after)
                if second is not None and second[rule] >= 0:
                    rest = (second[rule], rest)
                steps = (rule, before)
                if rank == 0:
                    todo, path = rest, steps
                else:
                    behind = max(0.0, best[item] - weight)
                    heapq.heappush(heap, (cost + behind, next(number), rest, steps))
        rules = []
        while path is not None:
            rule, path = path
            rules.append(rule)
        rules.reverse()
        yield rules


class Sampler:
    """Draws derivations of the goal by their share of its weight."""

    def __init__(self, sums: Sums) -> None:
        self.sums = sums
        self._shares: dict[int, tuple[list[int], list[float]]] = {}

    def draw(self) -> Rules:
        net = self.sums.network
        tail, second = net.tail, net.second
        rules, todo = [], [net.goal]
        while todo:
            rule = self._rule(todo.pop())
            rules.append(rule)
            if tail[rule] >= 0:
                todo.append(tail[rule])
            if second is not None and second[rule] >= 0:
                todo.append(second[rule])
        return rules

    def _rule(self, item: int) -> int:
        net = self.sums.network
        if net.first[item + 1] - net.first[item] == 1:
            return net.first[item]
        known = self._shares.get(item)
        if known is None:
            parts = shares(net, item, self.sums.inside)
            possible = [i for i, part in enumerate(parts) if part > 0.0]
            rules = [net.first[item] + i for i in possible]
            known = rules, list(itertools.accumulate([parts[i] for i in possible]))
            self._shares[item] = known
        rules, sums = known
        return rules[bisect(sums, random.random() * sums[-1], 0, len(sums) - 1)]


def execution(sums: Sums, rules: Rules) -> tuple[Any, list[tuple[str, Any]], float]:
    """What a derivation stands for: the returned value, the choices, and the log-weight."""
    graph, net = sums.graph, sums.network
    tail, second, states = net.tail, net.second, net.states
    steps: list[tuple[str, Any]] = []
    outcome, at_end = None, True
    left = iter(rules)
    todo: list[Any] = [net.goal]
    while todo:
        item = todo.pop()
        if isinstance(item, tuple):
            steps += item
            continue
        rule = next(left)
        source, edge = tail[rule], net.edge[rule]
        if source < 0:
            continue
        state = states[source]
        if at_end:
            outcome, at_end = graph.outcome[state], False
        if edge >= 0 and graph.kind[state] == CHOICE:
            steps.append((graph.site[state] or "", graph.value[edge]))
        todo.append(source)
        todo.append(graph.passed.get(state, ())[::-1])
        if second is not None and second[rule] >= 0:
            todo.append(second[rule])
    steps.reverse()
    return outcome, steps, math.fsum([net.coefficient[rule] for rule in rules])
