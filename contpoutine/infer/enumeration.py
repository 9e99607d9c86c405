"""Exact inference by going through every execution of a model."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any, Literal

from contpoutine.core.capture import STRATEGIES, STRATEGY, Strategy
from contpoutine.core.native import native
from contpoutine.core.native import reason as native_reason
from contpoutine.errors import BudgetError, CaptureError
from contpoutine.infer.driver import Driver
from contpoutine.infer.driving import (
    check_budgets,
    driving,
    is_count,
    told_where,
    with_progress_bar,
)
from contpoutine.infer.explorer import ORDERS, Explorer, Order
from contpoutine.infer.merging import MAX_STATES, Search, check_available
from contpoutine.infer.native_explorer import NativeExplorer
from contpoutine.infer.nested import answered
from contpoutine.infer.posterior import Posterior
from contpoutine.poutine.names_met import WAITING


def enumerate(
    model: Callable[..., Any],
    *,
    order: Order | None = None,
    merge: bool | Literal["auto"] = False,
    capture: Strategy | None = None,
    max_executions: int | None = None,
    max_seconds: float | None = None,
    max_states: int = MAX_STATES,
    progress: bool = False,
) -> Callable[..., Posterior]:
    """A function that takes the model's arguments and gives its exact `Posterior`.

    The model runs once up to each choice, however many values the choice has: what follows is
    resumed from there, with each value of positive probability. Observations and factors weigh an
    execution, and an execution of weight zero is given up at once.

    Args:
        model: a generator model. Each unobserved sample site needs a finite support. A batched
            site (`Bernoulli([.3, .3])`) is enumerated over the product of its elements' supports,
            each element a choice of its own.
        order: `"depth_first"` (the default without merging), `"breadth_first"` (with it) or
            `"likely_first"` (heaviest prefix first). It matters where a budget cuts the search
            short.
        merge: True joins executions that have come to the same state, that is, the same place
            in the code with the same live locals and handlers: each state is resumed once, however
            many paths lead to it, and so is each call of a sub-model with the same arguments. The
            posterior then answers from `posterior.graph`, loops without bound included. A local
            that is read again keeps states apart: in a loop, name sites without a counter
            (`sample("x", ...)` and `marginal("x", occurrence=i)`) or count with `for`, which a
            state holds anyway. `"auto"` merges where states turn out to meet again.
        capture: how a suspended execution is resumed again: `"clone"` copies it (an error where it
            holds what cannot be copied), `"replay"` runs the model again from its start, `"auto"`
            clones and falls back on replay, and the posterior says so.
        max_executions: stop after that many finished executions. Executions that are given up at
            weight zero do not count.
        max_seconds: stop after that many seconds.
        max_states: with merging, how many states there may be.
        progress: show a progress bar with executions per second and explored prior mass.

    Raises:
        NotEnumerableError: a site has no finite support.
        NotAModelError: the model is no generator function.
        CaptureError: `capture="clone"`, and something cannot be copied; `merge=True`, and the C
            extension is not there.
        BudgetError: a budget is negative or no number; there are more than `max_states` states.

    >>> import contpoutine as cp
    >>> def model(p):
    ...     a = yield cp.sample("a", cp.distributions.Flip(p))
    ...     b = yield cp.sample("b", cp.distributions.Flip(p))
    ...     yield cp.observe("either", cp.distributions.Flip(1.0 if a or b else 0.0), True)
    ...     return a and b
    >>> posterior = cp.infer.enumerate(model)(0.5)
    >>> round(posterior.marginal()[True], 4)
    0.3333

    A hidden Markov model with 2 ** 100 executions and 201 states:

    >>> def weather(days):
    ...     rain = False
    ...     for day in range(days):
    ...         rain = yield cp.sample("rain", cp.distributions.Flip(0.7 if rain else 0.2))
    ...         yield cp.observe("wet", cp.distributions.Flip(0.9 if rain else 0.3), True)
    ...     return rain
    >>> posterior = cp.infer.enumerate(weather, merge=True)(100)
    >>> round(posterior.marginal()[True], 4), len(posterior.graph)
    (0.8262, 201)
    """
    strategy = STRATEGY.get() if capture is None else capture
    _check(model, order, strategy, merge, max_states)
    check_budgets(max_executions, max_seconds)
    if merge is True:
        check_available()

    def infer(*args: Any, **kwargs: Any) -> Posterior:
        options = order, strategy, merge, max_executions, max_seconds, max_states
        return answered(model, args, kwargs, options, lambda: answer(args, kwargs))

    def answer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Posterior:
        with driving(strategy):
            posterior = explored(args, kwargs)
            if posterior.complete:
                for met in WAITING.get() or ():
                    met.warn()
            return posterior

    def explored(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Posterior:
        deadline = math.inf if max_seconds is None else time.monotonic() + max_seconds
        if merge:
            search = Search(model, args, kwargs, strategy, order or "breadth_first", max_states)
            if merge is True or search.pays(max_executions, deadline):
                return search.run(max_executions, deadline, progress)
            search.close()
        driver = Driver(model, args, kwargs, strategy)
        return _explore(driver, order or "depth_first", max_executions, deadline, progress)

    return functools.update_wrapper(infer, model, assigned=("__doc__",), updated=())


def _check(model: Any, order: Any, strategy: Any, merge: Any, max_states: Any) -> None:
    if not callable(model):
        raise TypeError(
            f"infer.enumerate needs a model (a generator function), not {model!r}; its arguments "
            f"come afterwards: infer.enumerate(model)(*args)"
        )
    if order is not None and order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    if strategy not in STRATEGIES:
        raise ValueError(f"capture must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
    if strategy == "clone" and native is None:
        raise CaptureError(f'capture="clone" is not available here: {native_reason}')
    if not isinstance(merge, bool) and merge != "auto":
        raise ValueError(f'merge must be True, False or "auto", not {merge!r}')
    if not is_count(max_states) or max_states == 0:
        raise BudgetError(f"max_states must be a number of states, not {max_states!r}")


def _explore(
    driver: Driver, order: Order, max_executions: int | None, deadline: float, progress: bool
) -> Posterior:
    budget = -1 if max_executions is None else max_executions
    explorer: Any = make_explorer(driver, order)
    try:
        with told_where(explorer):
            if progress:
                complete = with_progress_bar(explorer, budget, deadline, _explored_mass)
            else:
                complete = explorer.run(budget, deadline)
            priors, weights = explorer.frontier()
            return Posterior(
                explorer.tree(),
                complete=complete,
                explored_mass=explorer.explored_mass,
                frontier_log_priors=priors,
                frontier_log_weights=weights,
                likelihood_bounded=driver.bounded,
                branches=explorer.branches,
                notes=driver.notes(),
                exact=not driver.drawn,
            )
    finally:
        explorer.close()
        driver.close()


def _explored_mass(explorer: Any) -> str:
    return f"explored mass {explorer.explored_mass:.4f}"


def make_explorer(driver: Driver, order: Order) -> Any:
    """The native explorer where it can be used, otherwise the one in Python."""
    if native is not None and hasattr(native, "Explorer") and driver.capture != "replay":
        if not driver.outer:
            return NativeExplorer(driver, order)
    return Explorer(driver, order)
