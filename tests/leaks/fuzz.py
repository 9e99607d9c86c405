"""Everything that can be done to a continuation, in a drawn order, until the time is over.

    python tests/leaks/fuzz.py SECONDS [SEED]

Fork, resume, throw, close, look at, misuse, trace, collect and drop, on the scenarios' models and on
drawn ones, with up to fifty branches alive. The work is done in processes of half a minute each, so
a crash ends one of them: it is reported with its seed, which repeats it.
"""

from __future__ import annotations

import contextlib
import gc
import random
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from scenarios import Keep, nested, refused, rich, thrower

import contpoutine as cp
from contpoutine.core.capture import STRATEGY

SPELL = 30.0  # seconds for which one process works
ACTS = (
    "start start resume resume resume fork throw drop drop collect look misuse trace untrace "
    "moved cycle"
).split()


def drawn_models(seed: int, n: int) -> list[Any]:
    """Random programs; none, where hypothesis is not installed."""
    try:
        import hypothesis
    except ImportError:
        return []
    from contpoutine.testing import models

    made: list[Any] = []
    quiet = {"database": None, "deadline": None, "suppress_health_check": hypothesis.HealthCheck}
    hypothesis.seed(seed)(
        hypothesis.settings(max_examples=n, **quiet)(
            hypothesis.given(models("choose"))(lambda model: made.append(model))
        )
    )()
    return made


class Fuzz:
    """One process's worth."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.alive: list[Any] = []
        self.models = [rich, refused, thrower, nested] * 10 + drawn_models(seed, 60)

    def run(self, seconds: float) -> Counter[str]:
        done: Counter[str] = Counter()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            act = self.rng.choice(ACTS) if self.alive else "start"
            done[act] += 1
            getattr(self, act)()
        sys.settrace(None)
        self.alive.clear()
        gc.collect()
        return done

    def one(self) -> Any:
        return self.rng.choice(self.alive)

    def keep(self, x: Any) -> None:
        if hasattr(x, "throw") and len(self.alive) < 50:
            self.alive.append(x)

    def value(self) -> Any:
        return self.rng.choice((0, 1, 2, [], "x"))

    def start(self) -> None:
        STRATEGY.set(self.rng.choice(("auto", "auto", "replay")))
        with contextlib.suppress(Exception, GeneratorExit):
            self.keep(cp.run(cp.handle(Keep(), self.rng.choice(self.models))))

    def resume(self) -> None:
        with contextlib.suppress(Exception, GeneratorExit):
            self.keep(cp.run(self.one()(self.value())))

    def fork(self) -> None:
        k = self.one()
        if k._snapshot is None:
            return
        with contextlib.suppress(cp.errors.CaptureError):
            fresh = k._snapshot.fork(k.origin.outside)
            if self.rng.random() < 0.3:
                bodies = [f for f in fresh.take() if hasattr(f, "send")]
                with contextlib.suppress(BaseException):
                    self.rng.choice((bodies[-1].close, lambda: bodies[-1].send(1)))()

    def throw(self) -> None:
        error = self.rng.choice((ValueError, KeyError, GeneratorExit))(1)
        with contextlib.suppress(BaseException):
            self.keep(cp.run(self.one().throw(error)))

    def moved(self) -> None:
        """The last resumption of a continuation that nobody else holds."""
        k = self.alive.pop(self.rng.randrange(len(self.alive)))
        with contextlib.suppress(Exception, GeneratorExit):
            self.keep(cp.run(k(self.value())))

    def drop(self) -> None:
        self.alive.pop(self.rng.randrange(len(self.alive)))

    def collect(self) -> None:
        gc.collect(self.rng.randrange(3))

    def look(self) -> None:
        snapshot = self.one()._snapshot
        for frame in snapshot.frames if snapshot is not None else ():
            for name in ("gi_yieldfrom", "gi_running", "gi_suspended"):
                getattr(frame, name, None)
            body = getattr(frame, "gi_frame", None)
            if body is not None:
                dict(body.f_locals)
                _ = body.f_lineno

    def misuse(self) -> None:
        """Somebody who reaches in and runs a stored frame by hand."""
        snapshot = self.one()._snapshot
        if snapshot is not None and len(snapshot.frames) > 1:
            body = snapshot.frames[-1]
            with contextlib.suppress(BaseException):
                self.rng.choice((body.close, lambda: next(body), lambda: body.throw(KeyError)))()

    def cycle(self) -> None:
        k = self.one()
        k._thrown.append((ValueError(k), None))

    def trace(self) -> None:
        sys.settrace(lambda *args: None)

    def untrace(self) -> None:
        sys.settrace(None)


def spell(seconds: float, seed: int) -> None:
    warnings.simplefilter("ignore")
    print(dict(Fuzz(seed).run(seconds)))


def main(seconds: float, seed: int) -> int:
    """Run spells until the time is over. Gives how many of them crashed."""
    end = time.monotonic() + seconds
    crashes = spells = acts = 0
    while (left := end - time.monotonic()) > 0.1:
        arguments = [str(min(SPELL, left)), str(seed), "spell"]
        command = [sys.executable, "-X", "faulthandler", __file__, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        spells += 1
        if result.returncode != 0:
            crashes += 1
            print(f"seed {seed}: exit status {result.returncode}")
            print(result.stdout[-500:], result.stderr[-4000:])
        else:
            acts += sum(eval(result.stdout).values())
        seed += 1
    print(f"fuzz: {acts} acts in {spells} processes, {crashes} of which failed")
    return crashes


if __name__ == "__main__":
    asked, first = float(sys.argv[1]), int(([*sys.argv, "1"])[2])
    if sys.argv[3:] == ["spell"]:
        spell(asked, first)
    else:
        sys.exit(min(1, main(asked, first)))
