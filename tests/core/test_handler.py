"""Control handlers: what a clause can do with its continuation."""

from __future__ import annotations

import functools

import pytest

import contpoutine as cp
from contpoutine.core.ambient import AMBIENT
from contpoutine.errors import BarrierError, ClauseError, FinishedError

choose = cp.operation("choose")
get = cp.operation("get")
put = cp.operation("put")
fail = cp.operation("fail")
ask = cp.operation("ask")


class All(cp.Handler):
    def on_choose(self, msg, k):
        results = []
        for value in msg["args"]:
            results += yield k(value)
        return results

    def on_return(self, value):
        return [value]


class AllPlainly(cp.Handler):
    def on_choose(self, msg, k):
        return [result for value in msg["args"] for result in k(value)]

    def on_return(self, value):
        return [value]


class AllEach(cp.Handler):
    def on_choose(self, msg, k):
        return [result for results in (yield k.each(msg["args"])) for result in results]

    def on_return(self, value):
        return [value]


class AllEachPlainly(cp.Handler):
    def on_choose(self, msg, k):
        return [result for results in k.each(msg["args"]) for result in results]

    def on_return(self, value):
        return [value]


class State(cp.Handler):
    """State in the style of the effect-handler literature: a function from state to result."""

    def __init__(self, state):
        self.state = state

    def on_get(self, msg, k):
        return (yield k(self.state))

    def on_put(self, msg, k):
        self.state = msg["args"][0]
        return (yield k(None))

    def on_return(self, value):
        return value, self.state


class Maybe(cp.Handler):
    def on_fail(self, msg, k):
        return None


def pairs():
    a = yield choose(1, 2)
    b = yield choose(10, 20)
    return a + b


@pytest.mark.parametrize("handler", [All, AllPlainly, AllEach, AllEachPlainly])
def test_choose_all_in_each_style(capture, handler):
    assert cp.run(cp.handle(handler(), pairs)) == [11, 21, 12, 22]


def test_not_resuming_aborts(capture):
    log = []

    def model():
        try:
            yield fail()
            log.append("not here")
        finally:
            log.append("nor here")

    assert cp.run(cp.handle(Maybe(), model)) is None
    assert "not here" not in log


def test_an_abort_leaves_the_handler_stack_as_it_was():
    class Noise(cp.Messenger):
        pass

    def inner():
        with Noise():
            yield fail()

    def model():
        before = AMBIENT.get()
        result = yield cp.handle(Maybe(), inner)()
        return result, AMBIENT.get() is before

    assert cp.run(model) == (None, True)
    assert AMBIENT.get() == ()


def test_resuming_once_moves_the_computation_and_state_is_kept(capture):
    def model():
        for i in range(3):
            yield put((yield get()) + i)
        return "done"

    assert cp.run(cp.handle(State(10), model)) == ("done", 13)


def test_handlers_nested_in_both_orders(capture):
    def model():
        a = yield choose(1, 2)
        yield put((yield get()) + a)
        b = yield choose(1, 2)
        return a, b, (yield get())

    def fresh():
        return (yield from cp.handle(State(0), model)())

    inside = cp.run(cp.handle(All(), fresh))
    assert [result for result, _ in inside] == [(1, 1, 1), (1, 2, 1), (2, 1, 2), (2, 2, 2)]

    outside = cp.run(cp.handle(State(0), cp.handle(All(), model)))
    assert outside == ([(1, 1, 1), (1, 2, 1), (2, 1, 3), (2, 2, 3)], 3)


def test_throwing_into_the_model(capture):
    class Refuse(cp.Handler):
        def on_ask(self, msg, k):
            try:
                return (yield k.throw(ValueError(msg["args"])))
            except KeyError as error:
                return "out", error.args

    def model(how):
        try:
            yield ask(1, 2)
        except ValueError as error:
            if how == "catch":
                return error.args
            raise KeyError("other") from error

    assert cp.run(cp.handle(Refuse(), model), "catch") == ((1, 2),)
    assert cp.run(cp.handle(Refuse(), model), "raise") == ("out", ("other",))
    with pytest.raises(TypeError, match="exception"):

        class Wrong(cp.Handler):
            def on_ask(self, msg, k):
                return (yield k.throw("text"))

        cp.run(cp.handle(Wrong(), model), "catch")


def test_an_exception_of_a_clause_is_raised_where_the_handler_was_installed():
    class Broken(cp.Handler):
        def on_ask(self, msg, k):
            raise LookupError("clause")
            yield

    class BrokenPlainly(cp.Handler):
        def on_ask(self, msg, k):
            raise LookupError("clause")

    def inner():
        try:
            yield ask()
        except LookupError:
            return "caught by the model"  # it does not lie inside of the clause

    def model(handler):
        try:
            return (yield cp.handle(handler, inner)())
        except LookupError as error:
            return "caught around the handler", str(error)

    for handler in (Broken(), BrokenPlainly()):
        assert cp.run(model, handler) == ("caught around the handler", "clause")


def test_an_exception_of_the_model_goes_through_the_clause(capture):
    class Catch(cp.Handler):
        def on_ask(self, msg, k):
            try:
                return (yield k(1))
            except ZeroDivisionError:
                return (yield k(2))

    def model():
        return 10 // ((yield ask()) - 1)

    assert cp.run(cp.handle(Catch(), model)) == 10


def test_forwarding_asks_the_handlers_further_out(capture):
    class Inner(cp.Handler):
        def on_ask(self, msg, k):
            return (yield k(("inner", (yield msg))))

    class Outer(cp.Handler):
        def on_ask(self, msg, k):
            return (yield k(("outer", msg["args"])))

    def model():
        return (yield ask(1)), (yield ask(2))

    def both():
        return (yield from cp.handle(Inner(), model)())

    assert cp.run(cp.handle(Outer(), both)) == (
        ("inner", ("outer", (1,))),
        ("inner", ("outer", (2,))),
    )


def test_what_is_handled_is_not_seen_further_out():
    seen = []

    class See(cp.Messenger):
        def _process_message(self, msg):
            seen.append(msg["type"])

    class Forward(cp.Handler):
        def on_ask(self, msg, k):
            yield put(1)
            return (yield k(0))

    class Swallow(cp.Handler):
        def on_put(self, msg, k):
            return (yield k(None))

    def model():
        yield ask()
        yield ask()

    with See():
        cp.run(cp.handle(Swallow(), cp.handle(Forward(), model)))
    assert seen == []
    with See(), pytest.raises(cp.errors.UnhandledEffectError):
        cp.run(cp.handle(Forward(), model))
    assert seen == ["put"]


def test_handlers_are_deep():
    class Count(cp.Handler):
        n = 0

        def on_ask(self, msg, k):
            self.n += 1
            return (yield k(self.n))

    def model():
        return (yield from three())

    def three():
        return (yield ask()), (yield ask()), (yield ask())

    assert cp.run(cp.handle(Count(), model)) == (1, 2, 3)


def test_a_clause_performs_its_own_effects_outside_of_its_handler():
    class Self(cp.Handler):
        def on_ask(self, msg, k):
            return (yield k((yield ask())))

    def model():
        return (yield ask())

    with pytest.raises(cp.errors.UnhandledEffectError, match="ask"):
        cp.run(cp.handle(Self(), model))


def test_a_plain_clause_is_a_barrier_and_the_error_shows_the_generator_form(capture):
    class Inner(cp.Handler):
        def on_get(self, msg, k):
            return k(1)

    def model():
        a = yield get()
        return a, (yield choose(1, 2))

    with pytest.raises(BarrierError) as caught:
        cp.run(cp.handle(All(), cp.handle(Inner(), model)))
    text = str(caught.value)
    assert "All()" in text and "Inner.on_get" in text
    assert "`result = yield k(value)`" in text and "choose" in text and "test_handler.py" in text


def test_run_inside_a_model_is_a_barrier_too(capture):
    def inner():
        return (yield choose(1, 2))

    def model():
        return cp.run(inner)
        yield

    with pytest.raises(BarrierError, match=r"a call of run\(\.\.\.\).*yield model"):
        cp.run(cp.handle(All(), model))


def test_a_plain_clause_may_resume_what_nobody_captures(capture):
    class Twice(cp.Handler):
        def on_get(self, msg, k):
            return k(1) + k(2)

    def model():
        a = yield get()
        b = yield get()
        return [(a, b)]

    assert cp.run(cp.handle(Twice(), model)) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_return_k_is_the_clauses_last_act(capture):
    class Tail(cp.Handler):
        def on_get(self, msg, k):
            return k(5)
            yield

    def model():
        return sum([(yield get()), (yield get())])

    assert cp.run(cp.handle(Tail(), model)) == 10


def test_on_return_may_be_a_generator(capture):
    class Report(cp.Handler):
        def on_choose(self, msg, k):
            return (yield k(msg["args"][0])) + (yield k(msg["args"][1]))

        def on_return(self, value):
            return [(value, (yield ask(value)))]

    class Square(cp.Handler):
        def on_ask(self, msg, k):
            return (yield k(msg["args"][0] ** 2))

    assert cp.run(cp.handle(Square(), cp.handle(Report(), pairs))) == [
        (11, 121),
        (21, 441),
        (12, 144),
        (22, 484),
    ]


def test_on_return_is_not_called_for_an_abort_or_an_error():
    class Noted(cp.Handler):
        def on_fail(self, msg, k):
            return "aborted"

        def on_return(self, value):
            return ("returned", value)

    def model(how):
        if how == "abort":
            yield fail()
        if how == "error":
            raise KeyError
        return "value"
        yield

    handled = cp.handle(Noted(), model)
    assert cp.run(handled, "abort") == "aborted"
    assert cp.run(handled, "return") == ("returned", "value")
    with pytest.raises(KeyError):
        cp.run(handled, "error")


def test_an_error_in_on_return_is_raised_around_the_handler():
    class Bad(cp.Handler):
        def on_return(self, value):
            raise LookupError

    def inner():
        return 1
        yield

    def model():
        try:
            yield cp.handle(Bad(), inner)()
        except LookupError:
            return "caught"

    assert cp.run(model) == "caught"


def test_continuations_kept_are_resumed_later_in_any_order(capture):
    class Keep(cp.Handler):
        def __init__(self):
            self.kept = []

        def on_choose(self, msg, k):
            self.kept.append(k)
            return "kept"
            yield

        def on_return(self, value):
            return ("returned", value)

    def model():
        xs = [(yield choose())]
        xs.append((yield choose()))
        return xs

    keep = Keep()
    assert cp.run(cp.handle(keep, model)) == "kept"
    for a in "abca":
        assert cp.run(keep.kept[0](a)) == "kept"
    assert len(keep.kept) == 5
    for i, a in zip((4, 2, 1, 3, 1, 4), "abaca"[0] + "b" + "a" + "c" + "a" + "a"):
        for b in "xy":
            assert cp.run(keep.kept[i](b)) == ("returned", [a, b])


def test_a_resumption_is_run_at_most_by_whom_it_is_given_to(capture):
    kept = []

    class Keep(cp.Handler):
        def on_choose(self, msg, k):
            kept.append(k)
            return None
            yield

    def model():
        return (yield choose())

    cp.run(cp.handle(Keep(), model))
    resumption = kept[0](3)
    assert cp.run(resumption) == 3
    assert cp.run(resumption) == 3


def test_the_repr_of_a_continuation_says_where_it_stands():
    kept = []

    class Keep(cp.Handler):
        def on_choose(self, msg, k):
            kept.append(k)
            return None
            yield

    cp.run(cp.handle(Keep(), pairs))
    assert "Keep.on_choose" in repr(kept[0]) and "test_handler.py" in repr(kept[0])


def test_handle_checks_its_arguments():
    with pytest.raises(TypeError, match=r"write All\(\)"):
        cp.handle(All, pairs)
    with pytest.raises(TypeError, match="a Messenger is used as"):
        cp.handle(cp.Messenger(), pairs)
    with pytest.raises(TypeError, match="arguments are passed later"):
        cp.handle(All(), pairs())
    assert "All" in cp.handle(All(), pairs).__name__


def test_a_finished_computation_cannot_be_resumed():
    assert issubclass(FinishedError, cp.errors.ContpoutineError)


def test_a_handler_without_a_clause_for_an_effect_is_passed_by(capture):
    def model():
        return (yield choose(1, 2)), (yield get())

    assert cp.run(cp.handle(State("s"), cp.handle(All(), model))) == (
        [(1, "s"), (2, "s")],
        "s",
    )
    assert cp.run(cp.handle(All(), cp.handle(State("s"), model))) == [
        ((1, "s"), "s"),
        ((2, "s"), "s"),
    ]


def test_clauses_are_inherited_and_overridden():
    class Last(All):
        def on_choose(self, msg, k):
            return (yield k(msg["args"][-1]))

    assert cp.run(cp.handle(Last(), pairs)) == [22]


def test_a_continuation_is_passed_to_the_model_as_a_value(capture):
    """Coroutines by hand: the clause answers with the continuation itself."""

    class Reify(cp.Handler):
        def on_get(self, msg, k):
            return (yield k(k))

    def model():
        k = yield get()
        if isinstance(k, int):
            return k
        return (yield k(7))

    assert cp.run(cp.handle(Reify(), model)) == 7


@pytest.mark.parametrize("use", [lambda h: h.__enter__(), lambda h: h(pairs), lambda h: cp.run(h)])
def test_a_control_handler_used_like_a_messenger_says_how_it_is_used(use):
    with pytest.raises(TypeError, match=r"Write `cp.handle\(All\(\), model\)`"):
        use(All())
    with pytest.raises(TypeError, match="cannot be used in a `with` block"):
        with All():
            pass
    assert AMBIENT.get() == ()


def wrong_clauses():
    class NoContinuation(cp.Handler):
        def on_choose(self, msg):
            return None

    class FourArguments(cp.Handler):
        def on_choose(self, msg, k, more):
            return None

    class WithoutSelf(cp.Handler):
        @staticmethod
        def on_choose(msg):
            return None

    class Return(cp.Handler):
        def on_return(self):
            return None

    return NoContinuation, FourArguments, WithoutSelf, Return


@pytest.mark.parametrize(
    ("cls", "right"),
    list(
        zip(
            wrong_clauses(),
            ["on_choose(self, msg, k)"] * 2 + ["on_choose(msg, k)", "on_return(self, value)"],
            strict=True,
        )
    ),
    ids=lambda x: getattr(x, "__name__", x),
)
def test_a_clause_of_the_wrong_signature_is_refused_before_anything_runs(cls, right):
    with pytest.raises(ClauseError) as caught:
        cp.handle(cls(), pairs)
    text = str(caught.value)
    assert f"def {right}" in text and f"{cls.__name__}.on_" in text and __file__ in text


def test_clauses_of_every_kind_that_can_be_called_are_taken():
    def resumes(f):
        @functools.wraps(f)
        def clause(self, msg, k):
            return (yield k(f(self, msg)))

        return clause

    class Decorated(cp.Handler):
        @resumes
        def on_choose(self, msg):
            return msg["args"][0]

    class Loose(cp.Handler):
        def on_choose(self, *args, **options):
            return (yield args[1](2))

    class Static(cp.Handler):
        @staticmethod
        def on_choose(msg, k, extra=None):
            return (yield k(3))

    class Partial(cp.Handler):
        def _answer(self, value, msg, k):
            return (yield k(value))

        on_choose = functools.partialmethod(_answer, 4)

    handlers = Decorated(), Loose(), Static(), Partial()
    assert [cp.run(cp.handle(h, pairs)) for h in handlers] == [11, 4, 6, 8]
