"""How a suspended computation is copied: clones in C, replay everywhere.

Importing this package makes native capture available to the machine in `contpoutine.core`.
"""

from contpoutine.capture import fork
from contpoutine.capture.explain import Explanation, explain
from contpoutine.capture.provide import Capabilities, capabilities

__all__ = ["Capabilities", "Explanation", "capabilities", "explain", "fork"]
