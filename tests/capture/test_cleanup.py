"""Hazards 6, 7, 22, 25: `with`, `finally`, exceptions; each branch cleans up once and for itself."""

from __future__ import annotations

import contextlib
import gc
import threading

import pytest

import contpoutine as cp
from tests.capture.law import NATIVE, Asked, Keeping, assert_law, choose, strategy

native_only = pytest.mark.skipif(not NATIVE, reason="without the extension, closing runs finally")


def test_finally_runs_once_in_each_branch():
    def model():
        log = []
        try:
            log.append((yield choose(0, 1)))
            try:
                if (yield choose(False, True)):
                    raise ValueError("x")
            finally:
                log.append("inner")
        except ValueError:
            log.append("caught")
        finally:
            log.append("outer")
            log.append((yield choose(5, 6)))
        return log

    assert_law(model)


@contextlib.contextmanager
def entered(log, name):
    log.append(f"enter {name}")
    try:
        yield name
    except KeyError as error:
        log.append(f"swallow {error!r}")
    finally:
        log.append(f"exit {name}")


def test_contextlib_contextmanager_in_each_branch():
    def model():
        log = []
        with entered(log, "a") as a, entered(log, "b"):
            log.append((a, (yield choose(0, 1))))
            if (yield choose(False, True)):
                raise KeyError(1)
        log.append((yield choose(0, 1)))
        return log

    assert_law(model)


class Manager:
    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("enter")
        return self

    def __exit__(self, kind, value, traceback):
        self.log.append(("exit", kind))
        return kind is KeyError


def test_a_users_context_manager_in_each_branch():
    def model():
        log = []
        with Manager(log) as m:
            m.log.append((yield choose(0, 1)))
            if (yield choose(False, True)):
                raise KeyError(1)
        return log

    assert_law(model)


def test_suppress_and_exit_stack_and_nullcontext():
    def model():
        log = []
        with contextlib.suppress(KeyError), contextlib.ExitStack() as stack:
            stack.callback(log.append, "bye")
            log.append((yield choose(0, 1)))
            with contextlib.nullcontext():
                if (yield choose(False, True)):
                    raise KeyError(1)
        return log

    assert_law(model)


def test_a_capture_inside_except_keeps_the_exception_being_handled():
    def model():
        try:
            raise ValueError([1])
        except ValueError as error:
            error.args[0].append((yield choose(0, 1)))
            try:
                raise KeyError(2)
            except KeyError:
                b = yield choose(0, 1)
                import sys

                current = sys.exc_info()[0].__name__
            kept = sys.exc_info()[0].__name__
            return error.args, b, current, kept

    assert_law(model)


def test_a_bare_raise_after_a_resume():
    def model():
        xs = []
        try:
            try:
                raise ValueError(xs)
            except ValueError:
                xs.append((yield choose(0, 1)))
                if (yield choose(False, True)):
                    raise
                return "swallowed", xs
        except ValueError as error:
            return "raised", error.args[0], error.args[0] is xs

    assert_law(model)


def test_exceptions_with_fields_of_their_own():
    class Mine(Exception):
        def __init__(self, x):
            super().__init__("mine")
            self.x = x

    makers = [
        lambda: {}["k"],
        lambda: [].pop(),
        lambda: None.nothing,
        lambda: unknown_name,  # noqa: F821
        lambda: b"\xff".decode(),
        lambda: open("/no/such/file"),
        lambda: next(iter([])),
        lambda: __import__("no_such_module"),
        lambda: compile("1 +", "f", "eval"),
        lambda: 1 / 0,
    ]

    def model():
        kept = []
        for make in makers:
            try:
                make()
            except Exception as error:
                kept.append(error)
                error.tag = []
                if len(kept) == 3:
                    error.tag.append((yield choose(0, 1)))
        a = yield choose(0, 1)
        kept[0].tag.append(a)
        return [
            (
                type(e).__name__,
                str(e),
                e.tag,
                getattr(e, "name", None),
                getattr(e, "errno", None),
                getattr(e, "value", None),
                getattr(e, "start", None),
            )
            for e in kept
        ]

    assert_law(model)


class Slots(Exception):
    __slots__ = ("a", "b")


class Plain(Exception):
    pass


@pytest.mark.parametrize("kind", [Slots, Plain, ExceptionGroup])
def test_exceptions_of_user_classes_and_groups(kind):
    def model():
        xs = []
        error = kind("m", [ValueError(1)]) if kind is ExceptionGroup else kind(xs)
        if kind is Slots:
            error.a = xs
        xs.append((yield choose(0, 1)))
        xs.append((yield choose(0, 1)))
        a = getattr(error, "a", None)
        return str(error), a, a is xs, error.args[0] is xs, len(getattr(error, "exceptions", ()))

    assert_law(model)


def test_except_star_around_a_yield():
    def model():
        log = []
        try:
            raise ExceptionGroup("g", [ValueError(1), KeyError(2)])
        except* ValueError as group:
            log.append((len(group.exceptions), (yield choose(0, 1))))
        except* KeyError as group:
            log.append((len(group.exceptions), (yield choose(2, 3))))
        return log

    assert_law(model)


def test_cause_context_and_notes_go_along():
    def model():
        try:
            try:
                raise KeyError("a")
            except KeyError as inner:
                raise ValueError("b") from inner
        except ValueError as error:
            error.add_note("n")
            a = yield choose(0, 1)
            error.add_note(str(a))
            b = yield choose(0, 1)
            same = error.__cause__ is error.__context__
            return repr(error.__cause__), same, error.__notes__, b

    assert_law(model)


def test_a_return_in_finally_swallows_in_its_own_branch():
    def model():
        for i in range(3):
            try:
                if (yield choose(False, True)):
                    raise ValueError(i)
            finally:
                if i == 1:
                    return "returned", i, (yield choose(0, 1))  # noqa: B012
        return "end"

    assert_law(model)


def test_stop_iteration_inside_a_model_is_a_runtime_error_in_its_branch():
    def model():
        if (yield choose(False, True)):
            next(iter([]))
        return (yield choose(0, 1))

    assert_law(model)


def test_stop_iteration_values_of_sub_models():
    def sub(x):
        return StopIteration(x)
        yield

    def model():
        a = yield sub(1)
        b = yield from sub(2)
        return type(a).__name__, a.value, b.value, (yield choose(0, 1))

    assert_law(model)


def test_exceptions_thrown_into_one_branch_do_not_show_in_another(capture):
    def model():
        try:
            a = yield choose(0, 1)
        except ValueError as error:
            depth, tb = 0, error.__traceback__
            while tb is not None:
                depth, tb = depth + 1, tb.tb_next
            return "caught", depth, error.__context__, (yield choose(0, 1))
        return a

    asked = cp.run(cp.handle(Keeping(), model))
    error = ValueError("x")
    first = cp.run(asked.k.throw(error))
    results = [cp.run(first.k(1))]
    for _ in range(3):
        results.append(cp.run(cp.run(asked.k.throw(error)).k(1)))
    assert cp.run(asked.k(0)) == 0
    assert len({repr(result) for result in results}) == 1, results


@native_only
def test_an_abandoned_branch_runs_nothing():
    log = []

    def sub(name):
        try:
            yield choose(0, 1)
        finally:
            log.append(name)

    def worker(name):
        try:
            yield 1
        finally:
            log.append(name)

    def model():
        held = worker("in a local")
        listed = [worker("in a list")]
        celled = worker("in a cell")
        keyed = {"k": (worker("in a tuple in a dict"),)}
        later = map(str, worker("in a map"))
        for g in (held, listed[0], celled, keyed["k"][0], later):
            next(g)
        also = held

        def closure():
            return celled, also

        with contextlib.ExitStack() as stack:
            stack.callback(log.append, "exit stack")
            try:
                yield sub("a pushed call")
            finally:
                log.append("finally")
        return closure

    def simple():
        held = worker("in a local")
        celled = worker("in a cell")
        listed = [worker("in a list"), {"k": (worker("deep"),)}]
        for g in (held, celled, listed[0], listed[1]["k"][0]):
            next(g)

        def closure():
            return celled

        try:
            yield from sub("in a chain")
        finally:
            log.append("finally")
        return closure

    for body in (simple, model):
        asked = cp.run(cp.handle(Keeping(), body))
        if body is simple:
            for _ in range(3):
                asked.k._snapshot.fork(asked.k.origin.outside)
        del asked
        gc.collect()
        assert log == [], body


@native_only
def test_a_continuation_in_a_reference_cycle_is_collected_and_runs_nothing():
    log = []

    class Stores(cp.Handler):
        def __init__(self):
            self.kept = []

        def on_choose(self, msg, k):
            self.kept.append(k)
            return Asked(msg["args"], k)
            yield

    def inner():
        try:
            yield choose(0, 1)
        finally:
            log.append("inner")

    def model(box):
        box.append(box)
        try:
            yield inner()
            yield from inner()
        finally:
            log.append("outer")

    class Canary:
        pass

    import weakref

    def once():
        handler = Stores()
        handler.canary = Canary()
        asked = cp.run(cp.handle(handler, model), [])
        asked = cp.run(asked.k(0))
        cp.run(handler.kept[0](1))
        log.clear()
        return weakref.ref(handler.canary)

    gc.collect()
    gc.disable()
    try:
        refs = [once() for _ in range(5)]
        gc.collect()
    finally:
        gc.enable()
    assert [ref() for ref in refs] == [None] * 5
    assert log == []


@native_only
def test_a_fork_that_fails_runs_nothing_of_what_it_had_copied():
    log = []

    def worker():
        try:
            yield 1
        finally:
            log.append("worker")

    def sub():
        try:
            thing = threading.Lock()
            return (yield choose(0, 1)), thing
        finally:
            log.append("sub")

    def model():
        w = worker()
        next(w)
        request = choose("never yielded in a copy")
        try:
            a = yield sub()
            yield request
            return a, w
        finally:
            log.append("model")

    asked = cp.run(cp.handle(Keeping(), model))
    with pytest.raises(cp.errors.CaptureError, match="lock"):
        asked.k._snapshot.fork(asked.k.origin.outside)
    gc.collect()
    assert log == []


def test_a_branch_that_is_finished_runs_its_clean_up_exactly_once(capture):
    log = []

    def model():
        try:
            a = yield choose(0, 1)
            return a
        finally:
            log.append("finally")

    asked = cp.run(cp.handle(Keeping(), model))
    for expected, a in enumerate((0, 1, 0), start=1):
        assert cp.run(asked.k(a)) == a
        assert log.count("finally") == expected


def test_closing_by_throwing_generator_exit_is_a_branch_of_its_own(capture):
    def model():
        try:
            return (yield choose(0, 1))
        except GeneratorExit:
            return "closed"

    asked = cp.run(cp.handle(Keeping(), model))
    assert cp.run(asked.k.throw(GeneratorExit)) == "closed"
    assert cp.run(asked.k(1)) == 1
    assert cp.run(asked.k.throw(GeneratorExit)) == "closed"


def test_strategies_are_restored():
    with strategy("replay"):
        pass


@native_only
@pytest.mark.parametrize("order", ["depth_first", "breadth_first"])
def test_a_frame_that_reaches_itself_runs_nothing_when_its_branch_is_given_up(order):
    """Such a frame is cyclic garbage, and the collector would close it."""
    ran = []

    def helper(name):
        try:
            yield 1
        finally:
            ran.append(name)

    def model():
        knot = [helper("held")]
        next(knot[0])
        knot.append(sub(knot))
        try:
            return (yield knot[1])
        finally:
            ran.append("outer")

    def sub(knot):
        try:
            a = yield cp.sample("a", cp.distributions.Flip(0.5))
            yield cp.factor("gone", -float("inf"))
            return a, knot
        finally:
            ran.append("inner")

    posterior = cp.infer.enumerate(model, order=order)()
    assert posterior.explored_mass == 1.0
    del posterior
    gc.collect()
    assert ran == []
