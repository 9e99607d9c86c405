"""CPython's own generator tests, with every generator living on in its clones.

    python tests/conformance/run.py [test module ...]

The test modules that are installed with the interpreter run unchanged, doctests included, in one
process each. While they do, `swap.c` clones every generator each time that it comes to rest at a
`yield`, those of unittest, doctest and contextlib too, and lets it go on with what the clone holds.
If a test passes, its generators could not be told from their clones.

A generator that the clone strategy refuses goes on as it is: in a model, replay would take over.
Each reason for that which may occur is listed below, with why; any other one fails the run. Tests that do not
run are listed likewise.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import sysconfig
import unittest
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

MODULES = (
    "test.test_generators",
    "test.test_yield_from",
    "test.test_with",
    "test.test_contextlib",
    "test.test_generator_stop",
    # and others in which generators meet exceptions, tracing, closures and iterators
    "test.test_genexps",
    "test.test_except_star",
    "test.test_exception_group",
    "test.test_raise",
    "test.test_iter",
    "test.test_enumerate",
    "test.test_scope",
    "test.test_sys_settrace",
)

EXCLUDED = {
    "test_20_async_for_loop": "no generator: with any hook, CPython 3.12 reports more exceptions",
}
"""Tests that do not run: name -> reason."""

REFUSALS = {
    r"a generator object was handed": "the test holds a generator that this one advances too",
    r"is an iterator that was handed": "the test holds an iterator that this one advances too",
    r"weakref.* has no rule": "a weak reference would point at the object of another branch",
    r"_AssertRaisesContext": "unittest holds an object of its own across a yield",
    r"_ExceptionPrintContext": "traceback holds an object of its own across a yield",
    r"a Differ object": "difflib holds an object of its own across a yield",
}
"""Why a generator may go on as it is, at one of its suspensions: pattern -> reason."""


def build() -> Any:
    """Compile and import `swap.c` for this interpreter."""
    target = ROOT / "build" / "conformance" / f"swap{sysconfig.get_config_var('EXT_SUFFIX')}"
    target.parent.mkdir(parents=True, exist_ok=True)
    headers = ["-I", ROOT / "contpoutine" / "native", "-isystem", sysconfig.get_path("include")]
    flags = ["-shared", "-fPIC", "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, *headers, HERE / "swap.c", "-o", target], check=True)
    spec = importlib.util.spec_from_file_location("swap", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lives_in_clones() -> bool:
    """Does a generator go on with other objects than those it had, and is it still itself?"""

    def counts() -> Any:
        held = [0]
        places = {id(held)}
        for i in range(3):
            held.append((yield i))
            places.add(id(held))
        return held, len(places) > 1

    def all_of(g: Any) -> Any:
        return (yield from g)

    for g in (counts(), all_of(counts())):
        try:
            for sent in (None, 0, 1, 2):
                g.send(sent)
        except StopIteration as stop:
            if stop.value == ([0, 0, 1, 2], True):
                continue
        return False
    return True


def run(name: str) -> int:
    """Run one module in this process; 0 if all is well."""
    sys.path.insert(0, str(ROOT))
    swap = build()
    # A job in the background is started with the interrupt ignored; these tests raise it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    swap.start()
    works = lives_in_clones()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = unittest.TextTestRunner(verbosity=0, stream=open(os.devnull, "w")).run(
            without(EXCLUDED if sys.version_info >= (3, 12) else {}, suite)
        )
    clones, refused, broken = swap.stop()
    reasons: Counter[str] = Counter()
    for said, times in refused.items():
        known = [why for pattern, why in REFUSALS.items() if re.search(pattern, said)]
        reasons[known[0] if known else f"UNKNOWN: {said}"] += times
    print(f"{name}: {result.testsRun} tests, {clones} clones, {reasons.total()} times as it was")
    for why, times in reasons.most_common():
        print(f"    {times} times: {why}")
    for test, text in [*result.failures, *result.errors]:
        print(f"FAILED {test}\n{text}")
    for error in broken:
        print(f"BROKEN {error}")
    unknown = any(why.startswith("UNKNOWN") for why in reasons)
    if not works:
        print("BROKEN a generator did not live on in its clone")
    return int(not (works and result.wasSuccessful() and clones and not broken and not unknown))


def without(excluded: dict[str, str], suite: unittest.TestSuite) -> unittest.TestSuite:
    kept = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            kept.addTest(without(excluded, test))
        elif test.id().rpartition(".")[2] in excluded:
            print(f"    excluded: {test.id()}: {excluded[test.id().rpartition('.')[2]]}")
        else:
            kept.addTest(test)
    return kept


def main(names: list[str]) -> int:
    if len(names) == 1:
        return run(names[0])
    if importlib.util.find_spec("test.test_generators") is None:
        print("conformance: skipped, this Python was installed without its own tests")
        return 0
    failed = []
    for name in names or MODULES:
        command = [sys.executable, "-X", "faulthandler", Path(__file__), name]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
        sys.stdout.flush()
    print("conformance:", f"failed: {', '.join(failed)}" if failed else "passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
