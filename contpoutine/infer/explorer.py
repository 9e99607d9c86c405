"""The explorer: which choice to follow next, and what has been found so far.

A *choice point* is a suspended execution and the values it can still be resumed with. The frontier
holds choice points, and its discipline is the order of the search: a stack is depth first, a queue
is breadth first, a heap by weight is likely first. A choice point leaves the frontier with its last
value, and that resumption takes the suspended execution itself; every earlier one takes a copy.

This is the loop in Python: the reference for `native/explorer.c`, which does the same for models
that yield nothing but samples and calls, and the one that runs where the extension is missing. The
two make the same tree, node by node.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from typing import Any, Literal, get_args

from contpoutine.errors import EmptySupportError
from contpoutine.infer.driver import Choice, Driver, Leaf, Pruned
from contpoutine.infer.tree import Tree

Order = Literal["depth_first", "breadth_first", "likely_first"]
ORDERS: tuple[str, ...] = get_args(Order)


class ChoicePoint:
    """A suspended execution, and the values that it has not been resumed with yet."""

    __slots__ = (
        "log_prior",
        "log_probs",
        "log_weight",
        "name",
        "next",
        "node",
        "number",
        "picks",
        "scale",
        "state",
        "values",
        "visit",
    )

    def __init__(
        self,
        choice: Choice,
        picks: list[int],
        node: int,
        visit: int,
        log_weight: float,
        log_prior: float,
        number: int,
    ) -> None:
        self.state, self.name, self.scale = choice.state, choice.name, choice.scale
        self.values, self.log_probs = choice.values, choice.log_probs
        self.picks, self.next = picks, 0
        self.node, self.visit, self.number = node, visit, number
        self.log_weight, self.log_prior = log_weight, log_prior

    def weight_of_next(self) -> float:
        return self.log_weight + self.log_probs[self.picks[self.next]] * self.scale

    def __lt__(self, other: ChoicePoint) -> bool:
        """Heavier first; of equal weights, the one that was found first."""
        mine, theirs = self.weight_of_next(), other.weight_of_next()
        return mine > theirs or (mine == theirs and self.number < other.number)


class Explorer:
    """Explores the execution tree of a driver's model."""

    def __init__(self, driver: Driver, order: Order) -> None:
        self.driver, self.order = driver, order
        self.parents, self.visits, self.picks = [-1], [-1], [-1]
        self.site_names: list[str] = []
        self.site_values: list[Any] = []
        self.leaf_nodes: list[int] = []
        self.leaf_log_weights: list[float] = []
        self.leaf_values: list[Any] = []
        self.branches = 0
        self.explored_mass = 0.0
        self._frontier: Any = deque() if order == "breadth_first" else []
        self._points = 0
        self._begun = self._failed = False
        self._at = 0  # where the resumption that is running came from

    @property
    def executions(self) -> int:
        """How many executions have finished with a weight above zero."""
        return len(self.leaf_nodes)

    def run(self, max_executions: int = -1, deadline: float = math.inf) -> bool:
        """Explore until that many executions have finished, or the clock says so.

        `deadline` is a reading of `time.monotonic()`. Gives True when nothing is left to explore.
        """
        if self._failed:
            raise RuntimeError("this search has failed and cannot go on")
        self._failed = True  # until the end of this run says otherwise
        if not self._begun:
            self._begun = True
            self._arrive(self.driver.begin(), 0, 0.0, 0.0)
        done = True
        while self._frontier and done:
            if self.executions == max_executions or time.monotonic() >= deadline:
                done = False
            else:
                self._advance()
        self._failed = False
        return done

    def _advance(self) -> None:
        """Resume one choice point with its next value."""
        frontier = self._frontier
        if self.order == "depth_first":
            point = frontier[-1]
        elif self.order == "breadth_first":
            point = frontier[0]
        else:
            point = heapq.heappop(frontier)
        pick = point.picks[point.next]
        point.next += 1
        last = point.next == len(point.picks)
        if self.order == "likely_first":
            if not last:
                heapq.heappush(frontier, point)
        elif last:
            frontier.pop() if self.order == "depth_first" else frontier.popleft()
        log_prob = point.log_probs[pick] * point.scale
        state = self.driver.branch(point.state, last)
        node = self._node(point.node, point.visit, pick)
        self._at = node
        self.branches += 1
        event = self.driver.step(state, point.values[pick], pick)
        self._arrive(event, node, point.log_weight + log_prob, point.log_prior + log_prob)

    def _arrive(self, event: Any, node: int, log_weight: float, log_prior: float) -> None:
        """Write down where an execution has got to."""
        if type(event) is Pruned:
            self.explored_mass += math.exp(log_prior)
            return
        for name, value in event.named:
            node = self._node(node, self._visit(name, (value,)), 0)
        log_weight += event.weight
        if type(event) is Leaf:
            self.explored_mass += math.exp(log_prior)
            self.leaf_nodes.append(node)
            self.leaf_log_weights.append(log_weight)
            self.leaf_values.append(event.value)
            return
        log_probs = event.log_probs
        picks = [i for i, log_prob in enumerate(log_probs) if log_prob > -math.inf]
        if self.order == "likely_first":
            picks.sort(key=lambda i: -log_probs[i])
        if not picks:
            raise EmptySupportError(f"site {event.name!r} has no value of positive probability")
        visit = self._visit(event.name, event.recorded)
        self._points += 1
        point = ChoicePoint(event, picks, node, visit, log_weight, log_prior, self._points)
        if self.order == "likely_first":
            heapq.heappush(self._frontier, point)
        else:
            self._frontier.append(point)

    def _node(self, parent: int, visit: int, pick: int) -> int:
        self.parents.append(parent)
        self.visits.append(visit)
        self.picks.append(pick)
        return len(self.parents) - 1

    def _visit(self, name: str, values: Any) -> int:
        self.site_names.append(name)
        self.site_values.append(values)
        return len(self.site_names) - 1

    def tree(self) -> Tree:
        """The columns found so far."""
        return Tree(
            parents=self.parents,
            visits=self.visits,
            picks=self.picks,
            site_names=self.site_names,
            site_values=self.site_values,
            leaf_nodes=self.leaf_nodes,
            leaf_log_weights=self.leaf_log_weights,
            leaf_values=self.leaf_values,
        )

    def path(self) -> list[tuple[str, Any]]:
        """The choices that led to where the last run stopped."""
        return self.tree().path(self._at)

    def frontier(self) -> tuple[list[float], list[float]]:
        """Log-prior and log-weight of each resumption that is still to be done."""
        priors, weights = [], []
        for point in self._frontier:
            for pick in point.picks[point.next :]:
                log_prob = point.log_probs[pick] * point.scale
                priors.append(point.log_prior + log_prob)
                weights.append(point.log_weight + log_prob)
        return priors, weights

    def close(self) -> None:
        """Drop what is left, without running anything of the model."""
        self._frontier.clear()
