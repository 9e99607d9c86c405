"""What handlers cost a site: `python -m benchmarks.handlers` prints four figures.

A model of 100 Normal sites, each with the one before as its mean, is traced here and by pyro-ppl,
and held against the loop that builds the same distributions and draws from them with no handler at
all. Five Messengers that do nothing are installed around a model of 1,000 coins, and what they add
is divided by the sites. The contestants take turns, and the least time of each counts, so that a
busy machine tells little of a lie; it is processor time.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import Any

import contpoutine as cp
import contpoutine.distributions as dist

SITES = 100
COINS = 1000
NAMES = [f"x{i}" for i in range(COINS)]


def normals() -> Generator[Any, Any, Any]:
    """The model, here."""
    x: Any = 0.0
    for name in NAMES[:SITES]:
        x = yield cp.sample(name, dist.Normal(x, 1.0))
    return x


def bare_normals() -> Any:
    """The same distributions and draws, without a model."""
    x: Any = 0.0
    for _ in range(SITES):
        x = dist.Normal(x, 1.0).rsample()
    return x


def coins() -> Generator[Any, Any, int]:
    """Sites that cost next to nothing by themselves."""
    heads = 0
    for name in NAMES:
        heads += yield cp.sample(name, dist.Flip(0.5))
    return heads


def pyro_trace() -> Callable[[], Any]:
    """The model in Pyro, traced."""
    import pyro

    def model() -> Any:
        x: Any = 0.0
        for name in NAMES[:SITES]:
            x = pyro.sample(name, pyro.distributions.Normal(x, 1.0))
        return x

    handler = pyro.poutine.trace(model)
    return lambda: handler.get_trace()


class Idle(cp.Messenger):
    """Does nothing."""

    fork_shared = True


def coins_inside(count: int) -> int:
    """The coins, inside of so many idle Messengers."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(Idle())
        return int(cp.run(coins))


def least(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The least time of each, in seconds; they take turns."""
    best = dict.fromkeys(contestants, float("inf"))
    for run in contestants.values():
        run()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in contestants.items():
                start = time.process_time()
                run()
                best[name] = min(best[name], time.process_time() - start)
    finally:
        gc.enable()
    return best


def main(rounds: int = 60) -> None:
    """Print the figures."""
    traced = cp.poutine.trace(normals)
    times = least(
        {"bare": bare_normals, "here": lambda: traced.get_trace(), "pyro": pyro_trace()}, rounds
    )
    bare = times["bare"]
    print(f"{SITES} Normal sites, without handlers   {bare * 1e3:7.3f} ms")
    for name, shown in (("here", "traced here"), ("pyro", "traced by pyro-ppl")):
        seconds = times[name]
        print(f"{SITES} Normal sites, {shown:18} {seconds * 1e3:7.3f} ms  {seconds / bare:5.2f} x")
    idle = least({str(n): lambda n=n: coins_inside(n) for n in (0, 5)}, rounds)  # type: ignore[misc]
    added = (idle["5"] - idle["0"]) / COINS
    print(f"five idle messengers, a site         {added * 1e6:7.3f} us")


if __name__ == "__main__":
    main()
