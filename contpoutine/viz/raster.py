"""A picture as a file of pixels or PDF, drawn by matplotlib in the places of our own layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contpoutine.errors import MissingDependencyError
from contpoutine.infer.state_graph import FRONTIER, PRUNED
from contpoutine.viz.layout import LINE, Layout
from contpoutine.viz.picture import Picture
from contpoutine.viz.svg import (
    CHOICE_FILL,
    EDGE,
    FAINT,
    FILLS,
    LABEL,
    MARGIN,
    TEXT,
    label_place,
    points,
    thickness,
)

_MONOSPACE = ["DejaVu Sans Mono", "monospace"]


def save(picture: Picture, placed: Layout, path: Path) -> None:
    """Write the picture in the format that the path's suffix says.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"drawing {path.suffix or 'this format'} needs matplotlib, or graphviz, and neither "
            f"is installed: `pip install matplotlib`. An .svg file needs neither."
        ) from error
    width = placed.width + 2 * MARGIN
    height = placed.height + 2 * MARGIN + (22.0 if picture.caption else 0.0)
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-MARGIN, width - MARGIN)
    axes.set_ylim(height - MARGIN, -MARGIN)
    axes.axis("off")
    _draw_arrows(axes, picture, placed)
    _draw_boxes(axes, picture, placed)
    _draw_labels(axes, picture, placed)
    # twice the size, as far as a file can have so many pixels
    figure.savefig(path, dpi=min(144.0, 72 * 30_000 / max(width, height)))


def _draw_arrows(axes: Any, picture: Picture, placed: Layout) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Outline

    for route in placed.routes:
        arrow = picture.arrows[route.arrow]
        shape = points(route, placed)
        codes = [Outline.MOVETO] + [Outline.CURVE4] * (len(shape) - 1)
        axes.add_patch(
            FancyArrowPatch(
                path=Outline(shape, codes),
                arrowstyle="-|>,head_length=4,head_width=2",
                color=EDGE,
                alpha=0.35 + 0.65 * min(1.0, 2.0 * arrow.share),
                linewidth=thickness(arrow.share),
                linestyle="--" if arrow.is_call else "-",
                zorder=1,
            )
        )


def _draw_boxes(axes: Any, picture: Picture, placed: Layout) -> None:
    from matplotlib.patches import FancyBboxPatch

    for box, node in zip(picture.boxes, placed.nodes, strict=False):
        x, y = node.x - node.width / 2, node.y - node.height / 2
        axes.add_patch(
            FancyBboxPatch(
                (x, y),
                node.width,
                node.height,
                boxstyle="round,pad=0,rounding_size=6",
                facecolor=FILLS.get(box.kind, CHOICE_FILL),
                edgecolor=EDGE,
                linestyle="--" if box.kind in (FRONTIER, PRUNED) else "-",
                zorder=2,
            )
        )
        for k, line in enumerate(box.lines):
            axes.text(
                node.x,
                y + 13.0 + LINE * k,
                line.replace("$", r"\$"),
                fontsize=11,
                family=_MONOSPACE,
                weight="bold" if k == 0 else "normal",
                color=FAINT if k == len(box.lines) - 1 else TEXT,
                ha="center",
                va="center",
                zorder=3,
            )


def _draw_labels(axes: Any, picture: Picture, placed: Layout) -> None:
    for route in placed.routes:
        arrow = picture.arrows[route.arrow]
        if arrow.label:
            axes.text(
                *label_place(route, placed),
                arrow.label.replace("$", r"\$"),
                fontsize=LABEL,
                family=_MONOSPACE,
                color=TEXT,
                ha="center",
                va="center",
                zorder=4,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
            )
    if picture.caption:
        axes.text(0.0, placed.height + 16.0, picture.caption, fontsize=11, color=FAINT)
