"""Fixtures of the handlers' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contpoutine.core.ambient import AMBIENT
from tests.capture.law import WORKING, strategy


@pytest.fixture(params=WORKING)
def capture(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test under each capture strategy."""
    with strategy(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def clean_stack() -> Iterator[None]:
    """No test leaves a handler behind."""
    yield
    assert AMBIENT.get() == ()
