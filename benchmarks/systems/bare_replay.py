"""Replay with nothing around it: no handlers, no messages, no names.

The honest baseline. A model yields a choice, a tuple of (value, log-probability) pairs, or a
likelihood, a float. A path is the list of answers so far; to go on with a path, the generator is
run again from the top and its answers are sent. Depth first goes on with the first value of a new
choice in the run that met it, so there is one run for each leaf.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any

from ..case import Case, Posterior, Row, Run, python_row

Model = Callable[[], Run]


@dataclass(frozen=True)
class Census:
    """How many finished executions an enumeration has, and how many choice-value edges."""

    leaves: int
    branches: int


def depth_first(model: Model, max_executions: int | None = None) -> tuple[Posterior, Census]:
    """The posterior and the size of the tree, by one run of the model for each leaf."""
    table: defaultdict[Any, float] = defaultdict(float)
    agenda: list[tuple[list[Any], float]] = [([], 0.0)]
    leaves = branches = 0
    while agenda and leaves != max_executions:
        answers, weight = agenda.pop()
        send = model().send
        try:
            request = send(None)
            for answer in answers:
                request = send(answer)
            while True:
                if type(request) is float:
                    weight += request
                    if weight == -math.inf:
                        break
                    answers.append(None)
                    request = send(None)
                    continue
                branches += len(request)
                rest = iter(request)
                value, log_prob = next(rest)
                for other, other_log_prob in rest:
                    agenda.append(([*answers, other], weight + other_log_prob))
                weight += log_prob
                answers.append(value)
                request = send(value)
        except StopIteration as done:
            table[done.value] += math.exp(weight)
            leaves += 1
    return normalised(table), Census(leaves, branches)


def likely_first(model: Model, max_executions: int | None = None) -> tuple[Posterior, Census]:
    """The posterior over the most probable executions, and how much of the tree was seen.

    A path that turns out to be the best again goes on in the run that it is in.
    """
    table: defaultdict[Any, float] = defaultdict(float)
    ticket = count()
    agenda: list[tuple[float, int, list[Any], Any]] = []
    leaves = branches = 0
    answers: list[Any]
    cost, answers, send = 0.0, [None], model().send
    while True:
        try:
            request = send(answers[-1])
            while type(request) is float:
                cost -= request
                if cost == math.inf:
                    break
                answers.append(None)
                request = send(None)
            else:
                branches += len(request)
                for value, log_prob in request:
                    heappush(agenda, (cost - log_prob, next(ticket), answers, value))
        except StopIteration as done:
            table[done.value] += math.exp(-cost)
            leaves += 1
        if not agenda or leaves == max_executions:
            return normalised(table), Census(leaves, branches)
        cost, _, path, answer = heappop(agenda)
        if path is not answers:
            send = model().send
            for _ in map(send, path):
                pass
        answers = [*path, answer]


def normalised(table: dict[Any, float]) -> Posterior:
    total = math.fsum(table.values())
    return {value: weight / total for value, weight in table.items()}


def searched(case: Case) -> tuple[Posterior, Census]:
    """A case's posterior by bare replay, and its leaves and branches, counted."""
    search = likely_first if case.order == "likely_first" else depth_first
    return search(case.program(case.model.bare), case.max_executions)


class BareReplay:
    peer = "bare"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return "this repository"

    def rows(self, case: Case) -> Iterator[Row]:
        yield python_row("bare generator replay", lambda: searched(case)[0])

    def close(self) -> None:
        pass


ROOM = BareReplay()
