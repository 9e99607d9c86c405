"""Enumeration with merging: which loop explores the state graph, and what becomes of it.

The loop in C comes first. Where it cannot go on (the model needs the whole machine, or something
cannot be cloned), the loop in Python explores the model from its start, on the same terms; where a
called model raises or gives its caller what several callers cannot share, calls are run on their
callers' stacks. A search that a budget stopped is kept with its posterior, for `refine`.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from contpoutine.core.capture import Strategy, provider
from contpoutine.core.native import native
from contpoutine.core.native import reason as native_reason
from contpoutine.errors import BudgetError, CaptureError
from contpoutine.infer.driving import check_budgets, driving, told_where, with_progress_bar
from contpoutine.infer.explorer import Order
from contpoutine.infer.merged import MergedExplorer
from contpoutine.infer.merging_driver import MergingDriver
from contpoutine.infer.native_merged import (
    DONE,
    NOT_BARE,
    NOT_SHARED,
    TOO_MANY,
    NativeMerged,
)
from contpoutine.infer.posterior import Posterior
from contpoutine.infer.whereabouts import Whereabouts

MAX_STATES = 5_000_000
"""How many states are explored where no `max_states` says otherwise."""

_PROBE = 32  # how many states `merge="auto"` resumes before it looks
_WORTH = 0.05  # of the edges it has then followed, so many must have led to a known state
_SAMPLE = 2_000  # how many states are looked at for what keeps them apart
_SHOWN = 3


@dataclass
class Search:
    """A search for the states of a model; it can be run on after a budget has stopped it."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    strategy: Strategy
    order: Order
    max_states: int
    notes: list[str] = field(default_factory=list)
    share_calls: bool = True
    explorer: Any = None
    _ends: int = 0  # of the model, that were found before this run

    def run(self, max_executions: int | None, deadline: float, progress: bool = False) -> Posterior:
        """The posterior when nothing is left, or when a budget has run out."""
        outcome = self._go(max_executions, deadline, progress)
        while outcome in (NOT_BARE, NOT_SHARED):
            self._change(outcome)
            outcome = self._go(max_executions, deadline, progress)
        if outcome == TOO_MANY:
            error = BudgetError(self._too_many())
            self.close()
            raise error
        return self._posterior(complete=outcome == DONE)

    def pays(self, max_executions: int | None, deadline: float) -> bool:
        """Do states meet again, as far as a probe can tell?"""
        if native is None or self.strategy == "replay":
            return False
        outcome = self._go(max_executions, deadline, max_resumed=_PROBE)
        if outcome == NOT_SHARED:
            self._change(outcome)
            outcome = self._go(max_executions, deadline, max_resumed=_PROBE)
        explorer = self.explorer
        return outcome >= 0 and bool(explorer.hits >= _WORTH * max(explorer.branches, 1))

    def _begin(self) -> None:
        if self.explorer is None:
            self.explorer = self._explorer(self.max_states)

    def _explorer(
        self, max_states: int, where: Callable[[int, Any], None] | None = None, bare: bool = True
    ) -> Any:
        driver = MergingDriver(self.model, self.args, self.kwargs, self.strategy)
        if bare and in_c(driver):
            return NativeMerged(driver, self.order, max_states, self.share_calls, where)
        return MergedExplorer(driver, self.order, max_states, where)

    def _go(
        self,
        max_executions: int | None,
        deadline: float,
        progress: bool = False,
        max_resumed: int = -1,
    ) -> int:
        self._begin()
        explorer = self.explorer
        budget = -1 if max_executions is None else self._ends + max_executions
        try:
            with told_where(explorer):
                if progress:
                    return int(with_progress_bar(explorer, budget, deadline, _states))
                return int(explorer.run(budget, deadline, max_resumed))
        except BaseException:
            self.close()
            raise

    def _change(self, outcome: int) -> None:
        """Explore in another way, from the start."""
        explorer = self.explorer
        if outcome == NOT_SHARED:
            self.share_calls, self.explorer = False, None
        else:
            self.explorer = self._explorer(self.max_states, bare=False)
        explorer.close()

    def _posterior(self, complete: bool) -> Posterior:
        explorer = self.explorer
        driver = explorer.driver
        graph = explorer.graph()
        graph.where = self._whereabouts(len(graph))
        posterior = Posterior(
            graph,
            complete=complete,
            likelihood_bounded=driver.bounded,
            branches=explorer.branches,
            notes=[*driver.notes(), *_apart(explorer.unique)],
            exact=not driver.drawn,
        )
        if complete:
            self.close()
        else:
            self._ends = explorer.executions
            posterior._search = self
        return posterior

    def _too_many(self) -> str:
        fast = self._growing()
        apart = _apart(self.explorer.unique)
        why = f" What grows is {fast}." if fast else f" {apart[0]}." if apart else ""
        return (
            f"the model has more than {self.max_states:,} states that differ, and its graph may "
            f"have no end.{why} Bound what grows, as in `n = min(n + 1, 20)`; do not count in the "
            f"names of sites; explore a part, by `max_executions=` or `max_seconds=`; or give a "
            f"larger `max_states=`. (A local that is not read again keeps no states apart.)"
        )

    def _again(self, states: int, look: Callable[[int, Any], None]) -> None:
        """Explore so many states a second time, and show each while it waits."""
        again = self._explorer(states, look, bare=isinstance(self.explorer, NativeMerged))
        try:
            again.run()
        finally:
            again.close()

    def _whereabouts(self, states: int) -> Whereabouts:
        def explore(look: Callable[[int, Any], None]) -> None:
            with driving(self.strategy):
                self._again(states, look)

        return Whereabouts(explore)

    def _growing(self) -> str:
        """The locals that have the most values in the first states, in words."""
        values: defaultdict[tuple[str, str], set[Any]] = defaultdict(set)

        def look(state: int, frame: Any) -> None:
            function, _, _, live = native.where(frame)  # type: ignore[union-attr]
            for name, value in live:
                key = provider().state_key([], (), None, (value,))
                values[function, name].add(key)

        self._again(_SAMPLE, look)
        most = sorted(values.items(), key=lambda item: -len(item[1]))[:_SHOWN]
        words = [
            f"{name!r} in {function} ({len(seen):,} values in the first {_SAMPLE:,} states)"
            for (function, name), seen in most
            if len(seen) > 1
        ]
        return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)

    def close(self) -> None:
        if self.explorer is not None:
            self.explorer.close()


def _states(explorer: Any) -> str:
    return f"{explorer.states:,} states"


def in_c(driver: MergingDriver) -> bool:
    """Can the loop in C be tried?"""
    return native is not None and driver.capture != "replay" and not driver.outer


def check_available() -> None:
    """Raise `CaptureError` where states have no keys."""
    if native is None:
        raise CaptureError(
            f"merge=True compares suspended frames, which needs the C extension: {native_reason}. "
            f"Without it, `merge=False` explores every execution by itself."
        )


def _apart(unique: dict[str, int]) -> list[str]:
    """Notes: what made states that equal no other."""
    reasons = sorted(unique.items(), key=lambda item: -item[1])
    return [
        f"{count:,} {'state' if count == 1 else 'states'} could not be compared with others: {why}"
        for why, count in reasons[:_SHOWN]
    ]


def refine(
    posterior: Posterior,
    *,
    max_executions: int | None = None,
    max_seconds: float | None = None,
) -> Posterior:
    """Go on with a search that a budget stopped, and give the posterior of what is known then.

    The posterior that is given is another one; the old one still answers for what was explored
    before. Its bounds are the tighter, the more is explored.

    Args:
        posterior: a partial result of `infer.enumerate(model, merge=True, ...)`. A complete one is
            given back.
        max_executions: stop after that many further ends of the model.
        max_seconds: stop after that many seconds.

    Raises:
        TypeError: the posterior keeps no frontier: it is of an enumeration without merging, or was
            refined before (go on from the newest one).
        BudgetError: a budget is no number.

    >>> import contpoutine as cp
    >>> def waiting():
    ...     n = 0
    ...     while not (yield cp.sample("done", cp.distributions.Flip(0.5))):
    ...         n += 1
    ...     return n
    >>> first = cp.infer.enumerate(waiting, merge=True, max_executions=3)()
    >>> second = cp.infer.refine(first, max_executions=3)
    >>> [tuple(round(p, 4) for p in x.marginal().bounds(0)) for x in (first, second)]
    [(0.5, 0.625), (0.5, 0.5156)]
    """
    check_budgets(max_executions, max_seconds)
    if posterior.complete:
        return posterior
    search: Search | None = posterior._search
    if search is None:
        raise TypeError(
            "refine goes on from the frontier of a state graph, and this posterior keeps none: "
            "write infer.enumerate(model, merge=True, ...), and where a posterior was refined "
            "before, go on from the newest one"
        )
    posterior._search = None
    deadline = math.inf if max_seconds is None else time.monotonic() + max_seconds
    with driving(search.strategy):
        return search.run(max_executions, deadline)
