"""Nothing leaks and nothing crashes, shown in processes of their own (see scenarios.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import contpoutine as cp
from tests.leaks.check import build, debug_interpreter

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def run(
    *arguments: str,
    script: str = "scenarios.py",
    python: str = sys.executable,
    path: Path = ROOT,
) -> str:
    result = subprocess.run(
        [python, "-X", "faulthandler", HERE / script, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(path)},
        timeout=600,
    )
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]
    return result.stdout


needs_native = pytest.mark.skipif(not cp.capabilities().native, reason="about the C extension")


@needs_native
@pytest.mark.skipif(
    debug_interpreter() is None or not shutil.which("gcc"), reason="needs a debug interpreter"
)
def test_references_are_flat_on_a_debug_interpreter(tmp_path):
    debug = debug_interpreter()
    build(debug, tmp_path / "debug")
    run("references", python=debug, path=tmp_path / "debug")
    run("cycles", "20000", python=debug, path=tmp_path / "debug")


@needs_native
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_resident_memory_is_flat():
    run("memory", "150")
    run("paths", "100000")


@needs_native
@pytest.mark.parametrize("seed", [1, 2])
def test_a_few_seconds_of_fuzzing_do_not_crash(seed):
    assert "0 of which failed" in run("3", str(seed), script="fuzz.py")
