"""The machine: depth without recursion, what may be yielded, threads and tasks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.core.ambient import AMBIENT
from contpoutine.errors import BadYieldError, NotAModelError

ask = cp.operation("ask")


class Answer(cp.Messenger):
    def __init__(self, value=1):
        self.value = value

    def _pyro_ask(self, msg):
        msg["value"], msg["stop"] = self.value, True


def test_a_hundred_thousand_sites():
    def model():
        total = 0
        for _ in range(100_000):
            total += yield ask()
        return total

    with Answer():
        assert cp.run(model) == 100_000


def test_a_hundred_thousand_captures_that_are_resumed_once(capture):
    class Once(cp.Handler):
        def on_ask(self, msg, k):
            return k(1)
            yield

    def model(n):
        total = 0
        for _ in range(n):
            total += yield ask()
        return total

    assert cp.run(cp.handle(Once(), model), 100_000) == 100_000


def test_ten_thousand_nested_calls():
    def nest(n):
        if n == 0:
            return (yield ask())
        return (yield nest(n - 1)) + 1

    with Answer(0):
        assert cp.run(nest, 10_000) == 10_000


def test_an_exception_through_ten_thousand_nested_calls():
    def nest(n):
        if n == 0:
            raise KeyError("deep")
        return (yield nest(n - 1))

    with pytest.raises(KeyError, match="deep"):
        cp.run(nest, 10_000)


def test_ten_thousand_pending_clauses(capture):
    class Pending(cp.Handler):
        def on_ask(self, msg, k):
            result = yield k(1)
            return result + 1

    def model():
        for _ in range(10_000):
            yield ask()
        return 0

    assert cp.run(cp.handle(Pending(), model)) == 10_000


def test_ten_thousand_nested_handlers():
    class Add(cp.Handler):
        def on_return(self, value):
            return value + 1

    def nest(n):
        if n == 0:
            return (yield ask())
        return (yield cp.handle(Add(), nest)(n - 1))

    with Answer(0):
        assert cp.run(nest, 3_000) == 3_000


class CustomDistribution:
    def log_prob(self, value):
        return 0.0


async def coroutine():
    pass


def bad_yields():
    return {
        "None": (lambda: None, "bare `yield` asks for nothing"),
        "number": (lambda: 3, "use `return`"),
        "list": (lambda: [1], "use `return`"),
        "distribution": (lambda: dist.Flip(0.5), r'x = yield sample\("x", distribution\)'),
        "own distribution": (CustomDistribution, "drawn from by name"),
        "function": (lambda: bad_yields, r"Call it: `yield bad_yields\(\.\.\.\)`"),
        "class": (lambda: dict, r"Call it: `yield dict\(\.\.\.\)`"),
        "handler": (lambda: cp.Handler(), "A model yields effects"),
        "tuple": (lambda: (1, 2), "use `return`"),
        "string": (lambda: "x" * 500, r"\.\.\."),
    }


@pytest.mark.parametrize("what", bad_yields())
def test_a_bad_yield_is_refused_with_what_was_probably_meant(what):
    make, hint = bad_yields()[what]

    def model():
        yield make()

    with pytest.raises(BadYieldError, match=hint) as caught:
        cp.run(model)
    text = str(caught.value)
    assert "test_machine.py:" in text and "in test_a_bad_yield" in text
    assert len(text) < 700


def test_a_coroutine_is_a_bad_yield():
    def model():
        c = coroutine()
        try:
            yield c
        finally:
            c.close()

    with pytest.raises(BadYieldError, match="plain generators"):
        cp.run(model)


def test_a_bad_yield_can_be_caught_by_the_model_and_names_the_innermost_line():
    def inner():
        try:
            yield 3
        except BadYieldError as error:
            return str(error)

    def model():
        return (yield from inner())

    assert "in test_a_bad_yield_can_be_caught_by_the_model_and_names_the_innermost_line" in cp.run(
        model
    )


def test_a_generator_that_runs_or_has_finished_is_a_bad_yield():
    def sub():
        yield ask()
        return 1

    def finished():
        g = sub()
        yield g
        yield g

    def begun():
        g = sub()
        next(g).perform()
        yield g

    for model in (finished, begun):
        with Answer(), pytest.raises(BadYieldError, match="already running or has finished"):
            cp.run(model)


@pytest.mark.parametrize(
    "model",
    [3, None, "text", len, lambda: 3, dict],
    ids=["number", "None", "text", "builtin", "plain function", "class"],
)
def test_what_is_no_model_is_refused(model):
    with pytest.raises(NotAModelError):
        cp.run(model, *(["x"] if model is len else []))


def test_a_called_model_is_refused_with_a_hint():
    def model():
        yield ask()

    with pytest.raises(NotAModelError, match="pass the function"):
        cp.run(model())


def test_a_model_that_returns_a_generator_is_a_model():
    def body(n):
        return (yield ask()) + n

    with Answer():
        assert cp.run(lambda n: body(n), 2) == 3


def test_tracebacks_of_a_model_do_not_show_the_machine_between_its_frames():
    def sub():
        raise KeyError("here")
        yield

    def model():
        yield ask()
        yield sub()

    with Answer(), pytest.raises(KeyError) as caught:
        cp.run(model)
    names = [entry.name for entry in caught.traceback]
    assert names[-1] == "sub" and "model" in names


def test_threads_do_not_see_each_others_handlers(capture):
    barrier = threading.Barrier(4)
    results = {}

    class Twice(cp.Handler):
        def __init__(self, name):
            self.name = name

        def on_choose(self, msg, k):
            barrier.wait(10)
            return (yield from both(k))

    def both(k):
        first = yield k(1)
        barrier.wait(10)
        second = yield k(2)
        return [first, second]

    choose = cp.operation("choose")

    def model(name):
        a = yield ask()
        b = yield choose()
        barrier.wait(10)
        return name, a, b, (yield ask())

    def work(i):
        with Answer(i):
            results[i] = cp.run(cp.handle(Twice(i), model), i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {i: [(i, i, 1, i), (i, i, 2, i)] for i in range(4)}
    assert AMBIENT.get() == ()


def test_asyncio_tasks_do_not_see_each_others_handlers(capture):
    def model(i):
        return i, (yield ask())

    async def task(i):
        with Answer(i):
            await asyncio.sleep(0)
            first = cp.run(model, i)
            await asyncio.sleep(0)
            return first, cp.run(model, i)

    async def main():
        return await asyncio.gather(*(task(i) for i in range(5)))

    assert asyncio.run(main()) == [((i, i), (i, i)) for i in range(5)]


def test_a_continuation_is_resumed_on_another_thread(capture):
    kept = []
    choose = cp.operation("choose")

    class Keep(cp.Handler):
        def on_choose(self, msg, k):
            kept.append(k)
            return None
            yield

    def model():
        xs = [(yield ask())]
        with Answer("inner"):
            xs.append((yield choose()))
            xs.append((yield ask()))
        xs.append((yield ask()))
        return xs

    with Answer("first"):
        cp.run(cp.handle(Keep(), model))
    results = []

    def work(i):
        with Answer(i):
            results.append((i, cp.run(kept[0](i))))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
        thread.join()
    assert sorted(results) == [(i, ["first", i, "inner", i]) for i in range(4)]


def test_nothing_here_imports_torch():
    code = (
        "import sys, contpoutine as cp\n"
        "import contpoutine.infer, contpoutine.poutine, contpoutine.distributions as dist\n"
        "def model():\n"
        "    a = yield cp.sample('a', dist.Flip(0.5))\n"
        "    return a\n"
        "cp.run(model)\n"
        "posterior = cp.infer.enumerate(model)()\n"
        "assert abs(posterior.marginal()[True] - 0.5) < 1e-12\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_strategy_is_refused_at_import():
    result = subprocess.run(
        [sys.executable, "-c", "import contpoutine"],
        env=os.environ | {"CONTPOUTINE_CAPTURE": "magic"},
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0 and "must be auto, clone or replay" in result.stderr


def test_the_pure_python_package_passes_a_smoke_test():
    code = (
        "import contpoutine as cp\n"
        "assert not cp.capabilities().native\n"
        "choose = cp.operation('choose')\n"
        "class All(cp.Handler):\n"
        "    def on_choose(self, msg, k):\n"
        "        return (yield k(1)) + (yield k(2))\n"
        "    def on_return(self, value):\n"
        "        return [value]\n"
        "def model():\n"
        "    return (yield choose()), (yield choose())\n"
        "assert cp.run(cp.handle(All(), model)) == [(1, 1), (1, 2), (2, 1), (2, 2)]\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"CONTPOUTINE_PURE": "1"}
    )
