"""Pyro's names."""

from contpoutine.compat.pyro.primitives import deterministic, factor, sample

__all__ = ["deterministic", "factor", "sample"]
