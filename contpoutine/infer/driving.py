"""What holds while a model is enumerated: budgets, settings, a progress bar, words for errors."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from contpoutine.core.ambient import BRANCHING, BRIDGE, DRIVEN, SEEDED
from contpoutine.core.capture import STRATEGY, Strategy
from contpoutine.core.machine import leave_seeded
from contpoutine.errors import BudgetError
from contpoutine.poutine.at_once import LISTENER
from contpoutine.poutine.names_met import WAITING

_SHOWN_CHOICES = 12
_PROGRESS_STEP = 0.1  # seconds between two updates of the progress bar


def check_budgets(max_executions: Any, max_seconds: Any) -> None:
    """Raise `BudgetError` where a budget is no number."""
    if max_executions is not None and not is_count(max_executions):
        raise BudgetError(f"max_executions must be a number of executions, not {max_executions!r}")
    if max_seconds is not None and not (
        isinstance(max_seconds, int | float) and 0 <= max_seconds < math.inf
    ):
        raise BudgetError(f"max_seconds must be a number of seconds, not {max_seconds!r}")


def is_count(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x >= 0


@contextlib.contextmanager
def driving(strategy: Strategy) -> Iterator[None]:
    """Settings that models which are enumerated run under, put back afterwards."""
    tokens = STRATEGY.set(strategy), DRIVEN.set(True), LISTENER.set(None), WAITING.set({})
    bridge, branching = BRIDGE.set(None), BRANCHING.set(None)
    gradients, seeded = _gradients_enabled(), SEEDED.get()
    try:
        yield
    finally:
        STRATEGY.reset(tokens[0])
        DRIVEN.reset(tokens[1])
        BRANCHING.reset(branching)
        LISTENER.reset(tokens[2])
        WAITING.reset(tokens[3])
        BRIDGE.reset(bridge)
        leave_seeded(seeded)
        if gradients is not None and _gradients_enabled() != gradients:
            # a branch was given up inside `with torch.no_grad():`
            sys.modules["torch"].set_grad_enabled(gradients)


def _gradients_enabled() -> bool | None:
    torch = sys.modules.get("torch")
    return None if torch is None else bool(torch.is_grad_enabled())


@contextlib.contextmanager
def told_where(explorer: Any) -> Iterator[None]:
    """Say in an error that leaves the model on which execution it happened."""
    try:
        yield
    except Exception as error:
        path = explorer.path()
        if path:
            shown = [f"{name}={value!r}" for name, value in path[-_SHOWN_CHOICES:]]
            more = ["..."] if len(path) > _SHOWN_CHOICES else []
            error.add_note(f"this happened on the execution with {', '.join(more + shown)}")
        raise


def with_progress_bar(
    explorer: Any, budget: int, deadline: float, so_far: Callable[[Any], str]
) -> Any:
    """What `explorer.run` gives in the end; until then a bar shows executions and `so_far`."""
    from tqdm.auto import tqdm

    total = budget if budget >= 0 else None
    with tqdm(total=total, unit=" executions", unit_scale=True) as bar:
        while True:
            pause = min(deadline, time.monotonic() + _PROGRESS_STEP)
            outcome = explorer.run(budget, pause)
            bar.set_postfix_str(so_far(explorer))
            bar.update(explorer.executions - bar.n)
            if outcome or explorer.executions == budget or time.monotonic() >= deadline:
                return outcome
