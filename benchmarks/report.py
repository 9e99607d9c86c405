"""The results as JSON, with what is needed to judge them: machine, versions, commit."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .runner import Result
from .systems.room import Room

ROOT = Path(__file__).resolve().parent.parent


def environment(rooms: Sequence[Room]) -> dict[str, Any]:
    """The machine, the versions, and the commit that was measured."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "packages": {name: package(name) for name in ("contpoutine", "torch", "pyro-ppl", "numpy")},
        "systems": {room.peer: room.version() for room in rooms},
    }


def git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def case(result: Result) -> dict[str, Any]:
    return {
        "model": result.case.model.name,
        "title": result.case.label,
        "size": result.case.size,
        "order": result.case.order,
        "max_executions": result.case.max_executions,
        "leaves": result.census.leaves,
        "branches": result.census.branches,
        "systems": [
            {
                "name": timing.system,
                "seconds": timing.seconds,
                "median_seconds": timing.median,
                "microseconds_per_branch": result.microseconds_per_branch(timing),
                "ratio": timing.ratio,
            }
            for timing in result.timings
        ],
    }


def write(path: Path, results: Sequence[Result], rooms: Sequence[Room], form: str) -> None:
    """Write it all to a file."""
    content = {
        "form": form,
        "environment": environment(rooms),
        "cases": [case(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
