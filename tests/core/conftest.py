"""Fixtures of the core tests. Imports no torch: the matrix runs where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from contpoutine.core import message
from contpoutine.core.capture import STRATEGY
from contpoutine.core.native import native


@dataclass
class Messages:
    """One implementation of the message: the type and the functions that go with it."""

    type: Any
    sample: Any
    check_dropped: Any
    machine_runs: Any


PURE = Messages(
    message.PureMessage,
    message.pure_sample,
    message.pure_check_dropped,
    message.pure_machine_runs,
)
IMPLEMENTATIONS = {"python": PURE}
if native is not None:
    IMPLEMENTATIONS["c"] = Messages(
        native.Message, native.sample, native.check_dropped, native.machine_runs
    )


@pytest.fixture(params=IMPLEMENTATIONS)
def messages(request: pytest.FixtureRequest) -> Messages:
    """Runs the test on the C type and on the Python type."""
    return IMPLEMENTATIONS[request.param]


@pytest.fixture(params=("auto", "replay") if native is None else ("auto", "clone", "replay"))
def capture(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test under each capture strategy."""
    token = STRATEGY.set(request.param)
    yield request.param
    STRATEGY.reset(token)
