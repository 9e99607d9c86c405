"""Run the torch-free tests (`core`, `capture`, minicont) on every supported Python of this machine.

    python tests/matrix.py [--strict] [pytest arguments]

Each Python gets an environment of its own (`.venv-3.12`, ...) with pytest, hypothesis, greenlet and no
dependency of the package, so these tests also show that `core` and `capture` load without torch.
The native part is compiled for each with warnings as errors, and CPython's own generator tests run on
clones (see tests/conformance/run.py). A Python that is not found is named and skipped; with
`--strict`, a missing Python and an inactive native capture are failures.

A version manager's shim may be on PATH and answer nothing but an error, so an interpreter counts
only once it has run and said which version it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
TESTS = ("tests/core", "tests/capture", "tests/testing", "tests/examples/test_minicont.py")
CONFORMANCE = "tests/conformance/run.py"
LAWS = "400"  # drawn models; the ordinary run draws more
REQUIREMENTS = ("pytest", "hypothesis", "greenlet", "setuptools")

# Prints what a CPython is with which an environment and an extension can be made.
PROBE = """
import ensurepip, os, sys, sysconfig, venv
if os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print("%d.%d" % sys.version_info[:2], sys.executable)
"""
NATIVE = """
import contpoutine
capabilities = contpoutine.capabilities()
print("native" if capabilities.native else f"replay only: {capabilities.reason}")
"""


def candidates(version: str) -> Iterator[Path]:
    """Where an interpreter of that version may lie: PATH, then what version managers keep."""
    for folder in os.get_exec_path():
        yield Path(folder) / f"python{version}"
    home = Path.home()
    managers = (
        Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions",
        home / ".local/share/uv/python",
        home / ".local/share/mise/installs/python",
    )
    for kept in managers:
        yield from sorted(kept.glob(f"*{version}*/bin/python{version}"), reverse=True)


def find(version: str) -> Path | None:
    """The first interpreter that runs, says it is that version, and can build an extension."""
    for path in candidates(version):
        if not path.exists():
            continue
        probe = subprocess.run([path, "-c", PROBE], capture_output=True, text=True, check=False)
        found, _, executable = probe.stdout.strip().partition(" ")
        if found == version:
            return Path(executable)
    return None


def environment(version: str, interpreter: Path) -> Path:
    """The Python of an environment with the test tools and the package, as it is now."""
    folder = ROOT / f".venv-{version}"
    python = folder / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")

    tools = f"{interpreter}\n{REQUIREMENTS}\n{constraints.read_text()}"
    if stale(folder / ".tools", tools):
        shutil.rmtree(folder, ignore_errors=True)
        run(interpreter, "-m", "venv", folder)
        run(*install, "-c", constraints, *REQUIREMENTS)
        (folder / ".tools").write_text(tools)
    run(python, "setup.py", "--quiet", "build_ext", "--inplace")
    package = (ROOT / "pyproject.toml").read_text()
    if stale(folder / ".package", package):
        run(*install, "--no-deps", "--no-build-isolation", "-e", ROOT)
        (folder / ".package").write_text(package)
    return python


def stale(stamp: Path, wanted: str) -> bool:
    return not stamp.exists() or stamp.read_text() != wanted


def run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, env=os.environ | {"CONTPOUTINE_WERROR": "1"}, check=True)


def check(version: str, interpreter: Path, strict: bool, arguments: list[str]) -> bool:
    """Build and test on one Python; say what was found and whether it passed."""
    try:
        python = environment(version, interpreter)
    except subprocess.CalledProcessError as error:
        print(f"Python {version}: {error}")
        return False
    native = subprocess.run([python, "-c", NATIVE], cwd=ROOT, capture_output=True, text=True)
    print(f"Python {version} at {interpreter}: {(native.stdout or native.stderr).strip()}")
    if strict and native.stdout.strip() != "native":
        return False
    tests: list[str | Path] = [
        python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *TESTS,
        *arguments,
    ]
    settings = {"LAWS": LAWS} | os.environ
    passed = subprocess.run(tests, cwd=ROOT, env=settings, check=False).returncode == 0
    if native.stdout.strip() == "native" and not arguments:
        sys.stdout.flush()
        passed &= subprocess.run([python, CONFORMANCE], cwd=ROOT, check=False).returncode == 0
    return passed


def main(arguments: list[str]) -> int:
    strict = "--strict" in arguments
    arguments = [argument for argument in arguments if argument != "--strict"]
    outcomes: dict[str, str] = {}
    for version in VERSIONS:
        interpreter = find(version)
        if interpreter is None:
            outcomes[version] = "missing" if strict else "skipped (not on this machine)"
            continue
        passed = check(version, interpreter, strict, arguments)
        outcomes[version] = "passed" if passed else "failed"
        sys.stdout.flush()
    print("matrix:", ", ".join(f"{version} {outcome}" for version, outcome in outcomes.items()))
    bad = {"failed", "missing"} & set(outcomes.values())
    return 1 if bad or "passed" not in outcomes.values() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
