"""The edges of a dense trace: which sites a site may depend on, as its plates say.

A site may depend on every site before it, unless the two are in different elements of one
sequential plate. It is the most that the plates allow, and not what the code does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def may_depend(site: Any, earlier: Any) -> bool:
    """May `site` depend on `earlier`, which was performed before it?"""
    elements = {frame.name: frame.counter for frame in site["cond_indep_stack"]}
    return all(
        elements.get(frame.name, frame.counter) == frame.counter
        for frame in earlier["cond_indep_stack"]
    )


def dense_edges(nodes: Mapping[str, Any]) -> dict[str, list[str]]:
    """The sample sites that each sample site may depend on, in the order of the trace."""
    edges: dict[str, list[str]] = {}
    sampled = [(name, node) for name, node in nodes.items() if _is_random(node)]
    for at, (name, node) in enumerate(sampled):
        edges[name] = [other for other, before in sampled[:at] if may_depend(node, before)]
    return edges


def topological(names: list[str], successors: Mapping[str, Any]) -> list[str]:
    """The names, each before those that depend on it."""
    order: list[str] = []
    seen: set[str] = set()
    for start in names:
        waiting = [(start, False)]
        while waiting:
            name, done = waiting.pop()
            if done:
                order.append(name)
            elif name not in seen:
                seen.add(name)
                waiting.append((name, True))
                waiting += [(after, False) for after in successors.get(name, ())]
    order.reverse()
    return order


def _is_random(node: Any) -> bool:
    return node["type"] == "sample" and type(node["fn"]).__name__ != "_Subsample"
