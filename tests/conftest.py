"""What every test shares. Imports no torch: the matrix runs where there is none."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A deadline measures the machine and not the code; continuous integration draws the same examples
# every time, so that a red run can be repeated.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The suite also runs with replay as the strategy of every test that names none."""
    mark = item.get_closest_marker("clones")
    if mark is not None and os.environ.get("CONTPOUTINE_CAPTURE") == "replay":
        pytest.skip(f"CONTPOUTINE_CAPTURE=replay: {mark.args[0]}")
