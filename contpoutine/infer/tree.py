"""The execution tree that an enumeration leaves behind, stored in columns.

A *node* is one choice-value edge: the value that one visit of a choice site was given. Nodes are
numbered in the order in which they were made, so a parent's number is always smaller than its
children's; node 0 is the root, before the first choice. A *visit* is one arrival at a choice site
and knows its name and the values it could be given. A *leaf* is a finished execution.

Columns instead of objects: a million executions fit in a few dozen megabytes, and a question about
one site is one sweep over a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tree:
    """The columns. `parents`, `visits` and `picks` run over nodes, `leaf_*` over leaves.

    Attributes:
        parents: the parent of each node (-1 for the root).
        visits: which visit each node answers (-1 for the root).
        picks: which of the visit's values the node stands for (-1 for the root).
        site_names: the site's name, for each visit.
        site_values: the values that the site could be given, for each visit. A deterministic site
            is a visit with one value.
        leaf_nodes: the last node of each finished execution.
        leaf_log_weights: its joint log-weight (prior times likelihood), natural logarithm.
        leaf_values: what the model returned.
    """

    parents: Sequence[int]
    visits: Sequence[int]
    picks: Sequence[int]
    site_names: Sequence[str]
    site_values: Sequence[Sequence[Any]]
    leaf_nodes: Sequence[int]
    leaf_log_weights: Sequence[float]
    leaf_values: Sequence[Any]

    def path(self, node: int) -> list[tuple[str, Any]]:
        """The choices that lead to `node`, first choice first, as (site name, value) pairs."""
        steps = []
        while node > 0:
            visit = self.visits[node]
            steps.append((self.site_names[visit], self.site_values[visit][self.picks[node]]))
            node = self.parents[node]
        steps.reverse()
        return steps
