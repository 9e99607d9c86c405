"""How "it cost ten thousand dollars" is understood: `examples/rsa.py` against a search by replay.

The same three models in Pyro, each a marginal by `poutine.queue`, remembered by arguments for the
duration of one question. A query inside of a model blocks its effects from that model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from queue import Queue
from typing import Any

import torch

from ..case import Posterior, python_row
from ..systems.pyro_queue import pyro
from .question import Entry, Question, ours

EXAMPLE = Path(__file__).parents[2] / "examples" / "rsa.py"
HEARD = 10_000


@cache
def example() -> Any:
    spec = spec_from_file_location("hyperbole_example", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Table:
    """A finite distribution over any values, as Pyro's `sample` and `queue` ask for one."""

    has_enumerate_support = True
    has_rsample = False

    def __init__(self, weights: dict[Any, float]) -> None:
        total = sum(weights.values())
        self.log_probs = {
            value: torch.tensor(math.log(weight / total))
            for value, weight in weights.items()
            if weight > 0
        }

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return next(iter(self.log_probs))

    def enumerate_support(self) -> list[Any]:
        return list(self.log_probs)

    def log_prob(self, value: Any) -> torch.Tensor:
        return self.log_probs.get(value, torch.tensor(-math.inf))


def searched(model: Callable[..., Any]) -> Callable[..., Table]:
    """The marginal of a model's return value, by replay, remembered by arguments."""

    @cache
    def marginal(*arguments: Any) -> Table:
        unfinished: Queue[Any] = Queue()
        unfinished.put(pyro.poutine.Trace())
        weights: dict[Any, float] = {}
        with pyro.poutine.block():
            queued = pyro.poutine.trace(pyro.poutine.queue(model, queue=unfinished))
            while not unfinished.empty():
                trace = queued.get_trace(*arguments)
                value = trace.nodes["_RETURN"]["value"]
                weights[value] = weights.get(value, 0.0) + math.exp(trace.log_prob_sum())
        return Table(weights)

    return marginal


def understood_in_pyro(heard: int) -> Posterior:
    rsa = example()
    prices, utterances = (
        Table({value: math.exp(finite.log_prob(value)) for value in finite.values})
        for finite in (rsa.PRICE, rsa.UTTERANCE)
    )
    moods = {price: Table({True: p, False: 1 - p}) for price, p in rsa.ANNOYED.items()}
    concerns = Table(dict.fromkeys(rsa.CONCERNS, 1.0))

    def kettle() -> Any:
        price = pyro.sample("price", prices)
        return rsa.State(price, pyro.sample("annoyed", moods[rsa.roughly(price)]))

    @searched
    def literal_listener(utterance: int, concern: str) -> Any:
        state = kettle()
        taken = 0.0 if state.price == utterance else -math.inf
        pyro.factor("taken at its word", torch.tensor(taken))
        return rsa.CONCERNS[concern](state)

    @searched
    def speaker(meant: Any, concern: str) -> Any:
        utterance = pyro.sample("utterance", utterances)
        pyro.sample("understood", literal_listener(utterance, concern), obs=meant)
        return utterance

    @searched
    def pragmatic_listener(utterance: int) -> Any:
        state = kettle()
        concern = pyro.sample("concern", concerns)
        said = speaker(rsa.CONCERNS[concern](state), concern)
        pyro.sample("heard", said, obs=utterance)
        return state

    found = pragmatic_listener(heard).log_probs
    return {value: math.exp(log_prob) for value, log_prob in found.items()}


def question(short: bool = False) -> Question:
    row = python_row("Pyro queue, remembered", lambda: understood_in_pyro(HEARD), 1e-4)
    return Question(
        "hyperbole, nested three deep",
        (ours("nested queries", example().pragmatic_listener, HEARD), Entry("pyro", row)),
        short,
    )
