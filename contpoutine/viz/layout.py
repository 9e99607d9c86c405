"""Where boxes and arrows go: in layers from top to bottom, by the method of Sugiyama.

An arrow leads down by one layer. One that leads further passes through bends in the layers between,
which keep their room like boxes; one that leads back, in a loop, is laid out as if it led down. In
a layer, what is joined is brought near to each other by a few sweeps down and up. Arrows leave and
enter a box side by side, far enough apart for what is written at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from contpoutine.viz.picture import Picture

CHARACTER, LABEL_CHARACTER, LINE = 6.7, 6.4, 15.0  # of text in a box and at an arrow, in points
LOOP = 40.0  # how far an arrow from a box to itself reaches out
_PADDING = 9.0
_GAP, _LAYER_GAP = 26.0, 92.0
_PORT = 14.0  # the room of an arrow without a label
_SWEEPS = 12

Point = tuple[float, float]


@dataclass
class Node:
    """A box, or a bend of a long arrow (`box` is -1). Coordinates are of its middle."""

    box: int
    layer: int
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    right: float = 0.0  # room for what reaches out on that side
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)


@dataclass
class Route:
    """The way of an arrow.

    Attributes:
        arrow: its number in the picture.
        nodes: the nodes that it passes, the upper end first.
        back: whether it leads upwards, from the last of the nodes to the first.
        top: where it meets the lower side of the first node.
        bottom: where it meets the upper side of the last one.
    """

    arrow: int
    nodes: list[int]
    back: bool
    top: Point = (0.0, 0.0)
    bottom: Point = (0.0, 0.0)

    @property
    def is_loop(self) -> bool:
        """Does it lead from a box to itself?"""
        return self.nodes[0] == self.nodes[-1]


@dataclass
class Layout:
    """Everything in its place, in a frame of `width` by `height` points."""

    nodes: list[Node]
    routes: list[Route]
    layers: list[list[int]]
    width: float = 0.0
    height: float = 0.0


def layout(picture: Picture) -> Layout:
    """Place a picture."""
    ranks, back = _ranks(len(picture.boxes), [(a.source, a.target) for a in picture.arrows])
    nodes = [
        Node(
            i,
            ranks[i],
            max(map(len, box.lines)) * CHARACTER + 2 * _PADDING,
            len(box.lines) * LINE + 2 * _PADDING - 4.0,
        )
        for i, box in enumerate(picture.boxes)
    ]
    routes = []
    for number, arrow in enumerate(picture.arrows):
        ends = [arrow.source, arrow.target]
        route = Route(number, ends[::-1] if number in back else ends, number in back)
        routes.append(route)
        if route.is_loop:
            nodes[arrow.source].right = LOOP + len(arrow.label) * LABEL_CHARACTER / 2
            continue
        for layer in range(ranks[route.nodes[0]] + 1, ranks[route.nodes[-1]]):
            nodes.append(Node(-1, layer, 60.0, 10.0))
            route.nodes.insert(-1, len(nodes) - 1)
        for upper, lower in zip(route.nodes, route.nodes[1:], strict=False):
            nodes[upper].below.append(lower)
            nodes[lower].above.append(upper)
    layers: list[list[int]] = [[] for _ in range(max(ranks) + 1)]
    for i, node in enumerate(nodes):
        layers[node.layer].append(i)
    placed = Layout(nodes, routes, layers)
    for lower_side in (True, False):
        for i, ports in _ports(placed, lower_side).items():
            room = sum([_room(picture, route, lower_side) for route in ports])
            nodes[i].width = max(nodes[i].width, room)
    _order(placed)
    _place(placed)
    for lower_side in (True, False):
        for i, ports in _ports(placed, lower_side).items():
            _join(picture, nodes[i], ports, lower_side)
    return placed


def _room(picture: Picture, route: Route, lower_side: bool) -> float:
    """How wide the end of an arrow is. Its label is at the end that it comes from."""
    label = picture.arrows[route.arrow].label
    if lower_side == route.back or not label:
        return _PORT
    return len(label) * LABEL_CHARACTER + 8.0


def _ports(placed: Layout, lower_side: bool) -> dict[int, list[Route]]:
    """For each box, the arrows at its lower or upper side, from left to right."""
    found: dict[int, list[Route]] = {}
    for route in placed.routes:
        if not route.is_loop:
            found.setdefault(route.nodes[0 if lower_side else -1], []).append(route)
    for ports in found.values():
        ports.sort(key=lambda route: placed.nodes[route.nodes[1 if lower_side else -2]].x)
    return found


def _join(picture: Picture, node: Node, ports: list[Route], lower_side: bool) -> None:
    """Give the arrows their places at a side of a box."""
    rooms = [_room(picture, route, lower_side) for route in ports]
    spare = max(0.0, 0.8 * node.width - sum(rooms)) / len(ports)
    x = node.x - (sum(rooms) + spare * len(ports)) / 2
    y = node.y + (node.height if lower_side else -node.height) / 2
    for route, room in zip(ports, rooms, strict=True):
        point = x + (room + spare) / 2, y
        if lower_side:
            route.top = point
        else:
            route.bottom = point
        x += room + spare


def _ranks(n: int, arrows: Sequence[tuple[int, int]]) -> tuple[list[int], set[int]]:
    """The layer of each box, and the arrows that lead back: those to what is still being walked."""
    following: list[list[int]] = [[] for _ in range(n)]
    for number, (source, _) in enumerate(arrows):
        following[source].append(number)
    state, back, finished = [0] * n, set(), []
    for start in range(n):
        todo = [(start, iter(following[start]))] if not state[start] else []
        if todo:
            state[start] = 1
        while todo:
            box, rest = todo[-1]
            number = next(rest, -1)
            if number < 0:
                state[box] = 2
                finished.append(box)
                todo.pop()
                continue
            target = arrows[number][1]
            if state[target] == 1:
                back.add(number)
            elif not state[target]:
                state[target] = 1
                todo.append((target, iter(following[target])))
    ranks = [0] * n
    for box in reversed(finished):
        for number in following[box]:
            if number not in back:
                target = arrows[number][1]
                ranks[target] = max(ranks[target], ranks[box] + 1)
    return ranks, back


def _order(placed: Layout) -> None:
    """Bring each node near the middle of those that it is joined to, layer by layer."""
    nodes = placed.nodes
    for sweep in range(_SWEEPS):
        place = {i: k for layer in placed.layers for k, i in enumerate(layer)}
        down = sweep % 2 == 0
        for layer in placed.layers if down else reversed(placed.layers):

            def middle(i: int, down: bool = down, place: dict[int, int] = place) -> float:
                joined = nodes[i].above if down else nodes[i].below
                return sum([place[j] for j in joined]) / len(joined) if joined else place[i]

            layer.sort(key=middle)
            place.update({i: k for k, i in enumerate(layer)})


def _place(placed: Layout) -> None:
    nodes, layers = placed.nodes, placed.layers
    for layer in layers:
        x = 0.0
        for i in layer:
            nodes[i].x = x + nodes[i].width / 2
            x += nodes[i].width + nodes[i].right + _GAP
    widest = max([nodes[layer[-1]].x + nodes[layer[-1]].width / 2 for layer in layers])
    for layer in layers:
        shift = (widest - nodes[layer[-1]].x - nodes[layer[-1]].width / 2) / 2
        for i in layer:
            nodes[i].x += shift
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            wanted = []
            for i in layer:
                joined = nodes[i].above if down else nodes[i].below
                found = sum([nodes[j].x for j in joined]) / len(joined) if joined else nodes[i].x
                wanted.append(found)
            _settle([nodes[i] for i in layer], wanted)
    left = min([node.x - node.width / 2 for node in nodes])
    y = 0.0
    for layer in layers:
        height = max([nodes[i].height for i in layer])
        for i in layer:
            nodes[i].x -= left
            nodes[i].y = y + height / 2
        y += height + _LAYER_GAP
    placed.height = y - _LAYER_GAP
    placed.width = max([node.x + node.width / 2 + node.right for node in nodes])


def _settle(row: list[Node], wanted: list[float]) -> None:
    """Put a row as near as it can be to where it wants to be, in order and without overlap.

    Neighbours that would overlap become a block, which goes to the mean of what its members want.
    """
    blocks: list[tuple[float, float, int]] = []  # left edge wanted in all, width, members
    for node, x in zip(row, wanted, strict=True):
        blocks.append((x - node.width / 2, node.width + node.right + _GAP, 1))
        while len(blocks) > 1:
            (a, wide, m), (b, more, n) = blocks[-2:]
            if a + wide <= b:
                break
            blocks[-2:] = [((a * m + (b - wide) * n) / (m + n), wide + more, m + n)]
    at = iter(row)
    for left, _, members in blocks:
        for _ in range(members):
            node = next(at)
            node.x = left + node.width / 2
            left += node.width + node.right + _GAP
