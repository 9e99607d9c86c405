"""What memory an enumeration takes: a process of its own each, without torch.

The peak is the resident size of the whole process, the interpreter included. A suspended branch is
what resident memory grows by for each execution that waits in the frontier of a breadth-first
search, its share of the execution tree included.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

MODEL = """
import resource, sys, time
import contpoutine as cp
import contpoutine.distributions as dist

def flips(n):
    heads = 0
    for _ in range(n):
        heads += yield cp.sample("x", dist.Flip(0.5))
    return heads

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
"""

PEAK = (
    MODEL
    + """
posterior = cp.infer.enumerate(flips)(20)
posterior.marginal()
# Not getrusage: its peak includes that of the process which started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(peak.split()[1]) * 1024)
"""
)

SUSPENDED = (
    MODEL
    + """
cp.infer.enumerate(flips)(4)
before = resident()
from contpoutine.infer.driver import Driver
from contpoutine.infer.enumeration import make_explorer
search = make_explorer(Driver(flips, (40,), {}, "auto"), "breadth_first")
search.run(-1, time.monotonic() + 1.0)
waiting = len(search.frontier()[0]) / 2  # each waits with two values
print((resident() - before) / waiting)
"""
)


def measure() -> list[str]:
    """The lines to print under the table; none where the system does not tell."""
    if not Path("/proc/self/statm").exists():
        return []
    peak, suspended = (_run(code) for code in (PEAK, SUSPENDED))
    return [
        f"memory: 20 flips depth first, 1,048,576 leaves: {peak / 2**20:.0f} MiB at the peak",
        f"memory: a suspended branch of a small model: {suspended:.0f} bytes",
    ]


def _run(code: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


if __name__ == "__main__":
    print("\n".join(measure()))
