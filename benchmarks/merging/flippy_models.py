"""The models in FlipPy, which reads their source and caches the calls of functions.

A query's own results are not kept (`cache_size=0`): what is timed is the enumeration.
"""

from __future__ import annotations

from typing import Any

from flippy import Categorical, flip, infer

from ..models.hmm import DATA, EMISSION, TRANSITION

NEXT = [Categorical((0, 1, 2), probabilities=row) for row in TRANSITION]
SEEN = [Categorical((0, 1, 2), probabilities=row) for row in EMISSION]


def state_after(steps: int) -> Any:
    """The past as a function: of the ways to write it, the one that FlipPy is fastest with."""
    if steps == 0:
        return 0
    state = NEXT[state_after(steps - 1)].sample()
    SEEN[state].observe(DATA[(steps - 1) % 10])
    return state


def hidden_helper(steps: int) -> Any:
    return state_after(steps)


def hidden_loop(steps: int) -> Any:
    state = 0
    for t in range(steps):
        state = NEXT[state].sample()
        SEEN[state].observe(DATA[t % 10])
    return state


def heads(n: int) -> Any:
    if n == 0:
        return 0
    return heads(n - 1) + (1 if flip(0.5) else 0)


def flips_helper(n: int) -> Any:
    return heads(n)


def grammar(depth: int) -> Any:
    if depth == 0 or not flip(0.4):
        return 1
    left = grammar(depth - 1)
    right = grammar(depth - 1)
    return left + right


def words(depth: int) -> Any:
    return grammar(depth)


def capped_grammar(depth: int) -> Any:
    if depth == 0 or not flip(0.4):
        return 1
    left = capped_grammar(depth - 1)
    right = capped_grammar(depth - 1)
    return min(left + right, 20)


def capped_words(depth: int) -> Any:
    return capped_grammar(depth)


QUERIES: dict[str, Any] = {
    model.__name__: infer(model, cache_size=0)
    for model in (hidden_helper, hidden_loop, flips_helper, words, capped_words)
}
