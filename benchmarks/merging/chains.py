"""Loops: a hidden Markov model, the sum of flips, and a gambler until his ruin.

Each is the plain loop that one would write. What keeps their states few is that what is past is not
read again; the reference is the recursion over tables that one would write by hand.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

import contpoutine as cp
import contpoutine.distributions as dist

from ..case import Posterior, Run
from ..models.hmm import DATA, EMISSION, NEXT_STATE, SYMBOL, TRANSITION
from . import flippy, webppl
from .question import Entry, Question, by_hand, ours

EXACT = 1e-10
SOLVED = 1e-12


def hidden(steps: int) -> Run:
    state = 0
    for t in range(steps):
        state = yield cp.sample(f"z{t}", NEXT_STATE[state])
        yield cp.observe(f"y{t}", SYMBOL[state], DATA[t % 10])
    return state


def flips(n: int) -> Run:
    heads = 0
    for i in range(n):
        heads += yield cp.sample(f"x{i}", dist.Flip(0.5))
    return heads


def ruin(money: int, goal: int, p: float) -> Run:
    while 0 < money < goal:
        money += 1 if (yield cp.sample("wins", dist.Flip(p))) else -1
    return money == goal


def forward_backward(steps: int) -> torch.Tensor:
    """The posterior of each state, a row for each step, in double precision."""
    step = torch.tensor(TRANSITION, dtype=torch.float64)
    seen = torch.tensor(EMISSION, dtype=torch.float64).T[[DATA[t % 10] for t in range(steps)]]
    forward, backward = torch.empty(steps, 3).double(), torch.ones(steps, 3).double()
    reached = step[0] * seen[0]
    for t in range(steps):
        reached = (forward[t - 1] @ step) * seen[t] if t else reached
        forward[t] = reached / reached.sum()
    for t in reversed(range(steps - 1)):
        future = step @ (seen[t + 1] * backward[t + 1])
        backward[t] = future / future.sum()
    product = forward * backward
    return product / product.sum(1, keepdim=True)


def last_state(steps: int) -> Posterior:
    return dict(enumerate(forward_backward(steps)[-1].tolist()))


def every_state(steps: int) -> Posterior:
    table = forward_backward(steps).tolist()
    return {(f"z{t}", z): p for t, row in enumerate(table) for z, p in enumerate(row)}


def all_marginals(posterior: cp.infer.Posterior) -> Posterior:
    sites: list[Any] = [site for site in posterior.sites if site.startswith("z")]
    return {(site, z): p for site in sites for z, p in posterior.marginal(site).items()}


def binomial(n: int) -> Posterior:
    return {heads: math.comb(n, heads) / 2**n for heads in range(n + 1)}


def absorbed(money: int, goal: int, p: float) -> Posterior:
    """The closed form: a gambler who has 0 < money < goal wins his goal with this probability."""
    odds = (1 - p) / p
    wins = money / goal if p == 0.5 else (1 - odds**money) / (1 - odds**goal)
    return {True: wins, False: 1 - wins}


def absorbed_solved(money: int, goal: int, p: float) -> Posterior:
    """The linear system over all amounts of money, dense."""
    matrix, right = np.eye(goal + 1), np.zeros(goal + 1)
    right[goal] = 1.0
    for held in range(1, goal):
        matrix[held, held + 1] -= p
        matrix[held, held - 1] -= 1 - p
    wins = float(np.linalg.solve(matrix, right)[money])
    return {True: wins, False: 1 - wins}


def hidden_question(steps: int, *, with_flippy: bool = True, short: bool = False) -> Question:
    """FlipPy's loops and helpers are recursion, which at T = 1,000 is too deep for Python."""
    helper = flippy.entry("FlipPy, helper", "hidden_helper", steps)
    loop = flippy.entry("FlipPy, loop", "hidden_loop", steps)
    entries: list[Entry] = [
        ours("merged", hidden, steps, merge=True, tolerance=EXACT),
        *([helper, loop] if with_flippy else []),
        webppl.entry("WebPPL, nested by hand", "hidden", steps),
        by_hand("forward-backward, torch", lambda: last_state(steps), EXACT),
    ]
    return Question(f"hidden Markov, T={steps:,}, last state", tuple(entries), short)


def marginals_question(steps: int, short: bool = False) -> Question:
    return Question(
        f"hidden Markov, T={steps:,}, all states",
        (
            ours("merged", hidden, steps, merge=True, ask=all_marginals, tolerance=EXACT),
            by_hand("forward-backward, torch", lambda: every_state(steps), EXACT),
        ),
        short,
    )


def flips_question(n: int, *, with_flippy: bool = True, short: bool = False) -> Question:
    entries = [
        ours("merged", flips, n, merge=True),
        *([flippy.entry("FlipPy, helper", "flips_helper", n)] if with_flippy else []),
        webppl.entry("WebPPL, nested by hand", "flips", n),
        by_hand("binomial", lambda: binomial(n)),
    ]
    return Question(f"sum of {n:,} flips", tuple(entries), short)


def ruin_question(money: int, p: float, short: bool = False) -> Question:
    return Question(
        f"gambler's ruin, 200 states, p={p}",
        (
            ours("merged", ruin, money, 200, p, merge=True, tolerance=SOLVED),
            by_hand("closed form", lambda: absorbed(money, 200, p), SOLVED),
            by_hand("dense solve, NumPy", lambda: absorbed_solved(money, 200, p), SOLVED),
        ),
        short,
    )
