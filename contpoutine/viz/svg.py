"""A picture as SVG, of our own making: no library is needed."""

from __future__ import annotations

import html

from contpoutine.infer.state_graph import CALL, FRONTIER, PRUNED, RETURN
from contpoutine.viz.layout import LABEL_CHARACTER, LINE, LOOP, Layout, Node, Point, Route
from contpoutine.viz.picture import Arrow, Box, Picture

MARGIN = 16.0
FILLS = {RETURN: "#e3f1e3", CALL: "#fdf1d8", PRUNED: "#f0f0f0", FRONTIER: "#ffffff"}
CHOICE_FILL, EDGE, TEXT, FAINT = "#e8eef7", "#4c72b0", "#222222", "#777777"
LABEL = 10.5  # size of the text at arrows


def svg(picture: Picture, placed: Layout) -> str:
    """The text of an SVG file."""
    width, height = placed.width + 2 * MARGIN, placed.height + 2 * MARGIN
    caption = 22.0 if picture.caption else 0.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
        f'height="{height + caption:.0f}" viewBox="{-MARGIN:.1f} {-MARGIN:.1f} {width:.1f} '
        f'{height + caption:.1f}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        f'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0 L8,4 L0,8 z" '
        f'fill="{EDGE}"/></marker></defs>',
        f'<rect x="{-MARGIN:.1f}" y="{-MARGIN:.1f}" width="{width:.1f}" '
        f'height="{height + caption:.1f}" fill="#ffffff"/>',
    ]
    arrows = [(picture.arrows[route.arrow], route) for route in placed.routes]
    parts += [_line(arrow, points(route, placed)) for arrow, route in arrows]
    for i, box in enumerate(picture.boxes):
        parts.append(_box(box, placed.nodes[i]))
    for arrow, route in arrows:
        if arrow.label:
            parts.append(_label(arrow.label, *label_place(route, placed)))
    if picture.caption:
        parts.append(
            f'<text x="0" y="{placed.height + 20:.1f}" font-size="11" fill="{FAINT}">'
            f"{html.escape(picture.caption)}</text>"
        )
    return "\n".join([*parts, "</svg>"])


def points(route: Route, placed: Layout) -> list[Point]:
    """The points of an arrow: a start, then three for each curve (two controls and an end)."""
    nodes = [placed.nodes[i] for i in route.nodes]
    if route.is_loop:
        x, y = nodes[0].x + nodes[0].width / 2, nodes[0].y
        return [(x, y - 9.0), (x + LOOP, y - 22.0), (x + LOOP, y + 22.0), (x, y + 9.0)]
    found = [route.top]
    for node in nodes[1:]:
        is_bend = node.box < 0
        a, b = found[-1], (node.x, node.y - node.height / 2) if is_bend else route.bottom
        reach = 0.35 * (b[1] - a[1])
        found += [(a[0], a[1] + reach), (b[0], b[1] - reach), b]
        if is_bend:
            below = (node.x, node.y + node.height / 2)
            found += [b, below, below]
    return found[::-1] if route.back else found


def label_place(route: Route, placed: Layout) -> Point:
    """Where the middle of an arrow's label is: near the end that it comes from."""
    shape = points(route, placed)
    if route.is_loop:
        return curve(shape, 0.5)
    return curve(shape[:4], 0.17)


def curve(controls: list[Point], t: float) -> Point:
    """A point of a cubic Bezier curve."""
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    return (
        sum([w * x for w, (x, _) in zip(weights, controls, strict=True)]),
        sum([w * y for w, (_, y) in zip(weights, controls, strict=True)]),
    )


def thickness(share: float) -> float:
    """The width of an arrow by its probability."""
    return 0.8 + 3.2 * min(1.0, share)


def _line(arrow: Arrow, found: list[Point]) -> str:
    start, *rest = [f"{x:.1f},{y:.1f}" for x, y in found]
    curves = " ".join([f"C{' '.join(rest[i : i + 3])}" for i in range(0, len(rest), 3)])
    dashes = ' stroke-dasharray="5 4"' if arrow.is_call else ""
    strength = 0.35 + 0.65 * min(1.0, 2.0 * arrow.share)
    return (
        f'<path d="M{start} {curves}" fill="none" stroke="{EDGE}" stroke-opacity="{strength:.2f}" '
        f'stroke-width="{thickness(arrow.share):.2f}"{dashes} marker-end="url(#tip)"/>'
    )


def _box(box: Box, node: Node) -> str:
    x, y = node.x - node.width / 2, node.y - node.height / 2
    dashes = ' stroke-dasharray="4 3"' if box.kind in (FRONTIER, PRUNED) else ""
    parts = [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{node.width:.1f}" height="{node.height:.1f}" '
        f'rx="6" fill="{FILLS.get(box.kind, CHOICE_FILL)}" stroke="{EDGE}"{dashes}/>'
    ]
    for k, line in enumerate(box.lines):
        weight = ' font-weight="bold"' if k == 0 else ""
        fill = FAINT if k == len(box.lines) - 1 else TEXT
        parts.append(
            f'<text x="{node.x:.1f}" y="{y + 17.0 + LINE * k:.1f}" font-size="11" fill="{fill}" '
            f'text-anchor="middle"{weight}>{html.escape(line)}</text>'
        )
    return "".join(parts)


def _label(text: str, x: float, y: float) -> str:
    half = len(text) * LABEL_CHARACTER / 2
    return (
        f'<rect x="{x - half:.1f}" y="{y - 7.0:.1f}" width="{2 * half:.1f}" height="14" '
        f'fill="#ffffff" fill-opacity="0.85"/>'
        f'<text x="{x:.1f}" y="{y + 3.5:.1f}" font-size="{LABEL}" text-anchor="middle" '
        f'fill="{TEXT}">{html.escape(text)}</text>'
    )
