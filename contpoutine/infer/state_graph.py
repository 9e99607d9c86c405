"""The state graph that an enumeration with merging leaves behind, stored in columns.

A *state* is a suspended computation together with the value that it is about to be sent; it is an
int, its place in the columns. Resumed, it runs on to its next request, and what it passes on the
way (observations, factors) is its weight. Equal states are one, so the paths through the graph are
the executions of the model, and there may be very many more of them than states.

A sub-model that is called (`yield sub(args)`) is a part of the graph of its own, entered at one
state however many callers it has: a CALL leads to the `callee`, and goes on along one edge for each
value that the callee can return. A callee that calls itself makes the graph recursive.

Invariants: the edges of a state are contiguous; an edge of weight zero is not there; equal return
values are one object, so that a CALL's edges and the RETURNs that they stand for are told by `is`.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from contpoutine.infer.marginal import entry_key

FRONTIER = 0  # found, and not resumed yet
CHOICE = 1  # waits at a choice
CALL = 2  # waits for a sub-model
RETURN = 3  # has returned
PRUNED = 4  # was given up at an observation of weight zero

KINDS = ("frontier", "choice", "call", "return", "pruned")


class Where(NamedTuple):
    """Where a state waits for the value that it is about to be sent, for pictures.

    Attributes:
        line: the line of the model, as "hmm.py:12", or its text.
        live: (name, value) of each local that what follows depends on.
    """

    line: str
    live: tuple[tuple[str, Any], ...] = ()


class StateGraph:
    """The columns. Whoever explores a model fills them, in C or by the methods below.

    Attributes:
        root: the state in which the model starts.
        kind: FRONTIER, CHOICE, CALL, RETURN or PRUNED, for each state.
        weight: the log-weight that a state passes between being resumed and its next request.
            Minus infinity for PRUNED.
        site: the name of a CHOICE's site, otherwise None.
        first_edge: the first of a state's edges.
        edge_count: how many edges it has.
        outcome: what a RETURN has returned, otherwise None.
        callee: the state in which a CALL's sub-model starts, otherwise -1.
        passed: for states that pass deterministic sites, or know the whole value of a batched one:
            (site, value) of each.
        where: for states that a picture can say more of: line and live values.
        target: the state that an edge leads to.
        log_weight: the log-probability of an edge's value at a CHOICE, scaled as the site is; 0.0
            at a CALL.
        value: the value that is sent along an edge: of the choice, or what the callee returned.
        tensor_weights: for a CHOICE whose log-weights can be differentiated: all of them, a 1-dim
            tensor, in the order of its edges.
        tensor_node_weights: the same for the weight of a state, a tensor with one element.

    >>> graph = StateGraph()
    >>> wet, dry = graph.returns("wet"), graph.returns("dry")
    >>> graph.root = graph.choice("rain", [(True, -1.6, wet), (False, -0.22, dry)])
    >>> [(graph.value[e], graph.outcome[graph.target[e]]) for e in graph.edges(graph.root)]
    [(True, 'wet'), (False, 'dry')]
    """

    def __init__(self) -> None:
        self.root = 0
        self.kind = bytearray()
        self.weight = array("d")
        self.site: list[str | None] = []
        self.first_edge = array("i")
        self.edge_count = array("i")
        self.outcome: list[Any] = []
        self.callee = array("i")
        self.passed: Mapping[int, tuple[tuple[str, Any], ...]] = {}
        self.where: Mapping[int, Where] = {}
        self.target = array("i")
        self.log_weight = array("d")
        self.value: list[Any] = []
        self.tensor_weights: Mapping[int, Any] = {}
        self.tensor_node_weights: Mapping[int, Any] = {}
        self._returned: dict[int, list[tuple[Any, int]]] = {}
        self._one_object: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self.kind)

    def edges(self, state: int) -> range:
        """The edges of a state."""
        first = self.first_edge[state]
        return range(first, first + self.edge_count[state])

    # --- building -------------------------------------------------------------------------------

    def state(self, weight: float = 0.0) -> int:
        """A new state, on the frontier until it is made into something else."""
        self.kind.append(FRONTIER)
        self.weight.append(weight)
        self.site.append(None)
        self.first_edge.append(0)
        self.edge_count.append(0)
        self.outcome.append(None)
        self.callee.append(-1)
        return len(self.kind) - 1

    def choice(
        self,
        site: str,
        edges: Iterable[tuple[Any, float, int]],
        *,
        weight: float = 0.0,
        state: int | None = None,
    ) -> int:
        """Make `state`, or a new one, a CHOICE with edges (value, log-weight, target)."""
        state = self._made(CHOICE, state, weight)
        self.site[state] = site
        self.first_edge[state] = len(self.target)
        for value, log_weight, target in edges:
            self._edge(value, log_weight, target)
        self.edge_count[state] = len(self.target) - self.first_edge[state]
        return state

    def call(self, callee: int, *, weight: float = 0.0, state: int | None = None) -> int:
        """Make `state`, or a new one, a CALL of the sub-model that starts at `callee`."""
        state = self._made(CALL, state, weight)
        self.callee[state] = callee
        self._returned[state] = []
        return state

    def answer(self, call: int, value: Any, target: int) -> None:
        """The sub-model that `call` waits for can return `value`, and then `target` follows.

        The edges are there once `lay_out` has been called.
        """
        self._returned[call].append((self._one(value), target))

    def returns(self, value: Any, *, weight: float = 0.0, state: int | None = None) -> int:
        """Make `state`, or a new one, a RETURN of `value`."""
        state = self._made(RETURN, state, weight)
        self.outcome[state] = self._one(value)
        return state

    def prune(self, state: int | None = None) -> int:
        """Make `state`, or a new one, an execution that was given up at weight zero."""
        return self._made(PRUNED, state, float("-inf"))

    def lay_out(self) -> StateGraph:
        """Give each CALL its edges, as far as its answers are known; call it again after more.

        The edges of a CALL that has had more answers since the last time move to the end of the
        columns, and its old ones belong to no state any more.
        """
        for call, answers in self._returned.items():
            if self.edge_count[call] != len(answers):
                self.first_edge[call] = len(self.target)
                self.edge_count[call] = len(answers)
                for value, target in answers:
                    self._edge(value, 0.0, target)
        return self

    def _made(self, kind: int, state: int | None, weight: float) -> int:
        state = self.state() if state is None else state
        self.kind[state], self.weight[state] = kind, weight
        return state

    def _edge(self, value: Any, log_weight: float, target: int) -> None:
        self.value.append(value)
        self.log_weight.append(log_weight)
        self.target.append(target)

    def _one(self, value: Any) -> Any:
        return self._one_object.setdefault(entry_key(value), value)

    # --- pickling -------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """The columns. Which values are one object is kept; where states wait only if it is known.

        (A pickle keeps the identity of lists, say, and not that of numbers.)
        """
        shared = self._shared()
        numbers: dict[int, int] = {}
        for holder, at in shared:
            numbers.setdefault(id(getattr(self, holder)[at]), len(numbers))
        state = self.__dict__ | {"_one_object": {}}
        state["where"] = self.where if type(self.where) is dict else {}
        state["shared"] = [numbers[id(getattr(self, holder)[at])] for holder, at in shared]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        numbers = state.pop("shared")
        self.__dict__.update(state)
        objects: dict[int, Any] = {}
        for (holder, at), number in zip(self._shared(), numbers, strict=True):
            column = getattr(self, holder)
            column[at] = objects.setdefault(number, column[at])

    def _shared(self) -> list[tuple[str, int]]:
        """The places in columns whose objects are told by `is`."""
        if CALL not in self.kind:
            return []
        found = [("outcome", s) for s, kind in enumerate(self.kind) if kind == RETURN]
        for state, kind in enumerate(self.kind):
            if kind == CALL:
                found += [("value", edge) for edge in self.edges(state)]
        return found

    # --- how it looks ---------------------------------------------------------------------------

    def __repr__(self) -> str:
        counts = [(self.kind.count(kind), name) for kind, name in enumerate(KINDS)]
        kinds = ", ".join([f"{count} {name}" for count, name in counts if count])
        return f"StateGraph({len(self):,} states: {kinds}; {sum(self.edge_count):,} edges)"
