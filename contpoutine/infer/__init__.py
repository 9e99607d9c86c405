"""Inference: exact enumeration and its posteriors, and variational inference on them."""

from contpoutine.infer import util
from contpoutine.infer.elbo import ELBO, Trace_ELBO
from contpoutine.infer.enum_elbo import EnumELBO
from contpoutine.infer.enumeration import enumerate
from contpoutine.infer.marginal import Marginal
from contpoutine.infer.posterior import Posterior
from contpoutine.infer.svi import SVI

__all__ = ["ELBO", "SVI", "EnumELBO", "Marginal", "Posterior", "Trace_ELBO", "enumerate", "util"]
