"""Networks with cycles: programs that loop, or call themselves, without bound.

The items fall into strongly connected components, and each component is a system of equations for
the weights of its items: linear where a program loops, polynomial where a sub-model calls itself.
A linear system is solved; a polynomial one by Newton's method from zero, which climbs to the least
solution and never passes it (Etessami and Yannakakis, 2009, "Recursive Markov chains"). What can
never come to an end has no part in the sums and is left out first: its equations have no solution.

Before that, the unknowns are divided by about the weight of their heaviest derivation, so that
coefficients and solutions are numbers of ordinary size, however small the weights are.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from contpoutine.errors import UnboundedWeightError
from contpoutine.infer.linear import Row, factor, residual, solved
from contpoutine.infer.network import Network
from contpoutine.infer.sweeps import shares, terms

_NONE = -math.inf
_MOST_STEPS = 200
_UNKNOWN = 0.1  # the relative error from which on a sum cannot be told from one without bound


@dataclass
class Limit:
    """How well the sums over cycles are known.

    Attributes:
        tolerance: the relative error that was asked for.
        error: an estimate of the relative error of the worst sum.
        residual: by how much, relative to its value, an equation is not met at most.
        steps: how many Newton steps the component that needed most of them took; 0 where every
            system is linear.
        items: how many items are in cycles.
    """

    tolerance: float = 1e-12
    error: float = 0.0
    residual: float = 0.0
    steps: int = 0
    items: int = 0


@dataclass
class Cyclic:
    """The components of a network that has cycles.

    Attributes:
        network: the network.
        ends: items that a sum is asked for; what leads to none of them is left out.
        sites: gives the names of the sites at some items, for errors.
        used: for each rule, the items that it uses.
        live: for each item, whether it is part of a derivation of one of the ends.
        components: the live items, each component after those that its rules use.
    """

    network: Network
    ends: Sequence[int]
    sites: Callable[[list[int]], list[str]] = lambda items: []
    used: list[tuple[int, ...]] = field(init=False)
    live: bytearray = field(init=False)
    components: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        net = self.network
        if net.second is None:
            self.used = [(tail,) if tail >= 0 else () for tail in net.tail]
        else:
            both = zip(net.tail, net.second, strict=True)
            self.used = [tuple([item for item in pair if item >= 0]) for pair in both]
        self.live = _live(net, self.ends)
        self.components = _components(self.network, self.live)

    def is_alone(self, component: list[int]) -> bool:
        """Is it one item that does not use itself?"""
        item = component[0]
        return len(component) == 1 and not any(
            item in self.used[rule] for rule in self.network.rules(item)
        )

    def rules(self, item: int) -> list[int]:
        """The rules of an item that use live items only."""
        live = self.live
        return [r for r in self.network.rules(item) if all(live[i] for i in self.used[r])]

    # --- sums -----------------------------------------------------------------------------------

    def inside(self, coefficient: Sequence[float], limit: Limit) -> array[float]:
        """The log-weight of each live item."""
        weights = array("d", [_NONE]) * len(self.network)
        for component in self.components:
            if self.is_alone(component):
                found = terms(self.network, component[0], coefficient, weights)
                weights[component[0]] = log_sum(found)
            else:
                try:
                    _System(self, component, coefficient, weights).solve(limit)
                except UnboundedWeightError as error:
                    raise self._unbounded(component) from error
        return weights

    def _unbounded(self, component: list[int]) -> UnboundedWeightError:
        names = [repr(name) for name in self.sites(component)]
        where = f" through {', '.join(names[:5])}" if names else ""
        return UnboundedWeightError(
            f"the weights of the loop{where} add up without bound, so that there is no evidence to "
            f"divide by: going round once more makes an execution no lighter. Look for a factor, "
            f"or an observation of a density above 1, inside of the loop."
        )

    def best(self, coefficient: Sequence[float]) -> array[float]:
        """The log-weight of the heaviest derivation of each live item."""
        weights = array("d", [_NONE]) * len(self.network)
        for component in self.components:
            if self.is_alone(component):
                found = terms(self.network, component[0], coefficient, weights)
                weights[component[0]] = max(found, default=_NONE)
            else:
                heaviest(self, component, coefficient, weights)
        return weights

    def flow(self, weights: Sequence[float]) -> tuple[array[float], array[float]]:
        """How often a posterior execution is expected to use each item, and each rule."""
        net = self.network
        items = array("d", [0.0]) * len(net)
        rules = array("d", [0.0]) * len(net.tail)
        items[net.goal] = 1.0 if weights[net.goal] > _NONE else 0.0
        for component in reversed(self.components):
            parts = {item: shares(net, item, weights) for item in component}
            if not self.is_alone(component):
                self._go_round(component, parts, items)
            members = set(component)
            for item in component:
                for rule, share in zip(net.rules(item), parts[item], strict=True):
                    rules[rule] = mass = items[item] * share
                    if mass > 0.0:
                        for used in self.used[rule]:
                            if used not in members:
                                items[used] += mass
        return items, rules

    def _go_round(
        self, component: list[int], parts: dict[int, list[float]], items: array[float]
    ) -> None:
        """What flows into a component, and then how often it goes round."""
        place = {item: i for i, item in enumerate(component)}
        rows: list[Row] = [{} for _ in component]
        for item in component:
            for rule, share in zip(self.network.rules(item), parts[item], strict=True):
                for used in self.used[rule] if share > 0.0 else ():
                    if used in place:
                        row = rows[place[used]]
                        row[place[item]] = row.get(place[item], 0.0) + share
        rest = [1.0 - row.get(i, 0.0) for i, row in enumerate(rows)]
        for item, x in zip(
            component, factor(rows, rest)([items[i] for i in component]), strict=True
        ):
            items[item] = x


def log_sum(found: Sequence[float]) -> float:
    """The logarithm of a sum of exponentials."""
    top = max(found, default=_NONE)
    if top == _NONE or len(found) == 1:
        return top
    return top + math.log(math.fsum([math.exp(x - top) for x in found]))


# --- one component --------------------------------------------------------------------------


class _System:
    """The equations of one component, scaled by its heaviest derivations."""

    def __init__(
        self,
        cyclic: Cyclic,
        component: list[int],
        coefficient: Sequence[float],
        weights: array[float],
    ) -> None:
        self.component, self.weights = component, weights
        heaviest(cyclic, component, coefficient, weights)
        place = {item: i for i, item in enumerate(component)}
        n = len(component)
        # Whole numbers: what is subtracted from the exponents must not round them.
        self.scale = [float(round(weights[item])) for item in component]
        self.constant = [0.0] * n
        self.linear: list[Row] = [{} for _ in range(n)]
        self.rest = [1.0] * n  # 1 minus the diagonal
        self.quadratic: list[tuple[int, int, int, float]] = []
        for item, i in place.items():
            loops = []
            for rule in cyclic.rules(item):
                used = cyclic.used[rule]
                inner = [place[other] for other in used if other in place]
                lift = sum([self.scale[j] for j in inner]) - self.scale[i]
                x = coefficient[rule] + math.fsum(
                    [lift, *[weights[other] for other in used if other not in place]]
                )
                if not inner:
                    self.constant[i] += math.exp(x)
                elif len(inner) == 2:
                    self.quadratic.append((i, inner[0], inner[1], math.exp(x)))
                else:
                    j = inner[0]
                    self.linear[i][j] = self.linear[i].get(j, 0.0) + math.exp(x)
                    if i == j:
                        loops.append(x)
            if loops:
                self.rest[i] = -math.expm1(log_sum(loops))

    def solve(self, limit: Limit) -> None:
        """Write the weights of the component's items."""
        if self.quadratic:
            x = self._newton(limit)
        else:
            x, error = solved(self.linear, self.rest, self.constant)
            limit.error = max(limit.error, error)
            self._note_residual(limit, residual(self.linear, self.rest, self.constant, x), x)
        if limit.error > _UNKNOWN:
            raise UnboundedWeightError("the weights of a loop add up without bound, or nearly so")
        limit.items += len(x)
        for item, scale, weight in zip(self.component, self.scale, x, strict=True):
            self.weights[item] = scale + math.log(weight) if weight > 0.0 else _NONE

    def _note_residual(self, limit: Limit, left: Sequence[float], x: Sequence[float]) -> None:
        worst = max([r / y for r, y in zip(left, x, strict=True) if y > 0.0], default=0.0)
        limit.residual = max(limit.residual, worst)

    def _left(self, x: list[float]) -> list[float]:
        """f(x) - x, the right side minus the left one."""
        sums = [[c, -self.rest[i] * x[i]] for i, c in enumerate(self.constant)]
        for i, row in enumerate(self.linear):
            sums[i] += [a * x[j] for j, a in row.items() if i != j]
        for i, j, k, a in self.quadratic:
            sums[i].append(a * x[j] * x[k])
        return list(map(math.fsum, sums))

    def _newton(self, limit: Limit) -> list[float]:
        x = [0.0] * len(self.component)
        change = math.inf
        steps = 0
        while change > limit.tolerance / 8 and steps < _MOST_STEPS:
            steps += 1
            left = self._left(x)
            try:
                moved = factor(*self._slope(x))([max(0.0, r) for r in left])
            except UnboundedWeightError:
                if change > 1e-6:
                    raise
                break  # at the edge of what converges rounding decides, and x is next to the limit
            x = [a + b for a, b in zip(x, moved, strict=True)]
            if not all(map(math.isfinite, x)):
                raise UnboundedWeightError("the weights of a recursion add up without bound")
            change = max([b / a for a, b in zip(x, moved, strict=True) if a > 0.0], default=0.0)
        limit.steps = max(limit.steps, steps)
        limit.error = max(limit.error, change)
        self._note_residual(limit, list(map(abs, self._left(x))), x)
        return x

    def _slope(self, x: list[float]) -> tuple[list[Row], list[float]]:
        """The derivative of the right side at x, and 1 minus its diagonal."""
        rows, rest = [dict(row) for row in self.linear], list(self.rest)
        for i, j, k, a in self.quadratic:
            for unknown, other in ((j, k), (k, j)):
                part = a * x[other]
                rows[i][unknown] = rows[i].get(unknown, 0.0) + part
                if i == unknown:
                    rest[i] -= part
        return rows, rest


def heaviest(
    cyclic: Cyclic, component: list[int], coefficient: Sequence[float], weights: array[float]
) -> None:
    """Write the weight of the heaviest derivation of each of a component's items.

    Items settle in the order of their weight, as in Dijkstra's algorithm (Knuth, 1977, "A
    generalization of Dijkstra's algorithm"), as long as nothing gains weight by a rule; what does
    is looked at again, and so much gain that it never ends is an error.
    """
    members = set(component)
    users: dict[int, list[tuple[int, int]]] = {item: [] for item in component}
    heap: list[tuple[float, int]] = []
    for item in component:
        weights[item] = _NONE
        for rule in cyclic.rules(item):
            for used in cyclic.used[rule]:
                if used in members:
                    users[used].append((item, rule))

    def offer(item: int, rule: int) -> None:
        x = coefficient[rule] + sum([weights[used] for used in cyclic.used[rule]])
        if x > weights[item] + 1e-13 * abs(x) if weights[item] > _NONE else x > _NONE:
            weights[item] = x
            heapq.heappush(heap, (-x, item))

    for item in component:
        for rule in cyclic.rules(item):
            if not any(used in members for used in cyclic.used[rule]):
                offer(item, rule)
    turns = dict.fromkeys(component, 0)
    while heap:
        x, item = heapq.heappop(heap)
        if -x < weights[item]:
            continue
        turns[item] += 1
        if turns[item] > len(component) + 1:
            raise UnboundedWeightError("the weights of a loop add up without bound")
        for user, rule in users[item]:
            offer(user, rule)


# --- the structure --------------------------------------------------------------------------


def _live(network: Network, ends: Iterable[int]) -> bytearray:
    """The items that have a derivation, and are part of a derivation of one of `ends`."""
    n, tail, second = len(network), network.tail, network.second
    users: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    waiting = [0] * len(tail)
    done = []
    derived = bytearray(n)
    for item in range(n):
        for rule in network.rules(item):
            for used in (tail[rule], -1 if second is None else second[rule]):
                if used >= 0:
                    users[used].append((item, rule))
                    waiting[rule] += 1
            if network.coefficient[rule] == _NONE:
                waiting[rule] = -1
            if waiting[rule] == 0 and not derived[item]:
                derived[item] = 1
                done.append(item)
    while done:
        for item, rule in users[done.pop()]:
            waiting[rule] -= 1
            if waiting[rule] == 0 and not derived[item]:
                derived[item] = 1
                done.append(item)
    live = bytearray(n)
    todo = [item for item in ends if derived[item]]
    for item in todo:
        live[item] = 1
    while todo:
        for rule in network.rules(todo.pop()):
            if waiting[rule] == 0:
                for used in (tail[rule], -1 if second is None else second[rule]):
                    if used >= 0 and not live[used]:
                        live[used] = 1
                        todo.append(used)
    return live


def _components(network: Network, live: bytearray) -> list[list[int]]:
    """The strongly connected components of the live items (Tarjan, 1972), without recursion."""
    tail, second = network.tail, network.second
    number = [0] * len(network)  # 0: not seen yet
    low = [0] * len(network)
    waiting: list[int] = []
    is_waiting = bytearray(len(network))
    components = []
    seen = 0
    for start in range(len(network)):
        if number[start] or not live[start]:
            continue
        todo = [(start, _used(network, start, tail, second, live))]
        seen += 1
        number[start] = low[start] = seen
        waiting.append(start)
        is_waiting[start] = 1
        while todo:
            item, rest = todo[-1]
            if rest:
                used = rest.pop()
                if not number[used]:
                    seen += 1
                    number[used] = low[used] = seen
                    waiting.append(used)
                    is_waiting[used] = 1
                    todo.append((used, _used(network, used, tail, second, live)))
                elif is_waiting[used]:
                    low[item] = min(low[item], number[used])
                continue
            todo.pop()
            if todo:
                above = todo[-1][0]
                low[above] = min(low[above], low[item])
            if low[item] == number[item]:
                component: list[int] = []
                while not component or component[-1] != item:
                    component.append(waiting.pop())
                    is_waiting[component[-1]] = 0
                components.append(component)
    return components


def _used(
    network: Network,
    item: int,
    tail: Sequence[int],
    second: Sequence[int] | None,
    live: bytearray,
) -> list[int]:
    found = [tail[rule] for rule in network.rules(item)]
    if second is not None:
        found += [second[rule] for rule in network.rules(item)]
    return [used for used in found if used >= 0 and live[used]]
