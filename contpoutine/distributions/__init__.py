"""Distributions: finite ones over any Python values, and torch's own under their own names.

Importing this package does not import torch.
"""

from __future__ import annotations

from .choices import (
    Choices,
    ElementChoices,
    check_distribution,
    choices,
    draw,
    has_finite_support,
    log_weight,
)
from .finite import Delta, Finite, FiniteDistribution, Flip, RandInt, UniformDraw, Unit

__all__ = [
    "Choices",
    "Delta",
    "ElementChoices",
    "Finite",
    "FiniteDistribution",
    "Flip",
    "RandInt",
    "UniformDraw",
    "Unit",
    "check_distribution",
    "choices",
    "draw",
    "has_finite_support",
    "log_weight",
]
