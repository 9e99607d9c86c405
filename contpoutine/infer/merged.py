"""The explorer that merges equal states.

A *state* is a suspended execution together with the value that it is about to be sent, and its key
says what it will do (`continuation.state_key()`). States with equal keys are one: it is resumed
once, however many paths lead to it. The key is taken when the execution suspends, before any of its
answers is sent: what the pending request weighs belongs to the edge, not to what follows.

This is the loop in Python: the reference for `native/merged.c`, and the one that runs where a model
installs control handlers, performs other effects than samples, has batched sites or cannot be
cloned. The two give the same answers; the one in C explores calls by themselves, once for all of
their callers, and this one on the stack of each caller.
"""

from __future__ import annotations

import copy
import heapq
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from contpoutine.errors import EmptySupportError
from contpoutine.infer.driver import Batch, Leaf, Pruned
from contpoutine.infer.explorer import Order
from contpoutine.infer.merging_driver import MergingDriver
from contpoutine.infer.native_merged import BUDGET, DONE, TOO_MANY
from contpoutine.infer.state_graph import StateGraph


class Waiting:
    """A suspended execution, and how many states are still to be resumed from it."""

    __slots__ = ("choice", "users")

    def __init__(self, choice: Any) -> None:
        self.choice, self.users = choice, 0


class MergedExplorer:
    """Explores the state graph of a driver's model."""

    def __init__(
        self,
        driver: MergingDriver,
        order: Order,
        max_states: int,
        where: Callable[[int, Any], None] | None = None,
    ) -> None:
        self.driver, self.order, self.max_states = driver, order, max_states
        self.where = where
        self._graph = StateGraph()
        self._passed: dict[int, tuple[tuple[str, Any], ...]] = {}
        self._known: dict[Any, int] = {}
        self._frontier: Any = [] if order != "breadth_first" else deque()
        self._parents: list[int] = []
        self._priorities: list[float] = []
        self._begun = self._failed = False
        self._at = 0
        self.executions = self.branches = self.resumed = self.hits = 0
        self.unique: Counter[str] = Counter()
        driver.at = lambda: self._at

    @property
    def states(self) -> int:
        return len(self._graph)

    def run(
        self, max_executions: int = -1, deadline: float = math.inf, max_resumed: int = -1
    ) -> int:
        """Explore until that many ends were found, or states resumed, or the clock says so.

        Gives `DONE`, `BUDGET` or `TOO_MANY`.
        """
        if self._failed:
            raise RuntimeError("this search has failed and cannot go on")
        self._failed = True  # until the end of this run says otherwise
        if not self._begun:
            self._begun = True
            self._arrive(self._state(-1, 0.0), self.driver.begin())
        outcome = DONE
        while self._frontier and outcome == DONE:
            if self.executions == max_executions or self.resumed == max_resumed:
                outcome = BUDGET
            elif time.monotonic() >= deadline:
                outcome = BUDGET
            elif self.states > self.max_states:
                return TOO_MANY
            else:
                self._expand(*self._next())
        self._failed = False
        return outcome

    # --- the frontier ---------------------------------------------------------------------------

    def _next(self) -> tuple[int, Waiting, int]:
        if self.order == "likely_first":
            _, state, waiting, pick = heapq.heappop(self._frontier)
        elif self.order == "breadth_first":
            _, state, waiting, pick = self._frontier.popleft()
        else:
            _, state, waiting, pick = self._frontier.pop()
        return state, waiting, pick

    def _push(self, state: int, waiting: Waiting, pick: int) -> None:
        waiting.users += 1
        entry = (-self._priorities[state], state, waiting, pick)
        if self.order == "likely_first":
            heapq.heappush(self._frontier, entry)
        else:
            self._frontier.append(entry)

    # --- states ---------------------------------------------------------------------------------

    def _state(self, parent: int, priority: float) -> int:
        self._parents.append(parent)
        self._priorities.append(priority)
        return self._graph.state()

    def _expand(self, state: int, waiting: Waiting, pick: int) -> None:
        """Resume a state, and see where it gets to."""
        self._at = state
        self.resumed += 1
        waiting.users -= 1
        choice = waiting.choice
        computation = self.driver.branch(choice.state, waiting.users == 0)
        self._arrive(state, self.driver.step(computation, choice.values[pick], pick))

    def _arrive(self, state: int, event: Any) -> None:
        graph = self._graph
        if type(event) is Pruned:
            graph.prune(state)
            return
        if event.named:
            self._passed[state] = tuple(event.named)
        if type(event) is Leaf:
            graph.returns(event.value, weight=event.weight, state=state)
            self.executions += 1
            return
        log_probs, scale = event.log_probs, event.scale
        picks = [i for i, log_prob in enumerate(log_probs) if log_prob > -math.inf]
        if not picks:
            raise EmptySupportError(f"site {event.name!r} has no value of positive probability")
        self._differentiate(event)
        waiting = Waiting(event)
        edges = []
        for pick in picks:
            log_prob = log_probs[pick] * scale
            target = self._target(state, waiting, pick, event.weight + log_prob)
            edges.append((event.recorded[pick], log_prob, target))
        graph.choice(event.name, edges, weight=event.weight, state=state)
        self.branches += len(edges)

    def _target(self, state: int, waiting: Waiting, pick: int, log_weight: float) -> int:
        """The state that a value leads to: one that was met before, or a new one."""
        key = self._key(waiting.choice, pick)
        target = self._known.get(key)
        if target is not None:
            self.hits += 1
            return target
        target = self._known[key] = self._state(state, self._priorities[state] + log_weight)
        if self.where is not None:
            self.where(target, self._place(waiting.choice.state).innermost)
        self._push(target, waiting, pick)
        return target

    def _key(self, choice: Any, pick: int) -> Any:
        value, place = choice.values[pick], choice.state
        if isinstance(place, Batch):  # the elements picked so far are sent together in the end
            values, place = (*place.picked, value), place.place
            key = (len(values), place.state_key(values))
            why = key[1].why_unique
        else:
            key = place.state_key(value)
            why = key.why_unique
        if choice.recorded is not choice.values:
            why = why or "a choice offers values that the model can change"
        if why is None:
            return key
        self.unique[why] += 1
        return object()  # equal to no other

    def _differentiate(self, choice: Any) -> None:
        at = len(choice.state.picked) if isinstance(choice.state, Batch) else 0
        msg = self._place(choice.state).msg
        self.driver.differentiate(msg, choice.log_probs, at, choice.scale)

    def _place(self, state: Any) -> Any:
        return state.place if isinstance(state, Batch) else state

    # --- what was found -------------------------------------------------------------------------

    def path(self) -> list[tuple[str, Any]]:
        """The choices that led to the state that was resumed last."""
        graph, steps, at = self._graph, [], self._at
        while graph.kind and (parent := self._parents[at]) >= 0:
            for edge in graph.edges(parent):
                if graph.target[edge] == at:
                    steps.append((str(graph.site[parent]), graph.value[edge]))
                    break
            at = parent
        return steps[::-1]

    def graph(self) -> StateGraph:
        """The graph found so far."""
        graph = StateGraph()
        for name, column in vars(self._graph).items():
            setattr(graph, name, copy.copy(column))
        graph.passed = dict(self._passed)
        graph.tensor_weights = dict(self.driver.tensor_weights)
        graph.tensor_node_weights = dict(self.driver.tensor_node_weights)
        return graph

    def close(self) -> None:
        """Drop what is left, without running anything of the model."""
        self._failed = True
        self._frontier.clear()
