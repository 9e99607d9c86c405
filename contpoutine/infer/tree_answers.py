"""Answers from an execution tree: sweeps over its columns.

Nothing walks a path from the root for each execution, and nobody waits for a sweep that he does not
ask for. Weights are kept relative to the heaviest one, and sums that decide an answer are exact
(`math.fsum`).
"""

from __future__ import annotations

import heapq
import math
import random
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from contpoutine.core.native import native
from contpoutine.errors import AmbiguousSiteError, UnknownSiteError
from contpoutine.infer.answers import Groups, ambiguous, grouped, too_few
from contpoutine.infer.execution import Execution, unknown
from contpoutine.infer.tree import Tree


class TreeAnswers:
    """See `infer.answers.Answers`."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._top = max(tree.leaf_log_weights, default=-math.inf)

    @property
    def executions(self) -> int:
        return len(self.tree.leaf_nodes)

    @cached_property
    def log_evidence(self) -> float:
        if self._top == -math.inf:
            return -math.inf
        return self._top + math.log(self.total) + 0.0  # which makes 0.0 of -0.0

    @cached_property
    def sites(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.tree.site_names))

    @property
    def entropy(self) -> float:
        shares = [weight / self.total for weight in self._weights if weight > 0.0]
        return math.fsum([-p * math.log(p) for p in shares]) + 0.0

    # --- the sweeps -----------------------------------------------------------------------------

    @cached_property
    def _weights(self) -> list[float]:
        """Weights of the executions, relative to the heaviest."""
        top, exp = self._top, math.exp
        if top == -math.inf:
            return [0.0] * self.executions
        return [exp(x - top) for x in self.tree.leaf_log_weights]

    @cached_property
    def _tally(self) -> tuple[list[tuple[Any, float]] | None, float] | None:
        """The return values with their weights, and the total, where C has made the columns."""
        weights = self.tree.leaf_log_weights
        if native is None or not isinstance(weights, array) or self._top == -math.inf:
            return None
        counted: tuple[list[tuple[Any, float]] | None, float] = native.tally(
            self.tree.leaf_values, weights, self._top
        )
        return counted

    @cached_property
    def total(self) -> float:
        return math.fsum(self._weights) if self._tally is None else self._tally[1]

    def returned(self) -> Groups:
        if self._tally is not None and self._tally[0] is not None:
            return self._tally[0]
        return grouped(self.tree.leaf_values, self._weights)

    @cached_property
    def _mass(self) -> list[float]:
        """For each node, the weight of the executions below it."""
        parents = self.tree.parents
        mass = [0.0] * len(parents)
        for node, weight in zip(self.tree.leaf_nodes, self._weights, strict=True):
            mass[node] += weight
        for node in range(len(parents) - 1, 0, -1):
            mass[parents[node]] += mass[node]
        return mass

    @cached_property
    def _nodes_of(self) -> dict[str, list[int]]:
        """For each site, its nodes that lead to an execution of positive weight."""
        nodes: defaultdict[str, list[int]] = defaultdict(list)
        names, mass = self.tree.site_names, self._mass
        for node, visit in enumerate(self.tree.visits):
            if visit >= 0 and mass[node] > 0.0:
                nodes[names[visit]].append(node)
        return nodes

    def visited(self, site: str, occurrence: int | None) -> Groups:
        nodes = self._nodes(site)
        picked, masses = nodes, [self._mass[node] for node in nodes]
        if occurrence is not None or self._repeats(nodes):
            last, count = self._visits_on_path(nodes)
            most = max([count[node] for node in nodes])
            if occurrence is None:
                raise AmbiguousSiteError(ambiguous(site, most))
            if occurrence >= 0:
                picked = [node for node in nodes if count[node] == occurrence + 1]
                masses = [self._mass[node] for node in picked]
            else:
                picked, masses = self._from_the_end(last, -occurrence)
            if not picked:
                raise UnknownSiteError(too_few(site, most, occurrence))
        visits, picks, values = self.tree.visits, self.tree.picks, self.tree.site_values
        return grouped([values[visits[node]][picks[node]] for node in picked], masses)

    def _nodes(self, site: str) -> list[int]:
        nodes = self._nodes_of.get(site)
        if nodes is None:
            raise UnknownSiteError(unknown(site, self.sites, "any explored execution"))
        return nodes

    def _repeats(self, nodes: list[int]) -> bool:
        """Whether one of `nodes` lies below another."""
        parents = self.tree.parents
        inside = bytearray(len(parents))
        mine = bytearray(len(parents))
        for node in nodes:
            mine[node] = 1
        for node in range(nodes[0], len(parents)):
            if inside[parents[node]]:
                if mine[node]:
                    return True
                inside[node] = 1
            elif mine[node]:
                inside[node] = 1
        return False

    def _visits_on_path(self, nodes: list[int]) -> tuple[list[int], list[int]]:
        """For each tree node, the last of `nodes` on the path to it, and how many there are.

        0 stands for none, since the root is no choice.
        """
        parents = self.tree.parents
        last = [0] * len(parents)
        count = [0] * len(parents)
        mine = bytearray(len(parents))
        for node in nodes:
            mine[node] = 1
        for node in range(1, len(parents)):
            parent = parents[node]
            if mine[node]:
                last[node] = node
                count[node] = count[parent] + 1
            else:
                last[node] = last[parent]
                count[node] = count[parent]
        return last, count

    def _from_the_end(self, last: list[int], back: int) -> tuple[list[int], list[float]]:
        """The site's nodes that are the `back`-th last of an execution, and those weights."""
        parents = self.tree.parents
        masses: defaultdict[int, float] = defaultdict(float)
        for leaf, weight in zip(self.tree.leaf_nodes, self._weights, strict=True):
            node = last[leaf]
            for _ in range(back - 1):
                node = last[parents[node]] if node else 0
            if node and weight > 0.0:
                masses[node] += weight
        return list(masses), list(masses.values())

    def together(self, sites: Sequence[tuple[str, int | None]]) -> Iterable[tuple[Any, float]]:
        for site, occurrence in sites:
            self.visited(site, occurrence)  # which refuses what has no answer
        wanted = {site for site, _ in sites}
        found = []
        for leaf, weight in zip(self.tree.leaf_nodes, self._weights, strict=True):
            values: defaultdict[str, list[Any]] = defaultdict(list)
            for name, value in self.tree.path(leaf) if weight > 0.0 else ():
                if name in wanted:
                    values[name].append(value)
            try:
                met = [values[site][occurrence or 0] for site, occurrence in sites]
            except IndexError:  # it has not got all of them
                continue
            found.append((tuple(met), weight))
        return found

    # --- executions -----------------------------------------------------------------------------

    def draw(self, n: int) -> list[Execution]:
        drawn = random.choices(range(self.executions), self._weights, k=n)
        return [self._execution(leaf) for leaf in drawn]

    def heaviest(self, n: int) -> list[Execution]:
        weights = self.tree.leaf_log_weights
        best = heapq.nlargest(n, range(len(weights)), key=weights.__getitem__)
        return [self._execution(leaf) for leaf in best]

    def all(self) -> list[Execution]:
        return [self._execution(leaf) for leaf in range(self.executions)]

    def _execution(self, leaf: int) -> Execution:
        tree = self.tree
        return Execution(
            tree.leaf_values[leaf],
            tuple(tree.path(tree.leaf_nodes[leaf])),
            self._weights[leaf] / self.total,
            tree.leaf_log_weights[leaf],
        )
