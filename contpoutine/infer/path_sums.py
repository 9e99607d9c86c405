"""Sums along the paths of a forest, as a few operations on vectors.

The scored sites of an enumeration's executions are a forest: each knows the one before it, and
branches share their beginning. Runs of sites without a branching are one segment, so the number of
operations is that of the choices on the longest path, and not that of the executions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class Forest:
    """The sites behind some executions, each once, and how to sum over the paths to them.

    Attributes:
        sites: every site, an earlier one always before a later one.

    Args:
        ends: the newest site of each execution, or None for one without sites. A site has an
            attribute `earlier`.
    """

    def __init__(self, ends: Sequence[Any]) -> None:
        self.sites: list[Any] = []
        self._place: dict[int, int] = {}
        self._parent: list[int] = []
        for end in ends:
            self._add(end)
        self._ends = [-1 if end is None else self._place[id(end)] for end in ends]
        self._cut()

    def _add(self, end: Any) -> None:
        path = []
        while end is not None and id(end) not in self._place:
            path.append(end)
            end = end.earlier
        parent = -1 if end is None else self._place[id(end)]
        for site in reversed(path):
            self._place[id(site)] = len(self.sites)
            self._parent.append(parent)
            parent = len(self.sites)
            self.sites.append(site)

    def _cut(self) -> None:
        """Cut the paths into segments: a new one after each branching and after each end."""
        closed = [0] * len(self.sites)  # how many ways lead on; an end closes a segment as well
        for parent in self._parent:
            if parent >= 0:
                closed[parent] += 1
        for end in self._ends:
            if end >= 0:
                closed[end] += 2
        segment: list[int] = []
        above: list[int] = []
        depth: list[int] = []
        for parent in self._parent:
            if parent >= 0 and closed[parent] == 1:
                segment.append(segment[parent])
                continue
            before = -1 if parent < 0 else segment[parent]
            segment.append(len(above))
            above.append(before)
            depth.append(0 if before < 0 else depth[before] + 1)
        self._segment, self._above = segment, above
        self._levels: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
        for i, level in enumerate(depth):
            self._levels[level].append(i)

    def sums(self, columns: torch.Tensor) -> torch.Tensor:
        """For each execution, the sum of each column over its sites.

        Args:
            columns: shape `(len(sites), n)`, a row for each site.

        Returns:
            Shape `(number of executions, n)`.
        """
        width = columns.shape[1]
        whole = columns.new_zeros(len(self._above), width)
        if self.sites:
            whole = whole.index_add(0, torch.tensor(self._segment), columns)
        place = [0] * len(self._above)  # of a segment, among those of all levels
        totals: list[torch.Tensor] = []
        done = start = 0
        for level in self._levels:
            total = whole[torch.tensor(level)]
            if totals:
                parents = [place[self._above[i]] - start for i in level]
                total = total + totals[-1][torch.tensor(parents)]
            start = done
            for i in level:
                place[i] = done
                done += 1
            totals.append(total)
        rows = torch.cat([*totals, columns.new_zeros(1, width)])
        return rows[
            torch.tensor([done if end < 0 else place[self._segment[end]] for end in self._ends])
        ]
