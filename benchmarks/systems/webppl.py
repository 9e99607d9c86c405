"""WebPPL, whose models are compiled to continuation-passing style, in a node process of its own.

The process is kept for the whole run, so its code is compiled and warm, and it answers between the
runs of the other systems. Depth first, breadth first and likely first are tried on each case in a
second process, and the fastest is the one that is compared; a case with a budget is likely first
for everybody.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..case import Case, Posterior, Row

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "node_modules" / "webppl"
STRATEGIES = ("depthFirst", "likelyFirst", "breadthFirst")
TRIAL_SECONDS, WARM_SECONDS = 0.15, 0.5


class Process:
    """One node process that answers a line for a line."""

    def __init__(self) -> None:
        self.node = subprocess.Popen(
            ["node", str(HERE / "webppl_server.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.loaded: dict[str, Any] = {}

    def ask(self, **request: Any) -> Any:
        assert self.node.stdin is not None and self.node.stdout is not None
        self.node.stdin.write(json.dumps(request) + "\n")
        self.node.stdin.flush()
        line = self.node.stdout.readline()
        answer = json.loads(line) if line else {"error": "node ended"}
        if "error" in answer:
            raise RuntimeError(f"WebPPL: {answer['error']}")
        return answer

    def run(self, case: Case, options: dict[str, Any], times: int = 1) -> tuple[Posterior, float]:
        model = case.model
        if model.name not in self.loaded:
            self.loaded[model.name] = self.ask(load=model.name, source=model.webppl_source)
        answer = self.ask(run=model.name, size=case.size, options=options, times=times)
        return dict(answer["posterior"]), answer["seconds"]

    def close(self) -> None:
        assert self.node.stdin is not None
        self.node.stdin.close()
        self.node.wait(timeout=10)


class WebPPL:
    peer = "webppl"

    def __init__(self) -> None:
        self.compared: Process | None = None
        self.trying: Process | None = None

    def missing(self) -> str | None:
        if shutil.which("node") is None:
            return "node is not on PATH"
        return None if PACKAGE.is_dir() else "the npm package is not installed (make bench does it)"

    def version(self) -> str:
        return "webppl " + str(json.loads((PACKAGE / "package.json").read_text())["version"])

    def rows(self, case: Case) -> Iterator[Row]:
        self.compared = process = self.compared or Process()
        options = self.best_options(case)
        warm(process, case, options, WARM_SECONDS)
        yield Row(
            f"WebPPL {options['strategy']}",
            lambda times: process.run(case, options, times),
        )

    def best_options(self, case: Case) -> dict[str, Any]:
        """The fastest strategy, which a case with a budget does not leave open."""
        if case.order == "likely_first":
            return {"strategy": "likelyFirst", "maxExecutions": case.max_executions}
        self.trying = self.trying or Process()
        best, limit = STRATEGIES[0], float("inf")
        for strategy in STRATEGIES:
            options: dict[str, Any] = {"strategy": strategy}
            if limit < float("inf"):
                options["maxRuntimeInMS"] = 100 + 4000 * limit
            try:
                seconds = warm(self.trying, case, options, TRIAL_SECONDS)
            except RuntimeError:  # far slower than the best so far
                self.trying.close()
                self.trying = Process()
                continue
            if seconds < limit:
                best, limit = strategy, seconds
        return {"strategy": best}

    def close(self) -> None:
        for process in (self.compared, self.trying):
            if process is not None:
                process.close()
        self.compared = self.trying = None


def warm(process: Process, case: Case, options: dict[str, Any], enough: float) -> float:
    """Run for so many seconds, at least twice, and give the seconds of the fastest run."""
    fastest, spent, runs = float("inf"), 0.0, 0
    while runs < 2 or spent < enough:
        times = min(1000, max(1, int(0.02 / fastest)))
        seconds = process.run(case, options, times)[1]
        fastest, spent, runs = min(fastest, seconds), spent + seconds * times, runs + times
    return fastest


ROOM = WebPPL()
