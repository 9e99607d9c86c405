"""runtime: messages outside of models."""

from __future__ import annotations

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.message import Message
from contpoutine.errors import BarrierError
from contpoutine.poutine.runtime import am_i_wrapped, apply_stack, effectful


def test_a_message_goes_up_and_down_the_stack():
    with poutine.trace() as tr, poutine.condition(data={"x": True}):
        msg = apply_stack(Message(type="sample", name="x", fn=dist.Flip(0.5)))
    assert msg["value"] is True and msg["done"]
    assert list(tr.trace) == ["x"]


def test_without_handlers_it_takes_its_default():
    assert apply_stack(Message(type="sample", name="x", fn=dist.Flip(1.0)))["value"] is True


def test_a_plain_dictionary_is_filled_in():
    msg = {"type": "sample", "name": "x", "fn": dist.Flip(1.0)}
    assert apply_stack(msg) is msg
    assert msg["value"] is True and msg["scale"] == 1.0


def test_a_control_handler_cannot_take_it():
    class Ask(cp.Handler):
        def on_ask(self, msg, k):
            return (yield k(1))

    def model():
        yield cp.sample("x", dist.Flip(0.5))
        return apply_stack(Message(type="ask", name="q"))

    with pytest.raises(BarrierError):
        cp.run(cp.handle(Ask(), model))


def test_am_i_wrapped():
    assert not am_i_wrapped()
    with poutine.condition(data={}):
        assert am_i_wrapped()

    def model():
        return am_i_wrapped()
        yield  # a generator

    assert cp.run(model) is False
    assert cp.run(poutine.block(model)) is True


def test_effectful_is_the_same_as_everywhere():
    assert effectful is cp.effectful
