"""Inference: exact enumeration and its posteriors, variational inference, importance sampling."""

from contpoutine.infer import util
from contpoutine.infer.elbo import ELBO, Trace_ELBO
from contpoutine.infer.enum_elbo import EnumELBO
from contpoutine.infer.enumeration import enumerate
from contpoutine.infer.importance import ImportanceSamples, importance
from contpoutine.infer.marginal import Marginal
from contpoutine.infer.merging import refine
from contpoutine.infer.posterior import Posterior
from contpoutine.infer.predictive import Predictive
from contpoutine.infer.svi import SVI

__all__ = [
    "ELBO",
    "SVI",
    "EnumELBO",
    "ImportanceSamples",
    "Marginal",
    "Posterior",
    "Predictive",
    "Trace_ELBO",
    "enumerate",
    "importance",
    "refine",
    "util",
]
