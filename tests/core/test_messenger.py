"""Messengers: three ways of use, the order of processing, the stack after errors."""

from __future__ import annotations

import functools

import pytest

import contpoutine as cp
from contpoutine.core.ambient import AMBIENT
from contpoutine.errors import HandlerStackError, UnhandledEffectError

add = cp.effectful(lambda x, y: x + y, type="apply")
ask = cp.operation("ask")


class Spy(cp.Messenger):
    def __init__(self, name, log):
        self.name, self.log = name, log

    def _process_message(self, msg):
        self.log.append((self.name, "up", msg["name"]))

    def _postprocess_message(self, msg):
        self.log.append((self.name, "down", msg["value"]))


class Set(cp.Messenger):
    def __init__(self, value, stop=False):
        self.value, self.stop = value, stop

    def _pyro_ask(self, msg):
        msg["value"] = self.value
        msg["stop"] = self.stop


def model():
    return (yield ask(name="a"))


def test_messages_go_up_innermost_first_and_down_outermost_first():
    log = []
    with Set(1), Spy("outer", log), Spy("inner", log):
        assert cp.run(model) == 1
    assert log == [
        ("inner", "up", "a"),
        ("outer", "up", "a"),
        ("outer", "down", 1),
        ("inner", "down", 1),
    ]


def test_stop_hides_a_message_from_handlers_further_out_on_both_ways():
    log = []
    with Spy("outer", log), Set(2, stop=True), Spy("inner", log):
        assert cp.run(model) == 2
    assert [entry[0] for entry in log] == ["inner", "inner"]


def test_methods_are_found_by_the_type_of_the_message():
    class Both(cp.Messenger):
        seen = ()

        def _pyro_ask(self, msg):
            msg["value"] = "asked"

        def _pyro_post_ask(self, msg):
            self.seen += (msg["value"],)

        def _pyro_apply(self, msg):
            msg["args"] = (10, 20)

    def body():
        return (yield ask()), (yield add(1, 2))

    with Both() as handler:
        assert cp.run(body) == ("asked", 30)
    assert handler.seen == ("asked",)


def test_a_post_process_pass_may_change_the_value():
    class Double(cp.Messenger):
        def _pyro_post_apply(self, msg):
            msg["value"] *= 2

    def body():
        return (yield add(1, 2))

    assert cp.run(Double()(Double()(body))) == 12


def test_a_continuation_key_is_called_with_the_finished_message():
    seen = []

    class Later(cp.Messenger):
        def _pyro_apply(self, msg):
            msg["continuation"] = lambda m: seen.append(m["value"])

    def body():
        return (yield add(1, 2))

    with Later():
        assert cp.run(body) == 3
    assert seen == [3]


def test_the_three_ways_of_use_agree():
    @Set(5)
    def decorated():
        return (yield ask())

    def body():
        return (yield ask())

    with Set(5):
        inside = cp.run(body)
    assert inside == cp.run(Set(5)(body)) == cp.run(decorated) == 5
    assert decorated.__name__ == "decorated"


@pytest.mark.parametrize("wrap", ["function", "partial", "method", "callable", "lambda"])
def test_every_kind_of_model_can_be_wrapped(wrap):
    class Thing:
        def __call__(self, n):
            return (yield ask()), n

        def method(self, n):
            return (yield from self(n))

    def function(n):
        return (yield ask()), n

    body = {
        "function": function,
        "partial": functools.partial(function, n=3),
        "method": Thing().method,
        "callable": Thing(),
        "lambda": lambda n: function(n),
    }[wrap]
    args = () if wrap == "partial" else (3,)
    assert cp.run(Set(1)(body), *args) == (1, 3)


def test_wrapping_a_plain_function_installs_the_handler_while_it_runs():
    @Set(7)
    def plain(n):
        return cp.run(model), n

    assert plain(2) == (7, 2)
    assert AMBIENT.get() == ()


def test_the_stack_is_restored_after_exceptions_of_every_kind():
    class Boom(cp.Messenger):
        def __init__(self, where):
            self.where = where

        def _pyro_ask(self, msg):
            msg["value"] = 1
            if self.where == "up":
                raise ZeroDivisionError

        def _pyro_post_ask(self, msg):
            if self.where == "down":
                raise ZeroDivisionError

    def body(where):
        with Set(1), Boom(where):
            yield ask()
            if where == "body":
                raise ZeroDivisionError
            yield from sub()

    def sub():
        with Set(2):
            yield ask()
            raise ZeroDivisionError

    for where in ("up", "down", "body", "sub"):
        with Set(0):
            before = AMBIENT.get()
            with pytest.raises(ZeroDivisionError):
                cp.run(body, where)
            assert AMBIENT.get() is before
    assert AMBIENT.get() == ()


def test_an_error_in_a_handler_is_raised_at_the_models_line_and_can_be_caught():
    class Boom(cp.Messenger):
        def _pyro_ask(self, msg):
            raise LookupError("from the handler")

    def body():
        with Boom():
            try:
                yield ask()
            except LookupError as error:
                return str(error)

    assert cp.run(body) == "from the handler"


def test_handlers_left_in_the_wrong_order_are_an_error():
    a, b = Set(1), Set(2)
    a.__enter__()
    b.__enter__()
    with pytest.raises(HandlerStackError, match="reverse order"):
        a.__exit__(None, None, None)
    assert AMBIENT.get() == ()
    with pytest.raises(HandlerStackError, match="not installed"):
        b.__exit__(None, None, None)


def test_a_handler_whose_enter_forgets_its_base_class_is_told_so():
    class Forgetful(cp.Messenger):
        def __enter__(self):
            return self

    with pytest.raises(HandlerStackError, match=r"return super\(\).__enter__\(\)"):
        with Forgetful():
            pass


def test_handlers_left_in_the_wrong_order_inside_a_model_are_an_error():
    def body():
        a, b = Set(1), Set(2)
        a.__enter__()
        b.__enter__()
        yield ask()
        a.__exit__(None, None, None)

    with pytest.raises(HandlerStackError):
        cp.run(body)
    assert AMBIENT.get() == ()


def test_a_model_that_leaves_a_handler_entered_takes_it_along():
    def body():
        Set(1).__enter__()
        return (yield ask())

    assert cp.run(body) == 1
    assert AMBIENT.get() == ()


def test_a_handler_can_be_entered_twice():
    handler = Set(3)
    with handler, handler:
        assert cp.run(model) == 3
        assert len(AMBIENT.get()) == 2
    assert AMBIENT.get() == ()


def test_a_subclass_needs_no_call_of_the_base_constructor():
    class Odd(cp.Messenger):
        def __init__(self, x, *, y=2):
            self.x, self.y = x, y

    handler = Odd(1, y=3)
    assert (handler.x, handler.y, handler._given) == (1, 3, ((1,), {"y": 3}))


def test_effectful_builds_messages_and_runs_its_default():
    @cp.effectful(type="scale")
    def scale(x, by=2):
        "Doc."
        return x * by

    def body():
        a = yield scale(3)
        b = yield scale(3, by=5, name="n", infer={"i": 1})
        c = yield scale(3, obs=9)
        return a, b, c

    seen = []

    class See(cp.Messenger):
        def _pyro_scale(self, msg):
            seen.append((msg["name"], msg["args"], msg["kwargs"], msg["infer"], msg["is_observed"]))

    assert cp.run(See()(body)) == (6, 15, 9)
    assert seen == [
        (None, (3,), {}, {}, False),
        ("n", (3,), {"by": 5}, {"i": 1}, False),
        (None, (3,), {}, {}, True),
    ]
    assert scale.__doc__ == "Doc." and scale.__name__ == "scale"
    with pytest.raises(ValueError, match="needs a type"):
        cp.effectful(lambda: 1)
    with pytest.raises(TypeError, match="decorates a function"):
        cp.effectful(3, type="t")


def test_an_operation_without_a_handler_is_an_error_with_a_near_name():
    class Near(cp.Handler):
        def on_asks(self, msg, k):
            return (yield k(1))

    with pytest.raises(UnhandledEffectError, match=r"no handler takes the effect ask 'a'.*on_ask"):
        cp.run(model)
    with pytest.raises(UnhandledEffectError, match="Did you mean 'on_asks'"):
        cp.run(cp.handle(Near(), model))
    with pytest.raises(ValueError, match="identifier"):
        cp.operation("not one")


def test_a_handler_that_changes_the_type_of_an_effect_is_followed_by_handlers_of_the_new_type(
    capture,
):
    seen = []

    class Rename(cp.Messenger):
        def _pyro_old(self, msg):
            msg["type"] = "new"

    class New(cp.Messenger):
        def _pyro_old(self, msg):
            seen.append("wrong")

        def _pyro_new(self, msg):
            seen.append("up")

        def _pyro_post_new(self, msg):
            seen.append("down")

    class Take(cp.Handler):
        def on_new(self, msg, k):
            return (yield k(1)) + (yield k(2))

    old = cp.operation("old")

    def model():
        with Rename():
            return (yield old())

    def between():
        with New():
            return (yield model())

    assert cp.run(cp.handle(Take(), between)) == 3
    assert "wrong" not in seen and "up" in seen and seen.count("down") == 2


def test_handlers_entered_and_left_between_effects_are_noticed():
    class Count(cp.Messenger):
        def __init__(self):
            self.met = 0

        def _pyro_ask(self, msg):
            self.met += 1
            msg["value"] = 0

    ask, one, other = cp.operation("ask"), Count(), Count()

    def model():
        with one:
            yield ask()
            with other:
                yield ask()
            yield ask()

    cp.run(model)
    assert (one.met, other.met) == (3, 1)
