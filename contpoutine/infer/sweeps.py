"""Sweeps over a network without cycles: each item once, what it depends on first.

Weights are natural logarithms, and a sum is taken relative to its largest term. The way back works
with probabilities: how much of an item's weight came by way of which rule, so that the posterior
mass of a rule is that of its item times a share. Nothing there can overflow, and shares that add up
to one keep the total at one however many steps there are.

The functions in Python are the reference for those in `native/sweeps.c`, which are used where the
extension is there.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

from contpoutine.core.native import native
from contpoutine.infer.network import Network

_NONE = -math.inf


def order(network: Network) -> array[int] | None:
    """The items, each after all that its rules use; None if there is a cycle."""
    if native is not None:
        found = native.network_order(network.first, network.tail, network.second)
        return None if found is None else _ints(found)
    return _order(network)


def inside(network: Network, order: Sequence[int], coefficient: Sequence[float]) -> array[float]:
    """The log-weight of each item."""
    if native is not None:
        return _floats(
            native.network_inside(order, network.first, network.tail, network.second, coefficient)
        )
    return _inside(network, order, coefficient)


def best(network: Network, order: Sequence[int]) -> array[float]:
    """The log-weight of the heaviest derivation of each item."""
    if native is not None:
        return _floats(
            native.network_best(
                order, network.first, network.tail, network.second, network.coefficient
            )
        )
    return _best(network, order)


def flow(
    network: Network, order: Sequence[int], weights: Sequence[float]
) -> tuple[array[float], array[float]]:
    """How often a posterior execution is expected to use each item, and each rule."""
    if native is not None:
        items, rules = native.network_flow(
            order,
            network.first,
            network.tail,
            network.second,
            network.coefficient,
            weights,
            network.goal,
        )
        return _floats(items), _floats(rules)
    return _flow(network, order, weights)


def _ints(data: bytes) -> array[int]:
    column = array("i")
    column.frombytes(data)
    return column


def _floats(data: bytes) -> array[float]:
    column = array("d")
    column.frombytes(data)
    return column


# --- the same in Python -------------------------------------------------------------------------


def _order(network: Network) -> array[int] | None:
    n, first, tail, second = len(network), network.first, network.tail, network.second
    waiting = [0] * n
    users: list[list[int]] = [[] for _ in range(n)]
    for item in range(n):
        for rule in range(first[item], first[item + 1]):
            for used in (tail[rule], -1 if second is None else second[rule]):
                if used >= 0:
                    users[used].append(item)
                    waiting[item] += 1
    done = [item for item in range(n) if not waiting[item]]
    for item in done:  # which grows meanwhile
        for user in users[item]:
            waiting[user] -= 1
            if not waiting[user]:
                done.append(user)
    return array("i", done) if len(done) == n else None


def terms(
    network: Network, item: int, coefficient: Sequence[float], weights: Sequence[float]
) -> list[float]:
    """The log-weight of each rule of an item."""
    tail, second = network.tail, network.second
    found = []
    for rule in network.rules(item):
        x = coefficient[rule]
        if tail[rule] >= 0:
            x += weights[tail[rule]]
        if second is not None and second[rule] >= 0:
            x += weights[second[rule]]
        found.append(x)
    return found


def _inside(network: Network, order: Sequence[int], coefficient: Sequence[float]) -> array[float]:
    weights = array("d", [_NONE]) * len(network)
    exp, log = math.exp, math.log
    for item in order:
        found = terms(network, item, coefficient, weights)
        top = max(found, default=_NONE)
        if len(found) > 1 and top > _NONE:
            weights[item] = top + log(sum([exp(x - top) for x in found]))
        else:
            weights[item] = top
    return weights


def _best(network: Network, order: Sequence[int]) -> array[float]:
    weights = array("d", [_NONE]) * len(network)
    for item in order:
        weights[item] = max(terms(network, item, network.coefficient, weights), default=_NONE)
    return weights


def shares(network: Network, item: int, weights: Sequence[float]) -> list[float]:
    """What part of an item's weight comes from each of its rules; they add up to one."""
    found = terms(network, item, network.coefficient, weights)
    top = max(found, default=_NONE)
    if top == _NONE:
        return [0.0] * len(found)
    exp = math.exp
    parts = [exp(x - top) for x in found]
    total = sum(parts)
    return [part / total for part in parts]


def _flow(
    network: Network, order: Sequence[int], weights: Sequence[float]
) -> tuple[array[float], array[float]]:
    tail, second = network.tail, network.second
    items = array("d", [0.0]) * len(network)
    rules = array("d", [0.0]) * len(tail)
    items[network.goal] = 1.0 if weights[network.goal] > _NONE else 0.0
    for item in reversed(order):
        mass = items[item]
        if mass > 0.0:
            for rule, share in zip(
                network.rules(item), shares(network, item, weights), strict=True
            ):
                rules[rule] = part = mass * share
                if tail[rule] >= 0:
                    items[tail[rule]] += part
                if second is not None and second[rule] >= 0:
                    items[second[rule]] += part
    return items, rules


def by_edge(network: Network, rules: Sequence[float], edges: int) -> array[float]:
    """The mass of each edge of the graph."""
    masses = array("d", [0.0]) * edges
    for edge, mass in zip(network.edge, rules, strict=True):
        if edge >= 0:
            masses[edge] += mass
    return masses


def by_state(network: Network, items: Sequence[float], states: int) -> Any:
    """The mass of each state of the graph."""
    if network.homes is None:
        return items
    masses = array("d", [0.0]) * states
    for state, mass in zip(network.states, items, strict=True):
        if state >= 0:
            masses[state] += mass
    return masses
