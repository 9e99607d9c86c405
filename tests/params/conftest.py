"""Fixtures of the parameters' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pyro
import pytest

import contpoutine as cp
from contpoutine.core.ambient import AMBIENT
from tests.capture.law import WORKING, strategy


@pytest.fixture(autouse=True)
def empty_stores() -> Iterator[None]:
    """Each test begins with empty stores, and leaves no handler behind."""
    cp.clear_param_store()
    pyro.clear_param_store()
    yield
    cp.clear_param_store()
    pyro.clear_param_store()
    assert AMBIENT.get() == ()


@pytest.fixture(params=WORKING)
def capture(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test under each capture strategy."""
    with strategy(request.param):
        yield request.param
