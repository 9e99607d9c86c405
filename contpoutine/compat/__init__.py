"""Models that were written for another library: Pyro's names, and Pyro's own models.

`contpoutine.compat.pyro` has the names of Pyro for ordinary functions as models; `compat.bridge`
runs models of the real pyro-ppl. Both perform effects that the handlers of this library see.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from contpoutine.core.bridge import register_foreign


def _pyro() -> Any:
    """The state of the real Pyro, where it has been imported."""
    if "pyro.primitives" not in sys.modules or sys.modules["pyro"].__name__ != "pyro":
        return None
    return importlib.import_module("contpoutine.compat.bridge").STATE


register_foreign(_pyro)
