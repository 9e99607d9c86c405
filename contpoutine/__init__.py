"""contpoutine: effect handlers for probabilistic programs, on multi-shot continuations.

A model is a generator that yields effect requests; handlers examine and change the effects, and
control handlers may resume the same suspended computation again and again.

>>> import contpoutine as cp
>>> import contpoutine.distributions as dist
>>> def two_coins():
...     a = yield cp.sample("a", dist.Flip(0.5))
...     b = yield cp.sample("b", dist.Flip(0.5))
...     yield cp.observe("one up", dist.Flip(0.9 if a or b else 0.1), True)
...     return a and b
>>> posterior = cp.infer.enumerate(two_coins)()
>>> round(posterior.marginal()[True], 4)
0.3214
"""

from contpoutine import capture, compat, core, distributions, errors, infer, optim, poutine, viz
from contpoutine.capture import Capabilities, capabilities, explain, fork
from contpoutine.core.direct import call, perform
from contpoutine.core.effectful import effectful, operation
from contpoutine.core.handler import Handler, handle
from contpoutine.core.machine import run
from contpoutine.core.message import Message
from contpoutine.core.messenger import Messenger
from contpoutine.params import clear_param_store, get_param_store
from contpoutine.poutine.plate_messenger import plate
from contpoutine.primitives import (
    deterministic,
    factor,
    module,
    observe,
    param,
    sample,
    subsample,
)

__version__ = "0.1.0"

__all__ = [
    "Capabilities",
    "Handler",
    "Message",
    "Messenger",
    "call",
    "capabilities",
    "capture",
    "clear_param_store",
    "compat",
    "core",
    "deterministic",
    "distributions",
    "effectful",
    "errors",
    "explain",
    "factor",
    "fork",
    "get_param_store",
    "handle",
    "infer",
    "module",
    "observe",
    "operation",
    "optim",
    "param",
    "perform",
    "plate",
    "poutine",
    "run",
    "sample",
    "subsample",
    "viz",
]
