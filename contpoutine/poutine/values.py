"""What a handler's plain value becomes at a site."""

from __future__ import annotations

import sys
from typing import Any


def as_site_value(fn: Any, value: Any) -> Any:
    """A number as a tensor where the site's distribution is one of torch's; else as it is."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(fn, torch.distributions.Distribution):
        from contpoutine.distributions.ask_torch import as_tensor

        return as_tensor(fn, value)
    return value
