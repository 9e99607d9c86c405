"""Models that were written for another library: Pyro's names, and Pyro's own models.

`contpoutine.compat.pyro` has the names of Pyro for ordinary functions as models; `compat.bridge`
runs models of the real pyro-ppl. Both perform effects that the handlers of this library see.
`compat.to_generator` rewrites an ordinary function as the generator that yields its effects.
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


def __getattr__(name: str) -> Any:
    if name == "to_generator":  # it knows the primitives, which are further down the layers
        from contpoutine.compat.lifting import to_generator

        return to_generator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
