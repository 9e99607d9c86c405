"""The merging explorer in C, with the face of the one in Python."""

from __future__ import annotations

import math
import weakref
from array import array
from collections.abc import Callable
from typing import Any

from contpoutine.core.continuation import CHANGED
from contpoutine.core.native import native
from contpoutine.errors import SharedIteratorError
from contpoutine.infer.explorer import ORDERS, Order
from contpoutine.infer.merging_driver import MergingDriver
from contpoutine.infer.state_graph import StateGraph

if native is not None:
    native.set_merged_types(SharedIteratorError, CHANGED)

DONE, BUDGET = 1, 0
NOT_BARE, NOT_SHARED, TOO_MANY = -2, -3, -4
"""What `NativeMerged.run` gives: there is nothing left, a budget has run out; and why the loop in C
cannot go on: the model needs the whole machine, its calls cannot be shared, too many states."""


class NativeMerged:
    """Explores the state graph of a driver's model; see `infer.merged.MergedExplorer`."""

    def __init__(
        self,
        driver: MergingDriver,
        order: Order,
        max_states: int,
        share_calls: bool = True,
        where: Callable[[int, Any], None] | None = None,
    ) -> None:
        assert native is not None  # the caller has asked
        self.driver = driver
        self._native = native.Merged(
            driver,
            driver.origin.outside,
            driver.outer,
            ORDERS.index(order),
            driver.capture == "clone",
            share_calls,
            max_states,
            where,
        )
        explorer = weakref.ref(self._native)  # what waits must not be part of a cycle
        driver.at = lambda: explorer().at  # type: ignore[union-attr]

    @property
    def executions(self) -> int:
        """How many ends of the model were found. Paths that end in one state are one."""
        return int(self._native.executions)

    @property
    def states(self) -> int:
        return int(self._native.states)

    @property
    def branches(self) -> int:
        return int(self._native.edges)

    @property
    def resumed(self) -> int:
        """How many states were resumed."""
        return int(self._native.resumed)

    @property
    def hits(self) -> int:
        """How often a state, or a call, was met again."""
        return int(self._native.hits)

    @property
    def why(self) -> str | None:
        """Why the loop in C cannot go on."""
        why: str | None = self._native.why
        return why

    @property
    def unique(self) -> dict[str, int]:
        """Why states were equal to no other, and how many of them."""
        reasons: dict[str, int] = self._native.unique
        return reasons

    def run(
        self, max_executions: int = -1, deadline: float = math.inf, max_resumed: int = -1
    ) -> int:
        outcome = int(self._native.run(max_executions, deadline, max_resumed))
        self.driver.bounded &= bool(self._native.bounded)
        return outcome

    def path(self) -> list[tuple[str, Any]]:
        path: list[tuple[str, Any]] = self._native.path()
        return path

    def graph(self) -> StateGraph:
        """The graph found so far."""
        graph = StateGraph()
        (
            graph.kind,
            weight,
            graph.site,
            first_edge,
            edge_count,
            callee,
            graph.outcome,
            target,
            log_weight,
            graph.value,
            graph.passed,
        ) = self._native.columns()
        graph.weight, graph.log_weight = array("d", weight), array("d", log_weight)
        graph.first_edge, graph.edge_count = array("i", first_edge), array("i", edge_count)
        graph.callee, graph.target = array("i", callee), array("i", target)
        graph.passed = dict(graph.passed)
        graph.tensor_weights = dict(self.driver.tensor_weights)
        graph.tensor_node_weights = dict(self.driver.tensor_node_weights)
        return graph

    def close(self) -> None:
        self._native.close()
