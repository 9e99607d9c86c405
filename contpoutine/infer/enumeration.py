"""Exact inference by going through every execution of a model."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from contpoutine.core.ambient import DRIVEN, SEEDED
from contpoutine.core.capture import STRATEGIES, STRATEGY, Strategy
from contpoutine.core.machine import leave_seeded
from contpoutine.core.native import native
from contpoutine.core.native import reason as native_reason
from contpoutine.errors import BudgetError, CaptureError
from contpoutine.infer.driver import Driver
from contpoutine.infer.explorer import ORDERS, Explorer, Order
from contpoutine.infer.native_explorer import NativeExplorer
from contpoutine.infer.posterior import Posterior
from contpoutine.poutine.at_once import LISTENER
from contpoutine.poutine.names_met import WAITING

_SHOWN_CHOICES = 12
_PROGRESS_STEP = 0.1  # seconds between two updates of the progress bar


def enumerate(
    model: Callable[..., Any],
    *,
    order: Order = "depth_first",
    capture: Strategy | None = None,
    max_executions: int | None = None,
    max_seconds: float | None = None,
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
        order: `"depth_first"`, `"breadth_first"` or `"likely_first"` (heaviest prefix first). It
            matters where a budget cuts the search short.
        capture: how a suspended execution is resumed again: `"clone"` copies it (an error where it
            holds what cannot be copied), `"replay"` runs the model again from its start, `"auto"`
            clones and falls back on replay, and the posterior says so.
        max_executions: stop after that many finished executions. Executions that are given up at
            weight zero do not count.
        max_seconds: stop after that many seconds.
        progress: show a progress bar with executions per second and explored prior mass.

    Raises:
        NotEnumerableError: a site has no finite support.
        NotAModelError: the model is no generator function.
        CaptureError: `capture="clone"`, and something cannot be copied.
        BudgetError: a budget is negative or no number.

    >>> import contpoutine as cp
    >>> def model(p):
    ...     a = yield cp.sample("a", cp.distributions.Flip(p))
    ...     b = yield cp.sample("b", cp.distributions.Flip(p))
    ...     yield cp.observe("either", cp.distributions.Flip(1.0 if a or b else 0.0), True)
    ...     return a and b
    >>> posterior = cp.infer.enumerate(model)(0.5)
    >>> round(posterior.marginal()[True], 4)
    0.3333
    """
    strategy = STRATEGY.get() if capture is None else capture
    _check(model, order, strategy, max_executions, max_seconds)

    def infer(*args: Any, **kwargs: Any) -> Posterior:
        tokens = STRATEGY.set(strategy), DRIVEN.set(True), LISTENER.set(None), WAITING.set({})
        gradients, seeded = _gradients_enabled(), SEEDED.get()
        try:
            driver = Driver(model, args, kwargs, strategy)
            posterior = _explore(driver, order, max_executions, max_seconds, progress)
            if posterior.complete:
                for met in WAITING.get() or ():
                    met.warn()
            return posterior
        finally:
            STRATEGY.reset(tokens[0])
            DRIVEN.reset(tokens[1])
            LISTENER.reset(tokens[2])
            WAITING.reset(tokens[3])
            leave_seeded(seeded)
            if gradients is not None and _gradients_enabled() != gradients:
                # a branch was given up inside `with torch.no_grad():`
                sys.modules["torch"].set_grad_enabled(gradients)

    return functools.update_wrapper(infer, model, assigned=("__doc__",), updated=())


def _gradients_enabled() -> bool | None:
    torch = sys.modules.get("torch")
    return None if torch is None else bool(torch.is_grad_enabled())


def _check(model: Any, order: Any, strategy: Any, max_executions: Any, max_seconds: Any) -> None:
    if not callable(model):
        raise TypeError(
            f"infer.enumerate needs a model (a generator function), not {model!r}; its arguments "
            f"come afterwards: infer.enumerate(model)(*args)"
        )
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    if strategy not in STRATEGIES:
        raise ValueError(f"capture must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
    if strategy == "clone" and native is None:
        raise CaptureError(f'capture="clone" is not available here: {native_reason}')
    whole = isinstance(max_executions, int) and not isinstance(max_executions, bool)
    if max_executions is not None and not (whole and max_executions >= 0):
        raise BudgetError(f"max_executions must be a number of executions, not {max_executions!r}")
    if max_seconds is not None and not (
        isinstance(max_seconds, int | float) and 0 <= max_seconds < math.inf
    ):
        raise BudgetError(f"max_seconds must be a number of seconds, not {max_seconds!r}")


def _explore(
    driver: Driver,
    order: Order,
    max_executions: int | None,
    max_seconds: float | None,
    progress: bool,
) -> Posterior:
    budget = -1 if max_executions is None else max_executions
    deadline = math.inf if max_seconds is None else time.monotonic() + max_seconds
    explorer: Any = make_explorer(driver, order)
    try:
        if progress:
            complete = _with_progress_bar(explorer, budget, deadline)
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
    except Exception as error:
        _add_path(error, explorer.path())
        raise
    finally:
        explorer.close()


def make_explorer(driver: Driver, order: Order) -> Any:
    """The native explorer where it can be used, otherwise the one in Python."""
    if native is not None and hasattr(native, "Explorer") and driver.capture != "replay":
        if not driver.outer:
            return NativeExplorer(driver, order)
    return Explorer(driver, order)


def _add_path(error: BaseException, path: list[tuple[str, Any]]) -> None:
    """Say in an error that left the model on which execution it happened."""
    if path:
        shown = [f"{name}={value!r}" for name, value in path[-_SHOWN_CHOICES:]]
        more = ["..."] if len(path) > _SHOWN_CHOICES else []
        error.add_note(f"this happened on the execution with {', '.join(more + shown)}")


def _with_progress_bar(explorer: Any, budget: int, deadline: float) -> bool:
    from tqdm.auto import tqdm

    total = budget if budget >= 0 else None
    with tqdm(total=total, unit=" executions", unit_scale=True) as bar:
        while True:
            pause = min(deadline, time.monotonic() + _PROGRESS_STEP)
            done: bool = explorer.run(budget, pause)
            bar.set_postfix_str(f"explored mass {explorer.explored_mass:.4f}")
            bar.update(explorer.executions - bar.n)
            if done or explorer.executions == budget or time.monotonic() >= deadline:
                return done
