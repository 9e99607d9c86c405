"""The picture of a posterior's state graph, and the same for networkx."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

from contpoutine.errors import MissingDependencyError
from contpoutine.infer.posterior import Posterior
from contpoutine.infer.state_graph import CALL, KINDS
from contpoutine.infer.sums import Sums
from contpoutine.viz import dot, raster
from contpoutine.viz.layout import Layout, layout
from contpoutine.viz.picture import Picture, picture
from contpoutine.viz.svg import svg


class StateGraphDrawing:
    """The picture of a state graph; a notebook shows it. `draw_states` makes it."""

    def __init__(self, shown: Picture) -> None:
        self.picture = shown

    @cached_property
    def _placed(self) -> Layout:
        return layout(self.picture)

    def svg(self) -> str:
        """The text of an SVG file."""
        return svg(self.picture, self._placed)

    def dot(self) -> str:
        """The text of a graphviz file."""
        return dot.source(self.picture)

    def save(self, path: str | Path, *, engine: str = "auto") -> Path:
        """Write a file: .svg, .dot, or .png, .pdf and what else the engine can draw.

        Args:
            path: where to; its suffix says the format.
            engine: `"graphviz"`, or `"contpoutine"` for our own layout, whose .svg needs no library
                and whose other formats need matplotlib. `"auto"` is graphviz where it is installed.

        Raises:
            MissingDependencyError: the format needs something that is not installed.
            ValueError: there is no such engine.
        """
        path = Path(path)
        if engine not in ("auto", "graphviz", "contpoutine"):
            raise ValueError(f'engine is "auto", "graphviz" or "contpoutine", not {engine!r}')
        if path.suffix == ".dot":
            path.write_text(self.dot(), encoding="utf-8")
        elif engine == "graphviz" or (engine == "auto" and dot.is_installed()):
            if not dot.is_installed():
                raise MissingDependencyError(
                    'engine="graphviz" needs the program `dot` of graphviz, which is not '
                    'installed; engine="contpoutine" draws without it'
                )
            dot.save(self.picture, path)
        elif path.suffix == ".svg":
            path.write_text(self.svg(), encoding="utf-8")
        else:
            raster.save(self.picture, self._placed, path)
        return path

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        boxes, arrows = len(self.picture.boxes), len(self.picture.arrows)
        return f"StateGraphDrawing({boxes} states, {arrows} edges)"


def draw_states(posterior: Posterior, *, max_states: int = 120) -> StateGraphDrawing:
    """The picture of the state graph of an enumeration with `merge=True`.

    A box is a state: the line of the model whose request comes next, what was sent last, the live
    values that the future depends on, and how probable it is, given what was observed, that an
    execution comes by. An
    arrow is one value: the value, and the same probability. In a loop they are expected numbers of
    times. A dashed arrow leads into a sub-model.

    Args:
        posterior: of `infer.enumerate(model, merge=True)`.
        max_states: how many states are shown, the most probable ones. The picture says how many
            more there are.

    Raises:
        AttributeError: states were not merged, so that there is no graph.
        ValueError: `max_states` is below one.
    """
    if max_states < 1:
        raise ValueError(f"max_states is at least 1, not {max_states!r}")
    return StateGraphDrawing(picture(posterior, max_states))


def to_networkx(posterior: Posterior) -> Any:
    """The state graph as a `networkx.MultiDiGraph`.

    Its nodes are states, with `kind`, `site`, `weight`, `outcome`, `line`, `live` and
    `probability`: how often a posterior execution is expected to come by. Its edges have `value`,
    `log_weight` and `probability`; those into a sub-model have `call=True`. The graph itself has
    `root` and `log_evidence`.

    Raises:
        MissingDependencyError: networkx is not installed.
        AttributeError: states were not merged, so that there is no graph.
    """
    try:
        import networkx
    except ImportError as error:
        raise MissingDependencyError(
            "to_networkx needs networkx, which is not installed: `pip install networkx`"
        ) from error
    graph = posterior.graph
    sums = Sums(graph)
    known = sums.log_evidence > -math.inf
    visits: Any = sums.states if known else [0.0] * len(graph)
    uses: Any = sums.edges if known else [0.0] * len(graph.target)
    found = networkx.MultiDiGraph(root=graph.root, log_evidence=sums.log_evidence)
    for state in range(len(graph)):
        where = graph.where.get(state)
        found.add_node(
            state,
            kind=KINDS[graph.kind[state]],
            site=graph.site[state],
            weight=graph.weight[state],
            outcome=graph.outcome[state],
            line=None if where is None else where.line,
            live={} if where is None else dict(where.live),
            probability=visits[state],
        )
    for state in range(len(graph)):
        if graph.kind[state] == CALL:
            found.add_edge(state, graph.callee[state], call=True)
        for edge in graph.edges(state):
            found.add_edge(
                state,
                graph.target[edge],
                value=graph.value[edge],
                log_weight=graph.log_weight[edge],
                probability=uses[edge],
            )
    return found
