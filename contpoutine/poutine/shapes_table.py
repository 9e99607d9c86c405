"""A table of the shapes of a trace's sites: distribution, value and log-probability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Shape = tuple[int, ...]


def shapes_table(nodes: Mapping[str, Any], title: str, last_site: str | None = None) -> str:
    """One line for each shape, batch dimensions left of the bar and event dimensions right of it.

    Args:
        last_site: leave out the sites that come after it.
    """
    rows: list[tuple[str, Shape, str, Shape]] = []
    shown = list(_until(nodes, last_site))
    rows.append(("Param Sites:", (), "", ()))
    for name, node in shown:
        if node["type"] == "param":
            rows.append((name, tuple(getattr(node["value"], "shape", ())), "", ()))
    rows.append(("Sample Sites:", (), "", ()))
    for name, node in shown:
        if node["type"] == "sample":
            rows += _sample_rows(name, node)
    return "\n".join([title, *_aligned(rows)]) if nodes else title


def _until(nodes: Mapping[str, Any], last_site: str | None) -> Iterable[tuple[str, Any]]:
    for name, node in nodes.items():
        yield name, node
        if name == last_site:
            return


def _sample_rows(name: str, node: Any) -> list[tuple[str, Shape, str, Shape]]:
    fn = node["fn"]
    event = tuple(getattr(fn, "event_shape", ()))
    rows = [(f"{name} dist", tuple(getattr(fn, "batch_shape", ())), "|", event)]
    shape = tuple(getattr(node["value"], "shape", ()))
    at = max(0, len(shape) - len(event))
    rows.append(("value", shape[:at], "|", shape[at:]))
    if "log_prob" in node:
        rows.append(("log_prob", tuple(node["log_prob"].shape), "|", ()))
    return rows


def _aligned(rows: list[tuple[str, Shape, str, Shape]]) -> list[str]:
    """Names and batch dimensions are right-aligned, event dimensions left-aligned."""
    batches = max(len(row[1]) for row in rows)
    events = max(len(row[3]) for row in rows)
    cells = [
        [name, *[""] * (batches - len(batch)), *map(str, batch), bar, *map(str, event)]
        + [""] * (events - len(event))
        for name, batch, bar, event in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        " ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
