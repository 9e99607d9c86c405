"""What is compared: a model written once for every system, and a case, which is a model at a size.

Every system ends with the same thing, a posterior: a dictionary from the value that the model
returns to its probability. A *row* is one system on one case, ready to be run.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

Posterior: TypeAlias = dict[Any, float]
Run: TypeAlias = Generator[Any, Any, Any]
Program: TypeAlias = Callable[..., Run]
Order: TypeAlias = Literal["depth_first", "likely_first"]


@dataclass(frozen=True)
class Model:
    """One model, side by side.

    Attributes:
        name: how the command line calls it.
        title: how the table calls it; `{}` stands for the size.
        contpoutine: a generator function, as a user would write it, over finite distributions.
        bare: a generator function that yields a tuple of (value, log-probability) pairs for a
            choice and a float for a likelihood.
        hand: the enumeration written out for this one model.
        webppl: the name of the source beside the models; it ends in a function of the size.
        pyro: the model for Pyro's queue; what is observed stands in `pyro_data`.
        pyro_data: the observed values, by site, for a size.
        variants: further contpoutine models, by what is different about them.
        hand_torch: the enumeration written out over torch's own distributions.
    """

    name: str
    title: str
    contpoutine: Program
    bare: Program
    hand: Callable[..., Posterior]
    webppl: str
    pyro: Callable[..., Any] | None = None
    pyro_data: Callable[..., dict[str, Any]] = lambda *size: {}
    variants: Mapping[str, Program] = field(default_factory=dict)
    hand_torch: Callable[..., Posterior] | None = None

    @property
    def webppl_source(self) -> str:
        return (Path(__file__).parent / "models" / self.webppl).read_text()


@dataclass(frozen=True)
class Case:
    """A model at a size, with the budget that makes an infinite one finite.

    Pyro's queue and contpoutine's replay cannot do every size in reasonable time, so each case says
    whether they are asked, and whether the models over torch are.
    """

    model: Model
    size: tuple[int, ...] = ()
    order: Order = "depth_first"
    max_executions: int | None = None
    pyro: bool = False
    replay: bool = True
    variants: bool = False

    @property
    def label(self) -> str:
        return self.model.title.format(*self.size)

    def program(self, of: Program) -> Callable[[], Run]:
        """The generator function with the size filled in."""
        size = self.size
        return (lambda: of(*size)) if size else of


@dataclass(frozen=True)
class Row:
    """One system on one case. `run(times)` gives the posterior and the seconds of one run."""

    name: str
    run: Callable[[int], tuple[Posterior, float]]
    tolerance: float = 1e-9


def python_row(name: str, enumerate_once: Callable[[], Posterior], tolerance: float = 1e-9) -> Row:
    """A row for what runs in this process.

    The collector is on while the clock runs, as it is for a user, and has nothing left from
    before, so that no system pays for its predecessor's garbage. What was made at import, most of
    it the peers' libraries, is out of its sight (`gc.freeze` in `__main__`).
    """

    def run(times: int) -> tuple[Posterior, float]:
        gc.collect()
        start = time.perf_counter()
        for _ in range(times):
            posterior = enumerate_once()
        seconds = (time.perf_counter() - start) / times
        return posterior, seconds

    return Row(name, run, tolerance)
