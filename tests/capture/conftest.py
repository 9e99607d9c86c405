"""Fixtures of the capture tests. Imports no torch: the matrix runs where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.capture.law import NATIVE, WORKING, strategy

native_only = pytest.mark.skipif(not NATIVE, reason="about the C extension")


@pytest.fixture(params=WORKING)
def capture(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test under each capture strategy."""
    with strategy(request.param):
        yield request.param
