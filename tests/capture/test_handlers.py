"""Hazards 13 and 14: the state of handlers, and clauses that are themselves captured."""

from __future__ import annotations

import random

import pytest

import contpoutine as cp
from tests.capture.law import (
    NATIVE,
    WORKING,
    Asked,
    Keeping,
    assert_law,
    choose,
    strategy,
)

tick = cp.operation("tick")
ask = cp.operation("ask")
flip = cp.operation("flip")


class Log(cp.Messenger):
    """What a user writes: state made on entering, changed by every message."""

    def __enter__(self):
        self.seen = []
        self.total = 0
        return super().__enter__()

    def _pyro_post_choose(self, msg):
        self.seen.append(msg["value"])
        self.total += 1

    def _pyro_tick(self, msg):
        self.seen.append("tick")
        msg["value"] = (self.total, tuple(self.seen))
        msg["stop"] = True


class Sticky(Log):
    """State made when the handler is made, and never reset."""

    def __init__(self):
        self.seen, self.total = [], 0

    def __enter__(self):
        return cp.Messenger.__enter__(self)


def body():
    yield choose(0, 1)
    first = yield tick()
    yield choose(2, 3)
    yield choose(4, 5)
    return first, (yield tick())


@pytest.mark.parametrize("kind", [Log, Sticky])
def test_a_stateful_handler_made_by_the_model(kind):
    def model():
        with kind() as handler:
            result = yield from body()
        return result, handler.seen, handler.total

    assert_law(model)


@pytest.mark.parametrize("kind", [Log, Sticky])
def test_a_stateful_handler_around_a_sub_model(kind):
    def model():
        handler = kind()
        a = yield handler(body)()
        b = yield choose(6, 7)
        return a, b, handler.seen

    assert_law(model)


def test_a_stateful_handler_made_outside_that_starts_afresh_when_it_is_entered():
    handler = Log()
    assert_law(handler(body))

    def model():
        a = yield choose("a", "b")
        return a, (yield from handler(body)())

    # One object is entered by several branches, so some of them cannot be cloned.
    assert_law(model, strategies=("auto", "replay"))


def test_two_handlers_nested_each_way():
    def model(first, second):
        with first(), second() as inner:
            yield choose(0, 1)
            with first() as innermost:
                yield choose(0, 1)
                a = yield tick()
            b = yield tick()
        c = yield choose(0, 1)
        return a, b, c, inner.seen, innermost.seen

    assert_law(model, Log, Sticky)
    assert_law(model, Sticky, Log)


def test_a_handler_entered_before_and_left_after_a_capture():
    def model():
        handler = Log()
        handler.__enter__()
        yield choose(0, 1)
        try:
            yield choose(2, 3)
            a = yield tick()
        finally:
            handler.__exit__(None, None, None)
        return a, (yield choose(4, 5))

    assert_law(model)


def test_a_handler_that_keeps_messages():
    class Kept(cp.Messenger):
        def __init__(self):
            self.messages = []

        def _pyro_post_choose(self, msg):
            self.messages.append(msg.copy())

    def model():
        with Kept() as kept:
            xs = [1]
            yield choose(1, 2, note=xs)
            xs.append((yield choose(3, 4)))
        return [(m["value"], m["kwargs"]) for m in kept.messages], xs

    assert_law(model)


def test_an_alias_of_the_models_list_in_a_handler_stays_an_alias():
    class Holder(cp.Messenger):
        def __init__(self, xs):
            self.xs = xs
            self.own = []

    def model():
        xs = []
        with Holder(xs) as holder:
            xs.append((yield choose(0, 1)))
            holder.xs.append((yield choose(0, 1)))
            holder.own.append(xs)
            xs.append((yield choose(0, 1)))
        return xs, holder.xs is xs, holder.own[0] is xs

    assert_law(model)


def test_a_post_process_pass_sees_the_objects_of_its_own_branch():
    class Push(cp.Messenger):
        def _pyro_post_choose(self, msg):
            msg["kwargs"]["note"].append(msg["value"])

    def model():
        xs = []
        with Push():
            yield choose(0, 1, note=xs)
            yield choose(2, 3, note=xs)
        return xs

    assert_law(model)


def test_process_handlers_see_a_message_once_up_and_once_down_for_each_resumption(capture):
    log = []

    class Spy(cp.Messenger):
        fork_shared = True

        def _pyro_choose(self, msg):
            log.append("up")

        def _pyro_post_choose(self, msg):
            log.append(("down", msg["value"]))

    def model():
        with Spy():
            return (yield choose(0, 1))

    asked = cp.run(cp.handle(Keeping(), model))
    assert log == ["up"]
    for value in (0, 1, 0):
        log.clear()
        assert cp.run(asked.k(value)) == value
        assert log.count(("down", value)) == 1
        assert log.count("up") == len(log) - 1  # replay passes the request up again


# --- clauses that are captured ------------------------------------------------------------------


class Two(cp.Handler):
    """Resumes with both values, and asks further out in between."""

    def on_flip(self, msg, k):
        results = []
        for value in (False, True):
            results.append((value, (yield choose(0, 1))))
            results.append((yield k(value)))
        return results

    def on_return(self, value):
        return ("leaf", value)


def coin():
    xs = []
    xs.append((yield flip()))
    xs.append((yield choose(8, 9)))
    return xs


def test_a_pending_clause_is_captured_by_a_handler_further_out():
    def model():
        return (yield from cp.handle(Two(), coin)())

    assert_law(model, orders=3)


def test_pending_clauses_of_two_handlers_are_captured():
    def sub():
        a = yield flip()
        b = yield choose(0, 1)
        return a, b

    class Outer(cp.Handler):
        def __init__(self):
            self.count = 0

        def on_ask(self, msg, k):
            self.count += 1
            mine = [self.count]
            first = yield k(10)
            mine.append((yield choose("x", "y")))
            return first, mine, self.count

    class Inner(cp.Handler):
        def on_flip(self, msg, k):
            heard = yield ask()
            return [(yield k(True)), heard]

    def model():
        inside = cp.handle(Inner(), sub)
        result = yield from cp.handle(Outer(), inside)()
        return result, (yield choose(0, 1))

    assert_law(model)


def test_a_continuation_held_in_a_pending_clause_is_resumed_after_the_clause_was_copied():
    class Both(cp.Handler):
        def on_flip(self, msg, k):
            again = yield choose(1, 2)
            results = []
            for i in range(again):
                results.append((yield k(i)))
                results.append((yield choose("a", "b")))
            return results

    def sub():
        xs = [0]
        xs.append((yield flip()))
        xs.append((yield choose(5, 6)))
        return xs

    def model():
        return (yield cp.handle(Both(), sub)())

    assert_law(model, orders=2)


def test_a_continuation_that_the_model_stores_in_a_list():
    class Keep(cp.Handler):
        def __init__(self, kept):
            self.kept = kept

        def on_flip(self, msg, k):
            self.kept.append(k)
            return (yield k(len(self.kept)))

    def sub():
        a = yield flip()
        b = yield choose(0, 1)
        return a, b

    def model():
        kept = []
        first = yield cp.handle(Keep(kept), sub)()
        b = yield choose(2, 3)
        second = yield kept[0](b)
        return first, second, len(kept)

    assert_law(model)


def test_the_handler_that_was_installed_by_the_user_is_the_same_in_every_branch(capture):
    class Collect(cp.Handler):
        def __init__(self):
            self.results, self.asked = [], 0

        def on_choose(self, msg, k):
            self.asked += 1
            for value in msg["args"]:
                yield k(value)

        def on_return(self, value):
            self.results.append(value)

    def model():
        xs = []
        xs.append((yield choose(0, 1)))
        xs.append((yield choose(2, 3)))
        return xs

    handler = Collect()
    cp.run(cp.handle(handler, model))
    assert handler.results == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert handler.asked == 3


def test_a_handler_with_state_that_the_model_made_has_its_own_state_in_every_branch():
    class Count(cp.Handler):
        def __init__(self):
            self.n = 0
            self.log = []

        def on_flip(self, msg, k):
            self.n += 1
            self.log.append(self.n)
            return (yield k((self.n, list(self.log))))

    def sub(xs):
        a = yield flip()
        xs.append((yield choose(0, 1)))
        b = yield flip()
        return a, b

    def model():
        xs = []
        counter = Count()
        first = yield cp.handle(counter, sub)(xs)
        second = yield cp.handle(counter, sub)(xs)
        return first, second, counter.n, counter.log, xs

    assert_law(model)


def test_what_was_decided_further_out_is_the_same_in_a_replay(capture):
    class Decide(cp.Messenger):
        def __init__(self):
            self.n = 0

        def _pyro_ask(self, msg):
            self.n += 1
            msg["value"] = self.n

    def model():
        a = yield ask()
        with Log():
            b = yield choose(0, 1)
            c = yield ask()
        d = yield choose(0, 1)
        return a, b, c, d, (yield cp.sample("obs", cp.distributions.Flip(0.5), obs=True))

    def after(decide):
        asked = cp.run(cp.handle(Keeping(), model))
        assert decide.n == 1
        results = {}
        for b in (0, 1, 0):
            inner = cp.run(asked.k(b))
            now = decide.n
            for d in (0, 1, 0):
                results[now, b, d] = cp.run(inner.k(d))
        assert all(
            (a, b2, c, d2) == (1, b, now, d) for (now, b, d), (a, b2, c, d2, _) in results.items()
        )
        assert decide.n == 4

    with Decide() as decide:
        after(decide)


def test_default_values_drawn_before_a_capture_are_kept(capture):
    def model():
        with Log():
            x = yield cp.sample("x", cp.distributions.UniformDraw(range(1000)))
            u = random.random()
            a = yield choose(0, 1)
            v = random.random() if capture == "replay" else None
            b = yield choose(0, 1)
        return (x, u, a), b, v

    asked = cp.run(cp.handle(Keeping(), model))
    leaves = []
    for a in (0, 1, 0):
        inner = cp.run(asked.k(a))
        random.seed(a)
        leaves += [cp.run(inner.k(b)) for b in (0, 1, 1)]
    assert len({(x, u) for (x, u, _), _, _ in leaves}) == 1


def test_errors_raised_by_handlers_further_out_are_part_of_the_record(capture):
    class Refuse(cp.Messenger):
        def _pyro_ask(self, msg):
            raise LookupError("no")

    def model():
        try:
            yield ask()
        except LookupError as error:
            caught = str(error)
        try:
            yield tick()
        except cp.errors.UnhandledEffectError:
            caught += "!"
        a = yield choose(0, 1)
        return caught, a

    with Refuse():
        asked = cp.run(cp.handle(Keeping(), model))
        assert [cp.run(asked.k(a)) for a in (0, 1, 0)] == [("no!", a) for a in (0, 1, 0)]


def test_an_inner_handler_sees_the_outer_handlers_of_the_place_of_resumption():
    class Name(cp.Messenger):
        def __init__(self, name):
            self.name = name

        def _pyro_ask(self, msg):
            msg["value"], msg["stop"] = self.name, True

    def model():
        first = yield ask()
        a = yield choose(0, 1)
        return first, a, (yield ask())

    for name in WORKING:
        with strategy(name):
            with Name("start"):
                asked = cp.run(cp.handle(Keeping(), model))
            with Name("later"):
                assert cp.run(asked.k(0)) == ("start", 0, "later")
            with Name("last"):
                assert cp.run(asked.k(1)) == ("start", 1, "last")


def test_handlers_of_an_inner_computation_are_taken_down_where_it_is_resumed():
    """An inner handler ends in a branch that was resumed under other handlers than it began."""

    class Pass(cp.Handler):
        def on_flip(self, msg, k):
            return (yield k(True))

    class Name(cp.Messenger):
        def __init__(self, name):
            self.name = name

        def _pyro_ask(self, msg):
            msg["value"], msg["stop"] = self.name, True

    def sub():
        yield flip()
        return (yield choose(0, 1))

    def model():
        with Log():
            a = yield cp.handle(Pass(), sub)()
            b = yield tick()
        return a, b, (yield ask())

    for name in WORKING:
        with strategy(name):
            with Name("start"):
                asked = cp.run(cp.handle(Keeping(), model))
            for place in ("x", "y", "z"):
                with Name(place):
                    for a in (0, 1):
                        result = cp.run(asked.k(a))
                        assert (result[0], result[2]) == (a, place), name
                        assert result[1] == (1, (a, "tick")), name


@pytest.mark.skipif(not NATIVE, reason="about clones")
def test_a_computation_that_is_captured_again_and_again_keeps_its_memory_small():
    def model(n):
        total = 0
        for _ in range(n):
            total += yield choose(0, 1)
        return total

    asked = cp.run(cp.handle(Keeping(), model), 2000)
    while isinstance(asked, Asked):
        asked = cp.run(asked.k(1))
    assert asked == 2000
