"""seed: random numbers that are the same every time.

Inside, the global random number generators belong to the computation: a message that leaves it
takes their states along, a draw that is made for it moves them on, and on its way back they are put
back to where they were. So a branch that is resumed goes on with its own random numbers, whatever
other branches and handlers have drawn meanwhile.
"""

from __future__ import annotations

import random
import sys
from types import TracebackType
from typing import Any, Self

from contpoutine.capture import randomness
from contpoutine.core.ambient import SEEDED
from contpoutine.core.messenger import Messenger
from contpoutine.core.record import STREAM
from contpoutine.poutine.three_ways import Model, apply

__all__ = ["SeedMessenger", "seed"]


class SeedMessenger(Messenger):
    """Seeds the random number generators of Python, torch and NumPy (those that are loaded), and
    puts them back when it is left, also by an exception.

    Args:
        rng_seed: a non-negative integer.
    """

    def __init__(self, rng_seed: int) -> None:
        if type(rng_seed) is not int or not 0 <= rng_seed < 2**32:
            raise TypeError(
                f"seed needs an integer: seed(model, rng_seed=0), with 0 <= rng_seed < 2**32, and "
                f"was given {rng_seed!r}"
            )
        self.rng_seed = rng_seed
        self._outer: Any = None

    def __enter__(self) -> Self:
        self._outer = (randomness.snapshot(), SEEDED.get())
        SEEDED.set(self._outer)
        _seed(self.rng_seed)
        return super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        state, further_out = self._outer
        randomness.restore(state)
        SEEDED.set(further_out)
        return super().__exit__(exc_type, exc_value, traceback)

    def _process_message(self, msg: Any) -> None:
        msg[STREAM] = randomness.snapshot()

    def _postprocess_message(self, msg: Any) -> None:
        stream = msg.get(STREAM)
        if stream is not None:
            randomness.restore(stream)
            SEEDED.set(self._outer)


def _seed(number: int) -> None:
    random.seed(number)
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None:
        torch.manual_seed(number)
    if numpy is not None:
        numpy.random.seed(number)


def seed(fn: Model | None = None, rng_seed: int | None = None) -> Any:
    """Draw the same random numbers every time.

    >>> import contpoutine as cp
    >>> def model():
    ...     return (yield cp.sample("x", cp.distributions.RandInt(1000)))
    >>> cp.run(seed(model, rng_seed=1)) == cp.run(seed(model, rng_seed=1))
    True
    """
    return apply("seed", fn, SeedMessenger(rng_seed))  # type: ignore[arg-type]
