"""The C extension, or the reason why there is none.

Every part of `contpoutine._native` has a counterpart in Python; whoever wants the fast one asks
here. `CONTPOUTINE_PURE=1` in the environment switches the extension off.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from types import ModuleType


def _load() -> tuple[ModuleType | None, str]:
    if os.environ.get("CONTPOUTINE_PURE", "") not in ("", "0"):
        return None, "switched off by CONTPOUTINE_PURE in the environment"
    if sys.implementation.name != "cpython":
        return None, f"native capture copies CPython's frames; this is {sys.implementation.name}"
    version = "{}.{}".format(*sys.version_info)
    if not (3, 11) <= sys.version_info < (3, 14):
        return None, f"native capture knows CPython 3.11 to 3.13; this is {version}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None, "native capture does not support free-threaded builds of CPython"
    try:
        # Not `from contpoutine import`: the package itself imports everything above this layer.
        extension = importlib.import_module("contpoutine._native")
    except ImportError as error:
        return None, f"the C extension was not built for CPython {version} ({error})"
    return extension, f"C extension for CPython {version}"


native, reason = _load()
