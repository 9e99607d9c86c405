"""What a posterior asks of what was explored, be it an execution tree or a state graph.

Masses are relative to `total`. Values come with their masses, each distinct value once: compared by
content, numbers by type as well.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol

from contpoutine.infer.execution import Execution
from contpoutine.infer.marginal import entry_key

Groups = Iterable[tuple[Any, float]]

_PLAIN_TYPES = frozenset({int, bool, float, str, bytes, type(None)})
_NUMBER_TYPES = frozenset({int, bool, float})


class Answers(Protocol):
    """The questions. All but `log_evidence` and `sites` are asked where there is evidence."""

    @property
    def log_evidence(self) -> float: ...

    @property
    def total(self) -> float: ...

    @property
    def executions(self) -> float:
        """How many there are; infinity where loops go on without bound."""
        ...

    @property
    def sites(self) -> tuple[str, ...]: ...

    @property
    def entropy(self) -> float: ...

    def returned(self) -> Groups: ...

    def visited(self, site: str, occurrence: int | None) -> Groups: ...

    def together(self, sites: Sequence[tuple[str, int | None]]) -> Groups: ...

    def draw(self, n: int) -> list[Execution]: ...

    def heaviest(self, n: int) -> list[Execution]: ...

    def all(self) -> list[Execution]: ...


def grouped(values: Sequence[Any], weights: Sequence[float]) -> list[tuple[Any, float]]:
    """Each distinct value with its total weight, in the order of first appearance."""
    groups: defaultdict[Hashable, list[float]] = defaultdict(list)
    kinds = set(map(type, values))
    own_keys = kinds <= _PLAIN_TYPES and len(kinds & _NUMBER_TYPES) <= 1
    if own_keys and not (float in kinds and any(map(operator.ne, values, values))):
        for value, weight in zip(values, weights, strict=True):
            groups[value].append(weight)
        return [(value, mass) for value, mass in _sums(groups) if mass > 0.0]
    first: dict[Hashable, Any] = {}
    keys: dict[int, Hashable] = {}  # by identity: `values` holds every object alive meanwhile
    for value, weight in zip(values, weights, strict=True):
        key = keys.get(id(value))
        if key is None:
            key = keys[id(value)] = entry_key(value)
            first.setdefault(key, value)
        groups[key].append(weight)
    return [(first[key], mass) for key, mass in _sums(groups) if mass > 0.0]


def grouped_tuples(pairs: Groups) -> list[tuple[Any, float]]:
    """The same for tuples of values, which are equal if their values are."""
    groups: defaultdict[Hashable, list[float]] = defaultdict(list)
    first: dict[Hashable, Any] = {}
    for values, weight in pairs:
        key = tuple(map(entry_key, values))
        first.setdefault(key, values)
        groups[key].append(weight)
    return [(first[key], mass) for key, mass in _sums(groups) if mass > 0.0]


def _sums(groups: dict[Hashable, list[float]]) -> Iterable[tuple[Hashable, float]]:
    for key, weights in groups.items():
        yield key, math.fsum(weights)


def ambiguous(site: str, most: float | None) -> str:
    """What an error says about a site that occurs again and again; None: without bound."""
    times = "more than once" if most is None else f"up to {most:.0f} times"
    return (
        f"site {site!r} occurs {times} in one execution, so it has no one marginal. Ask for one "
        f"visit, `marginal({site!r}, occurrence=0)` for the first or -1 for the last; or "
        f'give the sites different names in the model, such as f"{site}{{i}}".'
    )


def too_few(site: str, most: float | None, occurrence: int) -> str:
    """What an error says about an occurrence that no execution has."""
    times = "" if most is None else f"occurs at most {most:.0f} times in one execution, so it "
    return f"site {site!r} {times}has no occurrence {occurrence}."
