"""Threads and asyncio tasks that run models at once do not see each other's handlers."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.core.ambient import AMBIENT
from tests.capture.law import choose

ask = cp.operation("ask")
WORKERS = 8
ROUNDS = 30


class Named(cp.Messenger):
    """Answers `ask` with its own name, and counts what it saw."""

    def __init__(self, name):
        self.name, self.seen = name, 0

    def _pyro_ask(self, msg):
        self.seen += 1
        msg["value"], msg["stop"] = self.name, True


class All(cp.Handler):
    """Every answer, in order."""

    def on_choose(self, msg, k):
        results = []
        for value in msg["args"]:
            results += yield k(value)
        return results

    def on_return(self, value):
        return [value]


def model():
    """Who answers before, between and after two choices?"""
    seen = [(yield ask())]
    seen.append((yield choose(0, 1)))
    with Named("inner"):
        seen.append((yield ask()))
        seen.append((yield choose(0, 1)))
        seen.append((yield ask()))
    seen.append((yield ask()))
    return seen


def expected(name):
    return [[name, a, "inner", b, "inner", name] for a in (0, 1) for b in (0, 1)]


def rounds(name):
    """Run the model under a handler of this name, and continuations kept from one round to the next."""
    for _ in range(ROUNDS):
        handler = Named(name)
        with handler:
            assert cp.run(cp.handle(All(), model)) == expected(name)
        assert handler.seen == 1 + 4
        assert AMBIENT.get() == ()


@pytest.fixture
def switching():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work):
    problems = []

    def safely(i):
        try:
            work(i)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=safely, args=(i,)) for i in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not problems, problems


def test_threads_have_handlers_of_their_own(capture, switching):
    with Named("main"):
        in_threads(lambda i: rounds(f"thread {i}"))


def test_threads_enumerate_at_once(switching):
    def coins(p):
        xs = []
        for i in range(4):
            xs.append((yield cp.sample(f"x{i}", dist.Flip(p))))
        return sum(xs)

    def work(i):
        p = (i + 1) / (WORKERS + 1)
        for _ in range(10):
            posterior = cp.infer.enumerate(coins)(p)
            assert posterior.marginal()[4] == pytest.approx(p**4)

    in_threads(work)


def test_threads_resume_one_continuation_at_once(switching):
    kept = []

    class Keep(cp.Handler):
        def on_choose(self, msg, k):
            kept.append(k)
            return None
            yield

    def two():
        xs = []
        xs.append((yield choose(0, 1)))
        xs.append((yield ask()))
        return xs

    cp.run(cp.handle(Keep(), two))
    (k,) = kept

    def work(i):
        for turn in range(400):
            with Named(i):
                assert cp.run(k(turn)) == [turn, i]

    in_threads(work)


def test_tasks_have_handlers_of_their_own(capture):
    async def task(i):
        handler = Named(f"task {i}")
        with handler:
            for _ in range(5):
                await asyncio.sleep(0)
                assert cp.run(cp.handle(All(), model)) == expected(f"task {i}")
                assert AMBIENT.get() == (handler,)
        assert AMBIENT.get() == ()

    async def main():
        await asyncio.gather(*(task(i) for i in range(WORKERS)))

    asyncio.run(main())


def test_a_continuation_resumed_in_a_task_sees_the_handlers_of_that_task(capture):
    kept = []

    class Keep(cp.Handler):
        def on_choose(self, msg, k):
            kept.append(k)
            return None
            yield

    def two():
        with Named("inner"):
            x = yield choose(0, 1)
            inner = yield ask()
        return x, inner, (yield ask())

    cp.run(cp.handle(Keep(), two))

    async def task(i):
        with Named(i):
            await asyncio.sleep(0)
            return cp.run(kept[0](i))

    async def main():
        return await asyncio.gather(*(task(i) for i in range(WORKERS)))

    assert asyncio.run(main()) == [(i, "inner", i) for i in range(WORKERS)]
