"""A hidden Markov model over torch's distributions, and its log-evidence.

Pyro sums it out with tensors: `TraceEnum_ELBO` under `pyro.markov`, with an empty guide. Written by
hand it is the forward algorithm, one vectorised step for each observation.
"""

from __future__ import annotations

import torch

import contpoutine as cp
import contpoutine.distributions as dist

from ..case import Posterior, Row, Run, python_row
from ..systems.pyro_queue import pyro, pyro_dist
from .question import Entry, Question, by_hand, ours

STEP = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
SEEN = torch.tensor([0.8, 0.3, 0.5])
SINGLE = 1e-3  # of a log-evidence near -100, in single precision


def data(steps: int) -> list[torch.Tensor]:
    return [torch.tensor(float(t % 3 == 0)) for t in range(steps)]


def hidden(seen: list[torch.Tensor]) -> Run:
    state = torch.tensor(0)
    for t, y in enumerate(seen):
        state = yield cp.sample(f"z{t}", dist.Categorical(STEP[state]))
        yield cp.observe(f"y{t}", dist.Bernoulli(SEEN[state]), y)
    return state


def in_pyro(seen: list[torch.Tensor]) -> None:
    state = torch.tensor(0)
    for t in pyro.markov(range(len(seen))):
        state = pyro.sample(
            f"z{t}", pyro_dist.Categorical(STEP[state]), infer={"enumerate": "parallel"}
        )
        pyro.sample(f"y{t}", pyro_dist.Bernoulli(SEEN[state]), obs=seen[t])


def forward(seen: list[torch.Tensor]) -> float:
    step, heads, ys = STEP.double().log(), SEEN.double(), torch.stack(seen).double()
    given = torch.where(ys[:, None] > 0, heads.log(), (1 - heads).log())
    reached = step[0] + given[0]
    for t in range(1, len(seen)):
        reached = torch.logsumexp(reached[:, None] + step, 0) + given[t]
    return float(torch.logsumexp(reached, 0))


def evidence(posterior: cp.infer.Posterior) -> Posterior:
    return {"log-evidence": posterior.log_evidence}


def pyro_row(seen: list[torch.Tensor]) -> Row:
    def once() -> Posterior:
        from pyro.infer import TraceEnum_ELBO

        elbo = TraceEnum_ELBO(max_plate_nesting=0)
        return {"log-evidence": -elbo.loss(in_pyro, lambda seen: None, seen)}

    return python_row("Pyro TraceEnum_ELBO, markov", once, SINGLE)


def question(steps: int, short: bool = False) -> Question:
    seen = data(steps)
    return Question(
        f"hidden Markov, torch, T={steps}",
        (
            ours("merged", hidden, seen, merge=True, ask=evidence, tolerance=SINGLE),
            Entry("pyro", pyro_row(seen)),
            by_hand("forward algorithm, torch", lambda: {"log-evidence": forward(seen)}, SINGLE),
        ),
        short,
    )
