"""`dist.util.logsumexp`, by the name under which Poutine's tutorial calls it."""

from __future__ import annotations

from torch import logsumexp

__all__ = ["logsumexp"]
