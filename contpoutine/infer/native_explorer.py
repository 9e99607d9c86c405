"""The explorer in C, with the face of the one in Python."""

from __future__ import annotations

import math
from array import array
from typing import Any

from contpoutine.core.ambient import AMBIENT
from contpoutine.core.bridge import as_generator
from contpoutine.core.continuation import CHANGED
from contpoutine.core.handler import Mark
from contpoutine.core.messenger import Messenger
from contpoutine.core.native import native
from contpoutine.distributions import Delta, FiniteDistribution
from contpoutine.distributions.choices import Choices, choices
from contpoutine.errors import SharedIteratorError
from contpoutine.infer.driver import Driver, Leaf, Pruned, recorded
from contpoutine.infer.explorer import ORDERS, Order
from contpoutine.infer.tree import Tree

if native is not None:
    native.set_types(
        AMBIENT,
        Mark,
        Messenger,
        FiniteDistribution,
        Delta,
        choices,
        Choices,
        Leaf,
        Pruned,
        SharedIteratorError,
        CHANGED,
        recorded,
    )
    native.set_bridge(as_generator.__code__, as_generator.__code__.co_varnames.index("bridge"))


class NativeExplorer:
    """Explores the execution tree of a driver's model; see `infer.explorer.Explorer`."""

    def __init__(self, driver: Driver, order: Order) -> None:
        assert native is not None  # the caller has asked
        self.driver = driver
        self._native = native.Explorer(
            driver,
            driver.origin.outside,
            driver.outer,
            ORDERS.index(order),
            driver.capture == "clone",
        )

    @property
    def executions(self) -> int:
        return int(self._native.executions)

    @property
    def branches(self) -> int:
        return int(self._native.branches)

    @property
    def explored_mass(self) -> float:
        return float(self._native.explored_mass)

    def run(self, max_executions: int = -1, deadline: float = math.inf) -> bool:
        done = bool(self._native.run(max_executions, deadline))
        self.driver.bounded &= bool(self._native.bounded)
        return done

    def path(self) -> list[tuple[str, Any]]:
        return [(name, value) for name, value, _ in self._native.path()]

    def tree(self) -> Tree:
        columns = self._native.columns()
        parents, visits, picks, names, values, leaf_nodes, leaf_log_weights, leaf_values = columns
        return Tree(
            parents=array("i", parents),
            visits=array("i", visits),
            picks=array("i", picks),
            site_names=names,
            site_values=values,
            leaf_nodes=array("i", leaf_nodes),
            leaf_log_weights=array("d", leaf_log_weights),
            leaf_values=leaf_values,
        )

    def frontier(self) -> tuple[list[float], list[float]]:
        priors, weights = self._native.frontier()
        return priors, weights

    def close(self) -> None:
        self._native.close()
