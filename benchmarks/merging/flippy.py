"""FlipPy, whose enumeration caches the calls of functions; the cache starts empty in each run."""

from __future__ import annotations

import time
from importlib.util import find_spec

from ..case import Posterior, Row
from .question import Entry

PEER = "flippy"


def missing() -> str | None:
    return None if find_spec("flippy") else "flippy-lang is not installed"


def entry(name: str, query: str, size: int, tolerance: float = 1e-9) -> Entry:
    """A row for one of the queries in `flippy_models`; its source is read and rewritten untimed."""

    def run(times: int) -> tuple[Posterior, float]:
        from .flippy_models import QUERIES

        asked = QUERIES[query]
        asked(2)
        seconds = 0.0
        for _ in range(times):
            asked.inference_alg._call_cache.clear()
            start = time.perf_counter()
            found = dict(asked(size).items())
            seconds += time.perf_counter() - start
        return {value: float(p) for value, p in found.items()}, seconds / times

    return Entry(PEER, Row(name, run, tolerance))
