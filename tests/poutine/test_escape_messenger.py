"""escape leaves a model at a site, and leaves nothing behind."""

from __future__ import annotations

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.ambient import AMBIENT
from contpoutine.poutine.util import discrete_escape


def at(name):
    return lambda msg: msg["name"] == name


def model(log):
    try:
        with poutine.block(hide=["hidden"]):
            yield cp.sample("a", dist.Flip(1.0))
            yield cp.sample("hidden", dist.Flip(1.0))
            yield cp.sample("b", dist.Flip(1.0))
    finally:
        log.append("clean")
    yield cp.sample("c", dist.Flip(1.0))
    return "end"


def test_it_leaves_at_the_site_and_says_which():
    log = []
    with pytest.raises(poutine.NonlocalExit) as left:
        cp.run(poutine.escape(model, escape_fn=at("b")), log)
    assert left.value.site["name"] == "b"
    assert log == ["clean"] and AMBIENT.get() == ()
    assert str(left.value) == "the model was left at sample 'b'"


def test_where_nothing_escapes_nothing_changes():
    assert cp.run(poutine.escape(model, escape_fn=at("nowhere")), []) == "end"
    assert cp.run(poutine.escape(model, escape_fn=at("hidden")), []) == "end"


def test_handlers_further_out_do_not_see_the_site():
    handler = poutine.trace(poutine.escape(model, escape_fn=at("c")))
    with pytest.raises(poutine.NonlocalExit):
        cp.run(handler, [])
    assert list(handler.trace) == ["_INPUT", "a", "b"]


def test_the_model_may_catch_it():
    def catching():
        try:
            yield cp.sample("a", dist.Flip(0.5))
        except poutine.NonlocalExit as left:
            return left.site["name"]

    assert cp.run(poutine.escape(catching, escape_fn=at("a"))) == "a"


def test_reset_stack_tells_the_handlers_and_stops_at_a_block_that_hides_the_site():
    told = []

    class Told(poutine.messenger.Messenger):
        def __init__(self, name):
            self.name = name

        def _reset(self):
            told.append(self.name)

    msg = {"type": "sample", "name": "x", "is_observed": False}
    left = poutine.NonlocalExit(msg)
    with Told("outer"), poutine.block(hide=["y"]), Told("inner"):
        left.reset_stack()
    assert told == ["inner", "outer"]
    told.clear()
    with Told("outer"), poutine.block(hide=["x"]), Told("inner"):
        left.reset_stack()
    assert told == ["inner"]


def test_reset_makes_a_trace_forget_all_but_its_input():
    def around():
        for attempt in range(2):
            yield cp.sample("a", dist.Flip(0.5))
            if attempt == 0:
                poutine.NonlocalExit({"type": "sample", "name": "a"}).reset_stack()

    assert list(poutine.trace(around).get_trace()) == ["_INPUT", "a", "_RETURN"]


def test_it_works_with_the_queues_escape_function():
    import functools

    escape_fn = functools.partial(discrete_escape, poutine.Trace())
    with pytest.raises(poutine.NonlocalExit) as left:
        cp.run(poutine.escape(model, escape_fn=escape_fn), [])
    assert left.value.site["name"] == "a"


def test_escape_needs_a_function():
    with pytest.raises(TypeError, match="escape_fn=f"):
        poutine.escape(model)
