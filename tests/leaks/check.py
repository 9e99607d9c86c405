"""Every leak check there is: `make leaks`.

On the interpreter that runs this: resident memory, over the scenarios and over a million paths. On a
debug interpreter (Debian's python3.11-dbg), where the references of the whole process are counted:
the scenarios, 100,000 times clone, resume and drop, and each test of tests/capture, run again and
again. Where there is no debug interpreter, that part is skipped and says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCENARIOS = HERE / "scenarios.py"

WHERE = "import sysconfig as s; print(s.get_path('include'), s.get_config_var('EXT_SUFFIX'))"


def debug_interpreter() -> str | None:
    """A debug build of this version of Python, if there is one on this machine."""
    return shutil.which(f"python{sys.version_info[0]}.{sys.version_info[1]}-dbg")


def build(python: str | Path, folder: Path) -> None:
    """A copy of the package in `folder`, with the extension compiled for a debug interpreter."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("contpoutine", "tests"):
        built = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=built)
    shutil.copy(ROOT / "pyproject.toml", folder)
    found = subprocess.run([python, "-c", WHERE], capture_output=True, text=True, check=True)
    include, suffix = found.stdout.split()
    sources = sorted((folder / "contpoutine" / "native").glob("*.c"))
    # not as a system directory: gcc would resolve Debian's links to the headers of the other build
    extension = folder / "contpoutine" / f"_native{suffix}"
    flags = ("-shared", "-fPIC", "-std=c11", "-g", "-O1", "-UNDEBUG", f"-I{include}")
    subprocess.run(["gcc", *flags, *sources, "-o", extension], check=True)


def run(*command: str | Path, where: Path = ROOT) -> bool:
    environment = os.environ | {"PYTHONPATH": str(where)}
    return subprocess.run(command, cwd=where, env=environment, check=False).returncode == 0


def main() -> int:
    passed = run(sys.executable, SCENARIOS, "memory")
    passed &= run(sys.executable, SCENARIOS, "paths")
    debug = debug_interpreter()
    if debug is None:
        print("leaks: references are not counted, there is no debug interpreter here")
        return int(not passed)
    folder = ROOT / "build" / "debug"
    build(debug, folder)
    passed &= run(debug, SCENARIOS, "references", where=folder)
    passed &= run(debug, SCENARIOS, "cycles", where=folder)
    tools = ROOT / ".venv-debug"
    python = tools / "bin" / "python"
    if not python.exists():
        run(debug, "-m", "venv", tools)
        run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", "pytest",
            "hypothesis")  # fmt: skip
    repeated = (
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.leaks.repeating",
        "tests/capture",
        "-k",
        "not registered",
    )  # what is registered stays so when the test runs again
    passed &= run(python, "-m", "pytest", *repeated, *sys.argv[1:], where=folder)
    print("leaks:", "none found" if passed else "found, see above")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
