"""Answers from a state graph. Its paths are the executions, and none is walked to be counted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from contpoutine.errors import AmbiguousSiteError, UnknownSiteError
from contpoutine.infer.answers import Groups, ambiguous, grouped, too_few
from contpoutine.infer.derivations import Sampler, execution, heaviest
from contpoutine.infer.execution import Execution, unknown
from contpoutine.infer.state_graph import StateGraph
from contpoutine.infer.sums import Sums
from contpoutine.infer.visits import Visits

_MOST_LISTED = 1_000_000


class GraphAnswers:
    """See `infer.answers.Answers`."""

    total = 1.0

    def __init__(self, graph: StateGraph, tolerance: float = 1e-12) -> None:
        self.graph = graph
        self.sums = Sums(graph, tolerance)

    @property
    def log_evidence(self) -> float:
        return self.sums.log_evidence + 0.0

    @property
    def entropy(self) -> float:
        return self.sums.entropy

    @cached_property
    def executions(self) -> float:
        sums, net = self.sums, self.sums.network
        if sums.order is None:
            return math.inf
        counts = [0] * len(net)
        tail, second, rules = net.tail, net.second, sums.rules
        for item in sums.order:
            total = 0
            for rule in net.rules(item):
                if rules[rule] > 0.0:
                    ways = counts[tail[rule]] if tail[rule] >= 0 else 1
                    if second is not None and second[rule] >= 0:
                        ways *= counts[second[rule]]
                    total += ways
            counts[item] = total
        return counts[net.goal]

    @cached_property
    def sites(self) -> tuple[str, ...]:
        names = dict.fromkeys([name for name in self.graph.site if name is not None])
        for passed in self.graph.passed.values():
            names.update(dict.fromkeys([name for name, _ in passed]))
        return tuple(names)

    def returned(self) -> Groups:
        sums, net = self.sums, self.sums.network
        ends = net.rules(net.goal)
        states = [net.states[net.tail[rule]] for rule in ends]
        return grouped([self.graph.outcome[s] for s in states], [sums.rules[rule] for rule in ends])

    # --- sites ----------------------------------------------------------------------------------

    @cached_property
    def _visits(self) -> Visits:
        return Visits(self.sums)

    def visited(self, site: str, occurrence: int | None) -> Groups:
        self._need(site)
        visits = self._visits
        if occurrence is None:
            if visits.most(site) > 1:
                raise AmbiguousSiteError(ambiguous(site, self._most(site)))
            found = visits.groups(visits.of[site])
        else:
            found = visits.occurrence(site, occurrence)
        groups = grouped([value for value, _ in found], [mass for _, mass in found])
        if not groups:
            raise UnknownSiteError(too_few(site, self._most(site), occurrence or 0))
        return groups

    def together(self, sites: Sequence[tuple[str, int | None]]) -> Iterable[tuple[Any, float]]:
        for site, occurrence in sites:
            self.visited(site, occurrence)  # which refuses what has no answer
        return self._visits.joint([(site, occurrence or 0) for site, occurrence in sites])

    def _need(self, site: str) -> None:
        if site not in self._visits.of:
            raise UnknownSiteError(unknown(site, self.sites, "any explored execution"))

    def _most(self, site: str) -> float | None:
        return self._visits.most(site) if self.sums.acyclic else None

    # --- executions -----------------------------------------------------------------------------

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self.sums)

    def draw(self, n: int) -> list[Execution]:
        return [self._execution(self._sampler.draw()) for _ in range(n)]

    def heaviest(self, n: int) -> list[Execution]:
        return [self._execution(rules) for rules in islice(heaviest(self.sums), n)]

    def all(self) -> list[Execution]:
        if self.executions > _MOST_LISTED:
            raise ValueError(
                f"there are more than {_MOST_LISTED:,} executions: too many to list them all. "
                f"`posterior.most_probable(n)` lists the first ones, `posterior.sample(n)` draws."
            )
        return [self._execution(rules) for rules in heaviest(self.sums)]

    def _execution(self, rules: list[int]) -> Execution:
        value, choices, log_weight = execution(self.sums, rules)
        probability = min(1.0, math.exp(log_weight - self.log_evidence))
        return Execution(value, tuple(choices), probability, log_weight)

    # --- gradients ------------------------------------------------------------------------------

    def tensors(self) -> list[tuple[Any, list[float]]]:
        """Each tensor of log-weights, with the derivative of the log-evidence by its elements.

        That is how often a posterior execution is expected to use the element.
        """
        graph, sums = self.graph, self.sums
        found: defaultdict[int, Any] = defaultdict(list)
        for state, tensor in graph.tensor_weights.items():
            found[id(tensor)].append((tensor, [sums.edges[e] for e in graph.edges(state)]))
        for state, tensor in graph.tensor_node_weights.items():
            found[id(tensor)].append((tensor, [sums.states[state]]))
        return [pair for pairs in found.values() for pair in pairs]
