"""Distributions: finite ones over any Python values, and torch's own under their own names.

Importing this package does not import torch.
"""

from __future__ import annotations

from .finite import Delta, Finite, FiniteDistribution, Flip, RandInt, UniformDraw, Unit

__all__ = ["Delta", "Finite", "FiniteDistribution", "Flip", "RandInt", "UniformDraw", "Unit"]
