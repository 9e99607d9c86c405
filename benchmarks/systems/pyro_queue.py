"""Pyro's `poutine.queue`, used the way Pyro's own guide to poutine uses it.

Each partial execution in the queue is a trace; to extend it, the model is run again from the top.
Pyro is left as it comes, argument validation included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

from ..case import Case, Posterior, Row, python_row

try:
    import pyro
    import pyro.distributions as pyro_dist
    from pyro import poutine
except ImportError:  # the rows are left out, and the table says so
    pyro = pyro_dist = poutine = None

import torch


def sequential_discrete_marginal(
    model: Callable[[], Any], data: dict[str, Any], site_name: str = "_RETURN"
) -> Any:
    """The marginal of a site over all executions, as an `Empirical` of tensors."""
    unfinished: Queue[Any] = Queue()
    unfinished.put(poutine.Trace())
    conditioned = poutine.condition(model, data=data)
    enum_model = poutine.queue(conditioned, queue=unfinished)
    samples, log_weights = [], []
    while not unfinished.empty():
        trace = poutine.trace(enum_model).get_trace()
        samples.append(trace.nodes[site_name]["value"])
        log_weights.append(trace.log_prob_sum())
    weights = torch.stack(log_weights, 0)
    weights = weights - pyro_dist.util.logsumexp(weights, dim=0)
    return pyro_dist.Empirical(torch.stack(samples, 0), weights)


def enumerated(model: Callable[..., Any], case: Case) -> Posterior:
    data = case.model.pyro_data(*case.size)
    marginal = sequential_discrete_marginal(lambda: model(*case.size), data)
    values = marginal.enumerate_support().unique()
    return {value.item(): math.exp(marginal.log_prob(value).item()) for value in values}


class PyroQueue:
    peer = "pyro"

    def missing(self) -> str | None:
        return None if pyro is not None else "pyro-ppl is not installed"

    def version(self) -> str:
        return f"pyro-ppl {pyro.__version__}, torch {torch.__version__}"

    def rows(self, case: Case) -> Iterator[Row]:
        model = case.model.pyro
        if case.pyro and model is not None:
            name = "Pyro poutine.queue"
            yield python_row(name, lambda: enumerated(model, case), tolerance=1e-4)

    def close(self) -> None:
        pass


ROOM = PyroQueue()

__all__ = ["ROOM", "pyro", "pyro_dist"]
