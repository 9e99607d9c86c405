"""The results as a picture: time against leaves, and the cost of a leaf against its depth.

One line a system, labelled at its end. Both panels are log-log: in the left one everybody is a
straight line and the distance between lines is the factor; in the right one a flat line is a
system that goes on from where it was, a rising one starts over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, TypeAlias

from .runner import CLONE, Result, Timing

Line: TypeAlias = list[tuple[float, float]]

COLOURS = {
    CLONE: "#c1121f",
    "contpoutine replay": "#e08e45",
    "bare generator replay": "#6c757d",
    "hand-written recursion": "#2a9d8f",
    "WebPPL": "#4361ee",
    "Pyro poutine.queue": "#7209b7",
}
LABEL_GAP = 0.052  # of the height of the panel


def lines(
    results: Sequence[Result], model: str, point: Callable[[Result, Timing], Any]
) -> dict[str, Line]:
    """For each system that has a colour, its points over the cases of one model."""
    found: defaultdict[str, Line] = defaultdict(list)
    for result in results:
        if result.case.model.name == model:
            for timing in result.timings:
                system = "WebPPL" if timing.system.startswith("WebPPL") else timing.system
                if system in COLOURS:
                    found[system].append(point(result, timing))
    return dict(found)


def time_against_leaves(result: Result, timing: Timing) -> tuple[float, float]:
    return result.census.leaves, timing.median


def leaf_against_depth(result: Result, timing: Timing) -> tuple[float, float]:
    return result.case.size[0], timing.median / result.census.leaves * 1e6


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the picture, with the panels for which there are results."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [
        (
            lines(results, "flips", time_against_leaves),
            "Time to enumerate n flips",
            "leaves (2ⁿ)",
            "seconds",
        ),
        (
            lines(results, "chain", leaf_against_depth),
            "Cost of a leaf against its depth (geometric model)",
            "depth of the deepest leaf",
            "microseconds a leaf",
        ),
    ]
    drawn = [panel for panel in panels if panel[0]]
    if not drawn:
        return
    figure, axes = plt.subplots(1, len(drawn), figsize=(8 * len(drawn), 5.6), squeeze=False)
    for axis, (series, title, horizontal, vertical) in zip(axes[0], drawn, strict=True):
        panel(axis, series)
        axis.set_title(title, loc="left", fontsize=12)
        axis.set_xlabel(horizontal)
        axis.set_ylabel(vertical)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def panel(axis: Any, series: dict[str, Line]) -> None:
    """One log-log panel, with room at the right for the labels."""
    for system, points in series.items():
        xs, ys = zip(*points, strict=True)
        width = 2.6 if system == CLONE else 1.6
        axis.plot(xs, ys, marker="o", markersize=4.5, linewidth=width, color=COLOURS[system])
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.margins(y=0.08)
    axis.grid(True, which="major", color="#e4e4e4", linewidth=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    ticks = sorted({x for points in series.values() for x, _ in points})
    axis.set_xticks(ticks, [f"{x:,}" for x in ticks])
    axis.minorticks_off()
    label(axis, series, ticks[-1])


def label(axis: Any, series: dict[str, Line], last: float) -> None:
    """Names beside the ends: in a column right of the panel, moved apart; else above the end."""
    to_axes = axis.transData + axis.transAxes.inverted()
    at_edge = []
    for system, points in series.items():
        x, y = points[-1]
        if x == last:
            at_edge.append((to_axes.transform((x, y))[1], system))
        else:
            axis.annotate(system, (x, y), (7, 2), textcoords="offset points", color=COLOURS[system])
    for height, system in apart(sorted(at_edge)):
        axis.text(
            1.015,
            height,
            system,
            transform=axis.transAxes,
            va="center",
            color=COLOURS[system],
            fontweight="bold" if system == CLONE else "normal",
        )


def apart(labels: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """The labels, lowest first, at least a gap apart, each group of them centred on its ends."""
    groups: list[list[float]] = []  # heights wanted, less the gaps below them in the stack
    for i, (height, _) in enumerate(labels):
        groups.append([height - i * LABEL_GAP])
        while len(groups) > 1 and mean(groups[-2]) > mean(groups[-1]):
            last = groups.pop()
            groups[-1].extend(last)
    bases = [mean(group) for group in groups for _ in group]
    return [(base + i * LABEL_GAP, labels[i][1]) for i, base in enumerate(bases)]
