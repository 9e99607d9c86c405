"""What merging costs where it cannot help: small networks, and executions that never meet."""

from __future__ import annotations

import contpoutine as cp
import contpoutine.distributions as dist

from ..case import Run
from ..models import asia, sprinkler
from .question import Question, by_hand, ours


def words(n: int) -> Run:
    """Every execution has a list of its own, so that no two states are equal."""
    kept = []
    for _ in range(n):
        kept.append((yield cp.sample("x", dist.Flip(0.5))))
    return tuple(kept)


def network_question(name: str, short: bool = False) -> Question:
    model = {"Asia": asia.MODEL, "sprinkler": sprinkler.MODEL}[name]
    return Question(
        name,
        (
            ours("without merging", model.contpoutine, merge=False),
            ours("merged", model.contpoutine, merge=True),
            ours('merge="auto"', model.contpoutine, merge="auto"),
            by_hand("nested loops", model.hand),
        ),
        short,
    )


def words_question(n: int, short: bool = False) -> Question:
    return Question(
        f"{n} flips, all kept",
        (
            ours("without merging", words, n, merge=False),
            ours('merge="auto"', words, n, merge="auto"),
            ours("merged", words, n, merge=True),
        ),
        short,
    )
