"""What the leak checks and the fuzzer do again and again. Run as a script, in a process of its own:

    python tests/leaks/scenarios.py references [ROUNDS]   total references are flat over each scenario
    python tests/leaks/scenarios.py cycles [N]            ... over N times clone, resume and drop
    python tests/leaks/scenarios.py memory [ROUNDS]       resident memory is flat
    python tests/leaks/scenarios.py paths [N]             ... over N paths of a tree

Total references are counted by debug interpreters only.

Each scenario is a function that leaves nothing behind.
"""

from __future__ import annotations

import array
import contextlib
import gc
import itertools
import random
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any, NamedTuple

import contpoutine as cp
from contpoutine.core.capture import STRATEGY

choose = cp.operation("choose")
flip = cp.operation("flip")


class Keep(cp.Handler):
    def on_choose(self, msg: Any, k: Any) -> Any:
        return k
        yield


class Two(cp.Handler):
    def on_flip(self, msg: Any, k: Any) -> Any:
        return [(yield k(0)), (yield choose()), (yield k(1))]


class Count(cp.Messenger):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def _pyro_post_choose(self, msg: Any) -> None:
        self.seen.append(msg["value"])


class Point(NamedTuple):
    x: Any
    y: Any


class Thing:
    """What a user writes."""

    __slots__ = ("__dict__", "slot")

    def __init__(self, held: Any) -> None:
        self.held, self.slot = held, [held]


def sub(xs: list[Any]) -> Any:
    try:
        xs.append((yield choose()))
        xs.append((yield choose()))
    finally:
        xs.append("end")
    return xs


def worker(n: int) -> Any:
    try:
        for i in range(n):
            yield i
    finally:
        pass


def rich(extra: Any = None) -> Any:
    xs: list[Any] = [1, 2]
    d = {"a": xs, "b": {}}
    d["me"] = d
    s = {1, 2, 33, 65}
    s.discard(2)
    others = (
        deque([xs], 5),
        defaultdict(list, a=xs),
        Counter("aab"),
        OrderedDict(a=1),
        Point(xs, s),
    )
    its = [
        iter(xs),
        enumerate(xs),
        zip(xs, itertools.count()),
        map(str, xs),
        iter(d.items()),
        iter(s),
        itertools.chain(xs, "ab"),
        itertools.islice(itertools.cycle(xs), 9),
        itertools.zip_longest(xs, [1]),
        (x for x in xs),
        worker(3),
    ]
    for it in its:
        next(it)
    thing = Thing(xs)
    rng = random.Random(3)
    n = 0

    def step(by: Any = None, kept: list[Any] = []) -> Any:  # noqa: B006
        nonlocal n
        n += 1
        kept.append(by)
        return step

    push = xs.append
    wrapped = d.__setitem__
    error: Any = None
    with Count() as count:
        for i in range(2):
            push((yield choose()))
            try:
                raise ValueError(xs, i)
            except ValueError as caught:
                error = caught
                wrapped("b", (yield choose(xs)))
        text = f"{[*xs, (yield choose())]}"
        result = yield sub(xs)
        result = yield from sub(xs)
    step(text)
    thing.held.append(rng.random())
    return xs, d, s, others, [list(itertools.islice(it, 3)) for it in its], n, result, error, count


def refused() -> Any:
    w = worker(2)
    next(w)
    request = choose(w)
    thing = threading.Lock()
    yield choose()
    return w, thing, (yield request)


def thrower() -> Any:
    try:
        yield choose()
    except ValueError as error:
        return error, (yield choose())


def nested() -> Any:
    def inner() -> Any:
        a = yield flip()
        return a, (yield choose())

    return (yield cp.handle(Two(), inner)())


def tree(k: Any, depth: int) -> None:
    if depth and hasattr(k, "throw"):
        for value in (0, [1]):
            tree(cp.run(k(value)), depth - 1)


def clone_and_discard(n: int = 20) -> None:
    k = cp.run(cp.handle(Keep(), rich))
    for _ in range(n):
        k._snapshot.fork(k.origin.outside)


def resume_deep() -> None:
    tree(cp.run(cp.handle(Keep(), rich)), 4)


def resume_to_the_end() -> None:
    k = cp.run(cp.handle(Keep(), rich))
    while hasattr(k, "throw"):
        k = cp.run(k(3))


def refuse() -> None:
    k = cp.run(cp.handle(Keep(), refused))
    with contextlib.suppress(cp.errors.CaptureError):
        k._snapshot.fork(k.origin.outside)
    tree(k, 2)


def throw() -> None:
    k = cp.run(cp.handle(Keep(), thrower))
    for _ in range(3):
        later = cp.run(k.throw(ValueError(1)))
        cp.run(later(2))
        with contextlib.suppress(KeyError):
            cp.run(k.throw(KeyError(2)))


def nest() -> None:
    tree(cp.run(cp.handle(Keep(), nested)), 3)


def cycle() -> None:
    box: list[Any] = []
    k = cp.run(cp.handle(Keep(), rich), box)
    box.append(k)
    box.append(cp.run(k(1)))


def replay() -> None:
    token = STRATEGY.set("replay")
    try:
        tree(cp.run(cp.handle(Keep(), rich)), 3)
    finally:
        STRATEGY.reset(token)


def messages() -> None:
    msg = cp.Message(type="t", args=([],), mine=1)
    msg.perform()
    msg["infer"]["a"] = msg.copy()
    msg.update({"x": 1}, y=2)
    dict(msg.items())
    with contextlib.suppress(cp.errors.UnperformedEffectError):
        choose() + 1
    body = sub([])
    body.send(None).perform()
    body.close()


def enumerate_coins() -> None:
    dist = cp.distributions

    def model() -> Any:
        xs = []
        for i in range(4):
            xs.append((yield cp.sample(f"x{i}", dist.Flip(0.5))))
        yield cp.observe("o", dist.Flip(0.9 if xs[0] else 0.0), True)
        return sum(xs)

    cp.infer.enumerate(model)().marginal()
    cp.infer.enumerate(model, order="likely_first", max_executions=3)()
    cp.infer.enumerate(model, order="breadth_first", max_executions=3)()


SCENARIOS = [
    clone_and_discard,
    resume_deep,
    resume_to_the_end,
    refuse,
    throw,
    nest,
    cycle,
    replay,
    messages,
    enumerate_coins,
]


def flat_references(rounds: int) -> None:
    total = sys.gettotalrefcount  # type: ignore[attr-defined]
    for scenario in SCENARIOS:
        counts = array.array("q", [0] * (rounds + 3))  # its numbers are no objects
        for i in range(rounds + 3):
            scenario()
            gc.collect()
            counts[i] = total()
        growth = [b - a for a, b in itertools.pairwise(counts[3:])]
        # a cache may grow now and then; a leak grows every time
        median = sorted(growth)[len(growth) // 2]
        print(f"{scenario.__name__}: {median} references a round ({growth[-5:]})")
        assert median <= 0, f"{scenario.__name__} leaks {median} references a round"


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4


def flat_memory(rounds: int) -> None:
    for scenario in SCENARIOS:
        for _ in range(rounds // 4):
            scenario()
        gc.collect()
        before = resident()
        for _ in range(rounds):
            scenario()
        gc.collect()
        growth = resident() - before
        print(f"{scenario.__name__}: {growth} KB in {rounds} rounds")
        assert growth < 4000, f"{scenario.__name__} grew by {growth} KB"


def flat_cycles(n: int) -> None:
    """Clone, resume and drop, `n` times in ten batches."""
    k = cp.run(cp.handle(Keep(), rich))
    alive = [None, None]
    total = sys.gettotalrefcount  # type: ignore[attr-defined]
    counts = array.array("q", [0] * 11)
    for batch in range(11):
        for i in range(n // 10):
            k._snapshot.fork(k.origin.outside)
            alive[i % 2] = cp.run(k(i % 2))
        gc.collect()
        counts[batch] = total()
    growth = [b - a for a, b in itertools.pairwise(counts)]
    print(f"{n} times clone, resume, drop: references grew by {growth[1:]} in each tenth")
    assert sorted(growth[1:])[len(growth) // 2] <= 0, growth


class Paths(cp.Handler):
    """Goes down every path, and keeps nothing."""

    def on_flip(self, msg: Any, k: Any) -> Any:
        return (yield k(0)) + (yield k(1))

    def on_return(self, value: Any) -> int:
        return 1


def flat_paths(n: int) -> None:
    """Trees of 4,096 paths until there were `n`: resident memory after each tenth."""

    def model() -> Any:
        xs = []
        for _ in range(12):
            xs.append((yield flip()))
        return xs

    sizes, paths = [], 0
    for tenth in range(11):
        while paths < n * tenth // 10:
            paths += cp.run(cp.handle(Paths(), model))
        gc.collect()
        sizes.append(resident())
    print(f"{paths} paths: {sizes} KB after each tenth")
    assert sizes[-1] - sizes[2] < 2000, sizes


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    check, usual = {
        "references": (flat_references, 12),
        "cycles": (flat_cycles, 100_000),
        "memory": (flat_memory, 300),
        "paths": (flat_paths, 1_000_000),
    }[what]
    check(int(numbers[0]) if numbers else usual)
