"""What every test shares. Imports no torch: the matrix runs where there is none."""

from __future__ import annotations

import os

from hypothesis import settings

# A deadline measures the machine and not the code; continuous integration draws the same examples
# every time, so that a red run can be repeated.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
