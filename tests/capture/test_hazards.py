"""The hazards of resuming twice, and the tests that hold the library to each of them.

The numbers are those of the house's list. A name in the table is a test: one of `tests/capture` where
nothing else is said. Each of them runs under every capture strategy, or says why one is refused.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent

HAZARDS: dict[int, tuple[str, list[str]]] = {
    1: (
        "lists, dicts, sets changed by one branch, seen by another",
        [
            "test_containers: a list changed by one branch is not seen by another",
            "test_containers: a dict changed by one branch is not seen by another",
            "test_containers: a set changed by one branch is not seen by another",
        ],
    ),
    2: (
        "aliases: two locals, one list; a list in a tuple; a list that contains itself",
        [
            "test_containers: two names of one list stay one list",
            "test_containers: a list inside a tuple and beside it stay one list",
            "test_containers: a list that contains itself is copied as such",
            "test_containers: objects that refer to each other",
        ],
    ),
    3: (
        "cells: inner functions and lambdas that close over a rebound local; nonlocal",
        [
            "test_closures: an inner function that rebinds a local",
            "test_closures: lambdas that close over a loop variable",
            "test_closures: two functions share one cell",
        ],
    ),
    4: (
        "iterators of every kind; iterators over owned lists that grow",
        [
            "test_iterators: an iterator in a local goes on from its own place",
            "test_iterators: an iterator of a loop goes on from its own place",
            "test_iterators: an iterator that cannot be copied is refused by name and replayed",
            "test_iterators: a list that grows while it is iterated",
            "test_iterators: two halves of a tee read one source",
            "test_iterators: groupby and the group that it gave last",
            "test_iterators: an iterator given as an argument is refused by name",
        ],
    ),
    5: (
        "generators and generator expressions held in a local, half consumed",
        [
            "test_generators: a half consumed generator in a local",
            "test_closures: generator expressions close over locals",
        ],
    ),
    6: (
        "with and try/finally around a yield, and abandoned branches",
        [
            "test_cleanup: finally runs once in each branch",
            "test_cleanup: contextlib contextmanager in each branch",
            "test_cleanup: an abandoned branch runs nothing",
            "test_cleanup: a frame that reaches itself runs nothing when its branch is given up",
        ],
    ),
    7: (
        "a capture inside except, and the exception state; bare raise after a resume",
        [
            "test_cleanup: a capture inside except keeps the exception being handled",
            "test_cleanup: a bare raise after a resume",
        ],
    ),
    8: (
        "half-built displays and calls; f-strings and comparison chains with a yield inside",
        [
            "test_containers: half built displays belong to their branch",
            "test_containers: half built calls belong to their branch",
            "test_containers: a display longer than thirty is built in its branch",
            "test_containers: f strings comparison chains and boolean operators around a yield",
        ],
    ),
    9: (
        "bound methods kept in a local",
        [
            "test_containers: a bound method in a local belongs to the copied object",
            "test_containers: every kind of bound c method belongs to the copied object",
            "test_containers: a bound method of a user instance is never shared",
        ],
    ),
    10: (
        "instances, slots, dataclasses, NamedTuples, enums, the containers of collections, subclasses",
        [
            "test_containers: instances of user classes are never shared",
            "test_containers: slots private names and unset attributes",
            "test_containers: frozen dataclasses are shared like tuples and may be keys",
            "test_containers: named tuples and enums",
            "test_containers: deques defaultdicts counters and ordered dicts are copied",
            "test_containers: a list subclass with attributes and cycles",
            "test_fork: subclasses of mappings keep their order and their attributes",
            "test_fork: subclasses of sets tuples numbers and generators",
            "test_fork: bounded deques members of enumerations and partials of methods",
            "test_fork: a fork method copies with aliases kept",
        ],
    ),
    11: (
        "tensors changed in place, gradients, parameters; NumPy arrays and views on one buffer",
        [
            "capture_torch/test_tensors: a tensor changed in place is not seen by another branch",
            "capture_torch/test_tensors: gradients flow to parameters from every branch",
            "capture_torch/test_tensors: a module and its parameters given as arguments are shared",
            "capture_torch/test_tensors: numpy arrays and views are never shared",
            "capture_torch/test_tensors: numpy arrays of every layout keep their layout",
            "capture_torch/test_in_place: after the first branches nothing is replayed any more",
            "capture_torch/test_in_place: "
            "a copied tensor keeps its aliases its layout and its attributes",
        ],
    ),
    12: (
        "random.Random, torch.Generator, NumPy generators held by the model",
        [
            "test_lifecycle: a random generator held by the model is its own in every branch",
            "capture_torch/test_tensors: a torch generator held by the model is never shared",
            "capture_torch/test_tensors: numpy generators held by the model are never shared",
            "capture_torch/test_tensors: unnamed torch and numpy numbers before a capture are kept",
        ],
    ),
    13: (
        "handler state: trace, a user's Messenger, plates entered before and after the capture",
        [
            "test_handlers: a stateful handler made by the model",
            "test_handlers: a handler entered before and left after a capture",
            "poutine/test_log_joint: the second handler has the log joint of its branch",
            "poutine/test_log_joint: the first handler conditions and weighs in its own branch",
        ],
    ),
    14: (
        "an inner handler's half-run clause captured by an outer handler",
        [
            "test_handlers: a pending clause is captured by a handler further out",
            "test_handlers: pending clauses of two handlers are captured",
        ],
    ),
    15: (
        "frames already looked at",
        [
            "test_lifecycle: frames that were looked at",
            "test_lifecycle: a frame kept in a local is never shared",
            "test_lifecycle: frames of stored continuations can be looked at",
        ],
    ),
    16: (
        "capture under coverage, a profiler, sys.settrace, sys.monitoring",
        [
            "test_lifecycle: capture under a tracer",
            "test_lifecycle: capture under monitoring that is switched on and off between branches",
            "test_lifecycle: a tracer switched on between capture and resumption",
        ],
    ),
    17: (
        "reference cycles through a suspended frame",
        [
            "test_lifecycle: a cycle through a suspended frame is collected",
            "test_cleanup: a continuation in a reference cycle is collected and runs nothing",
        ],
    ),
    18: (
        "interpreter shutdown with suspended branches alive",
        ["test_lifecycle: interpreter shutdown with suspended branches alive"],
    ),
    19: (
        "running and finished generators",
        [
            "test_generators: generators that have not begun or have finished",
            "test_generators: a generator that runs while the model is captured is refused",
        ],
    ),
    20: (
        "async generators and coroutines",
        [
            "test_generators: async generators and coroutines are refused by name",
            "test_generators: async functions are no models",
        ],
    ),
    21: (
        "resuming on another thread",
        [
            "test_lifecycle: a captured computation moves to another thread",
            "test_lifecycle: a thread that ends leaves its continuations usable",
        ],
    ),
    22: (
        "StopIteration values and return in finally",
        [
            "test_cleanup: a return in finally swallows in its own branch",
            "test_cleanup: stop iteration inside a model is a runtime error in its branch",
            "test_cleanup: stop iteration values of sub models",
        ],
    ),
    23: (
        "deep chains of yield from",
        [
            "test_generators: a deep chain of yield from",
            "test_generators: a chain of three thousand calls on the machines stack",
        ],
    ),
    24: (
        "a million live continuations (LIVE=1000000; the ordinary run keeps 30,000)",
        ["test_lifecycle: many live continuations"],
    ),
    25: (
        "exceptions thrown into one branch: tracebacks do not mix",
        ["test_cleanup: exceptions thrown into one branch do not show in another"],
    ),
    26: (
        "match statements, walrus, del x, unbound locals, global",
        [
            "test_syntax: match statements around and with yields",
            "test_syntax: walrus in conditions with yields",
            "test_syntax: deleted and unbound locals",
            "test_closures: a global bound by the model is read again",
            "test_explain: a global that is assigned is noted with its line",
        ],
    ),
    27: (
        "class bodies and super() in a model; methods, partials, callables, decorators as models",
        [
            "test_closures: a class made by the model is never shared",
            "test_closures: an instance of a class made by the model is never shared",
            "test_closures: methods callables partials and decorated functions as models",
        ],
    ),
}


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_hazard_is_in_the_table():
    assert sorted(HAZARDS) == list(range(1, 28))


@pytest.mark.parametrize("number", HAZARDS)
def test_each_hazard_has_tests_of_its_own(number):
    _, names = HAZARDS[number]
    assert names
    for name in names:
        module, sentence = name.split(": ")
        folder = TESTS if "/" in module else TESTS / "capture"
        test = "test_" + sentence.replace(" ", "_")
        assert test in names_in(folder / f"{module}.py"), f"there is no {test} in {module}"
