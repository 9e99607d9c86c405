"""What `poutine.queue` asks about sites: which to stop at, and how to go on from there.

An *escape* function takes the partial trace that is being continued and a message, and says
whether the execution stops at that site. An *extend* function takes the trace up to a site and the
site's message, and gives one longer trace for each way to go on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from contpoutine.core.machine import default_value
from contpoutine.distributions import Unit
from contpoutine.distributions.choices import ElementChoices, choices, has_finite_support
from contpoutine.poutine.trace_struct import Trace

__all__ = [
    "all_escape",
    "discrete_escape",
    "enum_extend",
    "mc_extend",
    "prune_subsample_sites",
    "site_is_factor",
    "site_is_subsample",
]


def site_is_subsample(site: Any) -> bool:
    """Does the site come from the subsampling of a plate?"""
    return site["type"] == "sample" and type(site["fn"]).__name__ == "_Subsample"


def site_is_factor(site: Any) -> bool:
    """Does the site come from `factor`?"""
    return site["type"] == "sample" and (
        isinstance(site["fn"], Unit) or type(site["fn"]).__name__ == "Unit"
    )


def prune_subsample_sites(trace: Trace) -> Trace:
    """A copy of the trace without the sites that come from subsampling."""
    trace = trace.copy()
    for name, site in list(trace.nodes.items()):
        if site_is_subsample(site):
            trace.remove_node(name)
    return trace


def discrete_escape(trace: Trace, msg: Any) -> bool:
    """Stop at unobserved sites with finite support that the trace does not have."""
    return all_escape(trace, msg) and has_finite_support(msg["fn"])


def all_escape(trace: Trace, msg: Any) -> bool:
    """Stop at every unobserved site that the trace does not have."""
    return (
        msg["type"] == "sample"
        and not msg["is_observed"]
        and msg["name"] is not None
        and msg["name"] not in trace
    )


def enum_extend(trace: Trace, msg: Any, num_samples: int | None = None) -> list[Trace]:
    """The trace with each value in the site's support, in the order of the support.

    A batched site goes through the product of its elements' supports, row-major order, the last
    element fastest: the whole of it, where Pyro gives all elements the same value.

    Args:
        num_samples: at most that many; all of them where it is None or negative.

    >>> import contpoutine as cp
    >>> from contpoutine.core.message import Message
    >>> die = Message(type="sample", name="die", fn=cp.distributions.RandInt(1, 7))
    >>> die.perform()
    >>> [t.nodes["die"]["value"] for t in enum_extend(Trace(), die, num_samples=4)]
    [1, 2, 3, 4]
    """
    limit = None if num_samples is None or num_samples < 0 else num_samples
    return _extend(trace, msg, itertools.islice(_support(msg), limit))


def mc_extend(trace: Trace, msg: Any, num_samples: int | None = None) -> list[Trace]:
    """The trace with `num_samples` values drawn at the site; one where it is None or negative."""
    count = 1 if num_samples is None or num_samples < 0 else num_samples
    return _extend(trace, msg, (default_value(msg) for _ in range(count)))


def _support(msg: Any) -> Iterator[Any]:
    offered = choices(msg["fn"], msg["name"])
    if isinstance(offered, ElementChoices):
        for picked in itertools.product(*[element.values for element in offered.elements]):
            yield offered.assemble(picked)
    else:
        yield from offered.values


def _extend(trace: Trace, msg: Any, values: Iterable[Any]) -> list[Trace]:
    extended = []
    for value in values:
        longer, site = trace.copy(), msg.copy()
        site["value"] = value
        longer.add_message(site)
        extended.append(longer)
    return extended
