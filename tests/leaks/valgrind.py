"""Run a command under valgrind, and fail on what it finds in the extension.

    python tests/leaks/valgrind.py COMMAND ...

An interpreter that was not built for valgrind draws reports of its own. Those are counted; a report
with a frame of `contpoutine._native` in its stack is shown, and fails. So does the command's failure.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

OURS = re.compile(r"_native\.|\((clone|outside|message|explorer|tally|randomness|module)\.c:")


def main(command: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.%p"
        valgrind = ["valgrind", "-q", "--leak-check=no", "--num-callers=20", f"--log-file={log}"]
        environment = os.environ | {"PYTHONMALLOC": "malloc"}
        status = subprocess.run([*valgrind, *command], env=environment, check=False).returncode
        reports = [
            report
            for file in Path(folder).iterdir()
            for report in re.split(r"(?m)^==\d+== $", file.read_text(errors="replace"))
            if report.strip()
        ]
    ours = [report for report in reports if OURS.search(report)]
    print("\n".join(ours[:10]))
    print(f"valgrind: {len(ours)} reports about the extension, {len(reports) - len(ours)} others")
    return status or int(bool(ours))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
