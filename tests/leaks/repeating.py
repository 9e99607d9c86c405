"""A pytest plugin: each test runs again and again, and must not leave more behind every time.

    python -m pytest -p tests.leaks.repeating tests/capture

What is counted is the total of all references on a debug interpreter, and the memory blocks of
Python's allocator on any other. A cache may grow now and then; a leak grows with every run.
"""

from __future__ import annotations

import array
import gc
import itertools
import sys
from collections.abc import Iterator

import pytest

WARM, ROUNDS = 2, 5

total = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    result = yield
    if getattr(pyfuncitem.obj, "is_hypothesis_test", False):
        return result  # it draws something else every time
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    counts = array.array("q", [0] * (WARM + ROUNDS))  # its numbers are no objects
    for i in range(WARM + ROUNDS):
        pyfuncitem.obj(**arguments)
        gc.collect()
        counts[i] = total()
    growth = [b - a for a, b in itertools.pairwise(counts[WARM:])]
    if min(growth) > 0:
        pytest.fail(f"each run leaves more behind than the one before: {growth}")
    return result
