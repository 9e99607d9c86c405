"""Fixtures of the optimisers' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pyro
import pytest

import contpoutine as cp
from contpoutine.core.ambient import AMBIENT


@pytest.fixture(autouse=True)
def empty_stores() -> Iterator[None]:
    """Each test begins with empty stores, and leaves no handler behind."""
    cp.clear_param_store()
    pyro.clear_param_store()
    yield
    cp.clear_param_store()
    pyro.clear_param_store()
    assert AMBIENT.get() == ()
