"""Ordinary functions under control handlers: suspended, resumed any number of times, given up."""

from __future__ import annotations

import contextvars
import gc
import itertools
import sys
import threading
import weakref

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.core import bridge
from contpoutine.core.ambient import AMBIENT, BRIDGE
from contpoutine.core.native import native
from contpoutine.errors import (
    BarrierError,
    DepthError,
    GreenletError,
    NotAModelError,
    ReplayDiverged,
    UnhandledEffectError,
    UnperformedEffectError,
)

choose = cp.operation("choose")
ask = cp.operation("ask")


def pick(*values):
    return cp.perform(choose(*values))


class AllChoices(cp.Handler):
    def on_choose(self, msg, k):
        results = []
        for value in msg["args"]:
            results += yield k(value)
        return results

    def on_return(self, value):
        return [value]


class Collect(cp.Handler):
    """Gives the continuation away, for the test to resume."""

    def __init__(self):
        self.taken = []

    def on_ask(self, msg, k):
        self.taken.append(k)
        return "taken"
        yield


def pythagorean(limit):
    a, b, c = (pick(*range(1, limit)) for _ in "abc")
    return (a, b, c) if a <= b and a * a + b * b == c * c else None


# --- resuming -------------------------------------------------------------------------------


def test_a_function_is_resumed_with_each_choice():
    found = cp.run(cp.handle(AllChoices(), pythagorean), 14)
    assert [triple for triple in found if triple] == [(3, 4, 5), (5, 12, 13), (6, 8, 10)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_continuation_is_resumed_in_any_order_and_again(order):
    def model():
        log = [cp.perform(ask("first"))]
        log.append(cp.perform(ask("second")))
        return log

    handler = Collect()
    assert cp.run(cp.handle(handler, model)) == "taken"
    first = handler.taken.pop()
    for value in order:
        assert cp.run(first(value)) == "taken"
    seconds = dict(zip(order, handler.taken, strict=True))
    for value in (*reversed(order), *order):
        assert cp.run(seconds[value]("x")) == [value, "x"]


def test_the_first_resumption_is_the_suspended_call_itself():
    begun = []

    def model():
        begun.append(None)
        return pick(*range(4))

    assert cp.run(cp.handle(AllChoices(), model)) == [0, 1, 2, 3]
    assert len(begun) == 4


def test_an_effect_that_is_not_resumed_gives_the_function_up():
    class Stop(cp.Handler):
        def on_ask(self, msg, k):
            return "stopped"

    cleaned = []

    def model():
        try:
            cp.perform(ask())
        finally:
            cleaned.append(None)

    assert cp.run(cp.handle(Stop(), model)) == "stopped"
    gc.collect()
    if native is not None:
        assert cleaned == []


def test_an_exception_is_thrown_at_the_effect_and_can_be_caught():
    class Refuse(cp.Handler):
        def on_ask(self, msg, k):
            return (yield k.throw(KeyError(msg["args"][0])))

    def model():
        try:
            cp.perform(ask("a"))
        except KeyError as error:
            caught = error.args
        cp.perform(ask(*caught))

    with pytest.raises(KeyError, match="a") as raised:
        cp.run(cp.handle(Refuse(), model))
    assert raised.traceback[-1].path.name == "bridge.py"
    assert "model" in [entry.name for entry in raised.traceback]


def test_a_value_that_no_handler_takes_has_its_default_and_is_replayed():
    def model():
        x = cp.perform(cp.sample("x", dist.RandInt(1000)))
        y = pick(1, 2)
        return x, y

    (x, one), (again, two) = cp.run(cp.handle(AllChoices(), model))
    assert (x, one, two) == (again, 1, 2)


def test_an_unhandled_effect_is_an_error_at_its_line():
    with pytest.raises(UnhandledEffectError, match="on_ask"):
        cp.run(cp.handle(AllChoices(), lambda: cp.perform(ask())))
    with pytest.raises(UnhandledEffectError, match="on_ask"):
        cp.run(lambda: cp.perform(ask()))


# --- handlers inside and around -------------------------------------------------------------


class Trail(cp.Messenger):
    def __enter__(self):
        self.seen = []
        return super().__enter__()

    def _pyro_post_sample(self, msg):
        self.seen.append((msg["name"], msg["value"]))


def test_messengers_inside_and_around_see_what_a_function_performs():
    def model():
        with Trail() as inside:
            x = cp.perform(cp.sample("x", dist.Flip(1.0)))
            y = pick(1, 2)
            cp.perform(cp.sample("y", dist.Flip(1.0)))
        return tuple(inside.seen), x, y

    with Trail() as around:
        found = cp.run(cp.handle(AllChoices(), model))
    each = ((("x", True), ("y", True)), True)
    assert found == [(*each, 1), (*each, 2)]
    assert around.seen == [("x", True), ("y", True), ("y", True)]
    assert AMBIENT.get() == ()


def test_messengers_alone_need_no_greenlet(monkeypatch):
    monkeypatch.setattr(bridge, "_greenlets", None)
    monkeypatch.setattr(bridge, "_getcurrent", None)

    def model():
        return cp.perform(cp.sample("x", dist.Flip(1.0)))

    with Trail() as trail:
        assert model() is True
        assert cp.run(model) is True
        assert cp.poutine.trace(model).get_trace().nodes["x"]["value"] is True
    assert len(trail.seen) == 3


def test_the_handler_stack_is_right_after_an_exception():
    def model(fails):
        with Trail():
            pick(1)
            with Trail():
                if fails:
                    raise ValueError("mine")

    handled = cp.handle(AllChoices(), model)
    with Trail() as trail:
        with pytest.raises(ValueError, match="mine"):
            cp.run(handled, True)
        assert AMBIENT.get() == (trail,)
        assert BRIDGE.get() is None
        assert cp.run(handled, False) == [None]
    assert AMBIENT.get() == ()


def test_a_function_under_two_control_handlers():
    class Number(cp.Handler):
        def on_ask(self, msg, k):
            return (yield k(7))

    def model():
        return pick(1, 2) + cp.perform(ask())

    assert cp.run(cp.handle(AllChoices(), cp.handle(Number(), model))) == [8, 9]
    assert cp.run(cp.handle(Number(), cp.handle(AllChoices(), model))) == [8, 9]


def test_a_function_calls_a_handled_model_of_its_own():
    def inner():
        return pick("a", "b") + str(cp.perform(ask()))

    class Number(cp.Handler):
        def on_ask(self, msg, k):
            return (yield k(1)) + (yield k(2))

    def outer():
        return cp.run(cp.handle(AllChoices(), inner))

    # Each answer to "a"'s question goes on to "b", whose question is answered twice in turn.
    assert cp.run(cp.handle(Number(), outer)) == ["a1", "b1", "a1", "b2", "a2", "b1", "a2", "b2"]


# --- the two styles -------------------------------------------------------------------------


def test_a_generator_calls_a_function_and_a_function_a_generator():
    def generator(n):
        a = yield choose(1, 2)
        return [a] + ((yield cp.call(function, n - 1)) if n else [])

    def function(n):
        a = pick(3, 4)
        return [a] + (cp.run(generator, n - 1) if n else [])

    found = cp.run(cp.handle(AllChoices(), generator), 3)
    assert sorted(map(tuple, found)) == sorted(itertools.product((1, 2), (3, 4), (1, 2), (3, 4)))
    found = cp.run(cp.handle(AllChoices(), function), 3)
    assert sorted(map(tuple, found)) == sorted(itertools.product((3, 4), (1, 2), (3, 4), (1, 2)))


def test_call_takes_both_styles_and_gives_their_value():
    def generator():
        return (yield ask())

    def function():
        return cp.perform(ask())

    class Number(cp.Handler):
        def on_ask(self, msg, k):
            return (yield k(7))

    def model():
        return (yield cp.call(generator)), (yield cp.call(function)), (yield cp.call(len, "four"))

    assert cp.run(cp.handle(Number(), model)) == (7, 7, 4)


def test_a_function_called_plainly_by_a_generator_is_a_barrier():
    def model():
        return pick(1, 2)
        yield

    with pytest.raises(BarrierError, match=r"yield cp.call\(function, ...\)"):
        cp.run(cp.handle(AllChoices(), model))


def test_what_performs_nothing_and_gives_no_generator_is_no_model():
    with pytest.raises(NotAModelError, match="gave 3"):
        cp.run(cp.handle(AllChoices(), lambda: 3))


def test_a_forgotten_yield_in_a_function_is_told():
    def model():
        cp.sample("x", dist.Flip(0.5))
        return pick(1, 2)

    with pytest.raises(UnperformedEffectError, match="x = yield sample"):
        cp.run(cp.handle(AllChoices(), model))


# --- replay ---------------------------------------------------------------------------------


def test_a_function_that_differs_when_it_runs_again_is_named_with_its_site():
    runs = []

    def model():
        runs.append(None)
        cp.perform(cp.sample(f"x{len(runs)}", dist.Flip(0.5)))
        return pick(1, 2)

    with pytest.raises(ReplayDiverged, match="asked for sample 'x2'.* asked for sample 'x1'"):
        cp.run(cp.handle(AllChoices(), model))


# --- stacks and threads ---------------------------------------------------------------------


def test_recursion_deeper_than_python_allows_names_the_generator_form():
    def model(n):
        pick(1)
        return model(n - 1) if n else 0

    with pytest.raises(DepthError, match="Written as a generator"):
        cp.run(cp.handle(AllChoices(), model), sys.getrecursionlimit())
    assert cp.run(cp.handle(AllChoices(), model), 20) == [0]


def test_a_suspended_function_is_not_resumed_on_another_thread():
    handler = Collect()
    cp.run(cp.handle(handler, lambda: cp.perform(ask())))
    (k,) = handler.taken
    errors = []

    def elsewhere():
        try:
            cp.run(k(1))
        except GreenletError as error:
            errors.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    (text,) = errors
    assert "another thread" in text and "generator" in text


def test_an_effect_on_a_thread_that_the_function_started_is_not_its_own():
    def model():
        results = []
        context = contextvars.copy_context()

        def elsewhere():
            try:
                pick(1, 2)
            except GreenletError as error:
                results.append(str(error))

        thread = threading.Thread(target=context.run, args=(elsewhere,))
        thread.start()
        thread.join()
        return [*results, pick(1)]

    ((text, one),) = cp.run(cp.handle(AllChoices(), model))
    assert "started itself" in text and one == 1


def test_threads_do_not_see_each_others_functions_and_handlers():
    barrier = threading.Barrier(4)
    results = {}

    def work(number):
        def model():
            with Trail() as trail:
                x = cp.perform(cp.sample(f"x{number}", dist.UniformDraw([number])))
                barrier.wait(10)
                y = pick(*range(3))
                cp.perform(cp.sample(f"y{number}", dist.UniformDraw([number])))
            return x, y, tuple(trail.seen)

        barrier.wait(10)
        results[number] = cp.run(cp.handle(AllChoices(), model))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        seen = ((f"x{number}", number), (f"y{number}", number))
        assert results[number] == [(number, y, seen) for y in range(3)]


def test_context_variables_are_those_of_the_caller():
    var = contextvars.ContextVar("var", default="default")

    def model():
        before = var.get()
        pick(1)
        var.set("set inside")
        return before

    def go():
        var.set("set outside")
        found = cp.run(cp.handle(AllChoices(), model))
        return found, var.get()

    assert contextvars.copy_context().run(go) == (["set outside"], "set inside")
    assert var.get() == "default"


def test_a_function_resumed_in_another_context_runs_there():
    var = contextvars.ContextVar("var", default=0)
    handler = Collect()

    def model():
        cp.perform(ask())
        return var.get()

    cp.run(cp.handle(handler, model))
    (k,) = handler.taken

    def later():
        var.set(5)
        return cp.run(k(None))

    assert contextvars.copy_context().run(later) == 5


# --- nothing is left behind -----------------------------------------------------------------


def test_a_function_that_was_given_up_is_freed():
    class Big:
        pass

    alive = []

    class Stop(cp.Handler):
        def on_ask(self, msg, k):
            return "stopped"

    def model():
        big = Big()
        alive.append(weakref.ref(big))
        cp.perform(ask())

    for _ in range(3):
        assert cp.run(cp.handle(Stop(), model)) == "stopped"
    gc.collect()
    assert [ref() for ref in alive] == [None] * 3


def test_greenlets_are_used_again():
    cp.run(cp.handle(AllChoices(), lambda: pick(1, 2, 3)))
    idle = list(bridge._pool.idle)
    for _ in range(20):
        cp.run(cp.handle(AllChoices(), lambda: pick(1)))
    assert bridge._pool.idle == idle
