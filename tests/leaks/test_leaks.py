"""Nothing leaks and nothing crashes, shown in processes of their own (see scenarios.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import contpoutine as cp

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def run(*arguments: str, python: str = sys.executable, path: Path = ROOT) -> str:
    result = subprocess.run(
        [python, "-X", "faulthandler", HERE / "scenarios.py", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(path)},
        timeout=600,
    )
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]
    return result.stdout


needs_native = pytest.mark.skipif(not cp.capabilities().native, reason="about the C extension")


DEBUG = shutil.which(f"python{sys.version_info[0]}.{sys.version_info[1]}-dbg")
WHERE = "import sysconfig as s; print(s.get_path('include'), s.get_config_var('EXT_SUFFIX'))"


@needs_native
@pytest.mark.skipif(DEBUG is None or not shutil.which("gcc"), reason="needs a debug interpreter")
def test_references_are_flat_on_a_debug_interpreter(tmp_path):
    shutil.copytree(ROOT / "contpoutine", tmp_path / "contpoutine")
    found = subprocess.run([DEBUG, "-c", WHERE], capture_output=True, text=True, check=True)
    include, suffix = found.stdout.split()
    sources = sorted((tmp_path / "contpoutine" / "native").glob("*.c"))
    # not as a system directory: gcc would resolve Debian's links to the headers of the other build
    extension = tmp_path / "contpoutine" / f"_native{suffix}"
    flags = ("-shared", "-fPIC", "-std=c11", "-g", "-O1", "-UNDEBUG", f"-I{include}")
    subprocess.run(["gcc", *flags, *sources, "-o", extension], check=True)
    run("references", python=DEBUG, path=tmp_path)


@needs_native
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_resident_memory_is_flat():
    run("memory", "150")


@needs_native
@pytest.mark.parametrize("seed", [1, 2])
def test_a_few_seconds_of_fuzzing_do_not_crash(seed):
    assert "fuzz:" in run("fuzz", "3", str(seed))
