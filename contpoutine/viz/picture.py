"""What a picture of a state graph shows: boxes with text, and arrows between them.

A box is a state: the line of the model whose request comes next, the value that was sent before,
the live values that the future depends on, and the posterior probability of coming there. An arrow
is an edge: the value that is sent, and the probability of going along it. How they are placed and
drawn is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contpoutine.infer import showing
from contpoutine.infer.posterior import Posterior
from contpoutine.infer.state_graph import CALL, FRONTIER, PRUNED, RETURN, StateGraph, Where
from contpoutine.infer.sums import Sums

_WIDEST = 36  # characters of a line in a box
_MOST_LIVE = 6


@dataclass(frozen=True)
class Box:
    """A state.

    Attributes:
        state: its number.
        lines: what is written into it.
        kind: its kind, as in `infer.state_graph`.
        share: how often a posterior execution is expected to come by.
    """

    state: int
    lines: tuple[str, ...]
    kind: int
    share: float


@dataclass(frozen=True)
class Arrow:
    """An edge, or the way into a sub-model.

    Attributes:
        source: the place of the box that it leaves.
        target: the place of the box that it leads to.
        label: what is written at it.
        share: how often a posterior execution is expected to go along it.
        is_call: whether it leads into a sub-model.
    """

    source: int
    target: int
    label: str
    share: float
    is_call: bool = False


@dataclass(frozen=True)
class Picture:
    """Boxes, the first one of which is where the model starts, arrows, and what was left out."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    caption: str


def picture(posterior: Posterior, max_states: int) -> Picture:
    """The picture of a posterior's graph, of its `max_states` most visited states."""
    graph = posterior.graph
    sums = Sums(graph)
    known = sums.log_evidence > -math.inf
    visits: Any = sums.states if known else [0.0] * len(graph)
    uses: Any = sums.edges if known else [0.0] * len(graph.target)
    chosen = _chosen(graph, visits, max_states)
    place = {state: i for i, state in enumerate(chosen)}
    # A state that a path can come by again has an expected number of visits.
    once = sums.acyclic and sums.network.homes is None
    sent = _sent(graph, chosen)
    boxes = tuple([_box(graph, s, visits[s], sent.get(s, ()), once) for s in chosen])
    arrows = []
    for state in chosen:
        if graph.kind[state] == CALL and graph.callee[state] in place:
            callee = place[graph.callee[state]]
            arrows.append(Arrow(place[state], callee, "", visits[state], is_call=True))
        for edge in graph.edges(state):
            if graph.target[edge] in place:
                label = f"{_short(graph.value[edge])}: {showing.number(uses[edge])}"
                arrows.append(Arrow(place[state], place[graph.target[edge]], label, uses[edge]))
    left = len(_reached(graph)) - len(chosen)
    caption = f"and {left:,} more states, each less probable" if left else ""
    return Picture(boxes, tuple(arrows), caption)


def _reached(graph: StateGraph) -> list[int]:
    """The states that can be come to, in the order of a search from the root."""
    found = {graph.root: None}
    todo = [graph.root]
    for state in todo:
        following = [graph.target[edge] for edge in graph.edges(state)]
        if graph.kind[state] == CALL:
            following.insert(0, graph.callee[state])
        for target in following:
            if target not in found:
                found[target] = None
                todo.append(target)
    return list(found)


def _chosen(graph: StateGraph, visits: Any, max_states: int) -> list[int]:
    reached = _reached(graph)
    if len(reached) <= max_states:
        return reached
    ranked = sorted(reached[1:], key=lambda state: -visits[state])
    kept = {graph.root, *ranked[: max_states - 1]}
    return [state for state in reached if state in kept]


def _sent(graph: StateGraph, states: list[int]) -> dict[int, tuple[str, ...]]:
    """What each state is sent: by the request of any state before it, since they are equal."""
    found: dict[int, tuple[str, ...]] = {}
    for state in states:
        name = graph.site[state] or "returned"
        for edge in graph.edges(state):
            found.setdefault(graph.target[edge], (f"{name}={_short(graph.value[edge])}",))
    return found


def _next(graph: StateGraph, state: int) -> Where | None:
    """Where a state's request is: what follows waits there for the answer."""
    where: Mapping[int, Where] = graph.where
    for edge in graph.edges(state):
        found = where.get(graph.target[edge])
        if found is not None:
            return found
    return where.get(state)


def _box(graph: StateGraph, state: int, share: float, sent: tuple[str, ...], once: bool) -> Box:
    kind = graph.kind[state]
    if kind == RETURN:
        lines = [f"returns {_short(graph.outcome[state])}"]
    elif kind == PRUNED:
        lines = ["weight zero"]
    else:
        where = _next(graph, state)
        name = {FRONTIER: "not explored", CALL: "a call"}.get(kind, graph.site[state] or "")
        lines = [_cut(where.line if where is not None else name)]
        live = () if where is None else where.live
        pairs = [*sent, *[f"{name}={_short(value)}" for name, value in live]]
        lines += _wrapped(pairs) if pairs else []
        if kind == FRONTIER and where is not None:
            lines.append("not explored")
    return Box(
        state, (*lines, f"{'p =' if once else 'visits'} {showing.number(share)}"), kind, share
    )


def _wrapped(pairs: list[str]) -> list[str]:
    more = len(pairs) - _MOST_LIVE
    if more > 0:
        pairs = [*pairs[:_MOST_LIVE], f"and {more} more"]
    lines = [""]
    for pair in pairs:
        if lines[-1] and len(lines[-1]) + 2 + len(pair) > _WIDEST:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + pair
    return [_cut(line) for line in lines]


def _short(value: Any) -> str:
    item = getattr(value, "item", None)
    if getattr(value, "shape", None) == () and item is not None:
        value = item()
    if isinstance(value, float):
        return f"{value:.4g}"
    return _cut(showing.value(value), 20)


def _cut(text: str, width: int = _WIDEST) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
