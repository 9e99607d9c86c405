"""Inference: exact enumeration, and the posteriors that it gives."""

from contpoutine.infer.enumeration import enumerate
from contpoutine.infer.marginal import Marginal
from contpoutine.infer.posterior import Posterior

__all__ = ["Marginal", "Posterior", "enumerate"]
