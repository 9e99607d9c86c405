"""block hides sites by every rule that Pyro has, and agrees with Pyro's on all of them."""

from __future__ import annotations

import itertools

import pytest
from pyro.poutine.block_messenger import BlockMessenger as PyroBlock

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.errors import UnmetNameWarning

param = cp.effectful(lambda value: value, type="param")
NAMES = ["a", "b", "y", "w"]


def model():
    w = yield param(1.0, name="w")
    a = yield cp.sample("a", dist.Flip(0.5))
    b = yield cp.sample("b", dist.Flip(0.5))
    y = yield cp.sample("y", dist.Flip(0.5), obs=True)
    return w, a, b, y


def exposed(**options):
    trace = poutine.trace(poutine.block(model, **options)).get_trace()
    return {name for name in trace if not name.startswith("_")}


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, ""),
        ({"hide_all": True}, ""),
        ({"hide_all": False}, "abyw"),
        ({"expose_all": True}, "abyw"),
        ({"hide": ["a"]}, "byw"),
        ({"expose": ["a"]}, "a"),
        ({"hide_types": ["sample"]}, "yw"),
        ({"hide_types": ["observe"]}, "abw"),
        ({"hide_types": ["param"]}, "aby"),
        ({"expose_types": ["sample"]}, "ab"),
        ({"expose_types": ["observe", "param"]}, "yw"),
        ({"expose": ["a"], "expose_types": ["param"]}, "aw"),
        ({"hide": ["a"], "expose_types": ["sample"]}, "b"),
        ({"hide": ["a"], "hide_types": ["param"]}, "by"),
        ({"expose": ["a"], "hide_types": ["param"]}, "aby"),
        ({"hide": ["a"], "expose": ["b"]}, "b"),
        ({"hide_fn": lambda msg: msg["type"] == "param"}, "aby"),
        ({"expose_fn": lambda msg: msg["name"] in "ab"}, "ab"),
        ({"hide_fn": lambda msg: None}, "abyw"),
        ({"expose_fn": lambda msg: None}, ""),
    ],
)
def test_each_rule(options, seen):
    assert exposed(**options) == set(seen)


def test_every_combination_of_lists_agrees_with_pyro():
    messages = [
        {"name": name, "type": kind, "is_observed": name == "y"}
        for name, kind in (("a", "sample"), ("b", "sample"), ("y", "sample"), ("w", "param"))
    ]
    lists = [None, [], ["a"], ["a", "w"]]
    types = [None, [], ["sample"], ["observe", "param"]]
    compared = 0
    for hide, expose, hide_types, expose_types in itertools.product(lists, lists, types, types):
        for hide_all in (None, False):
            options = {
                "hide": hide,
                "expose": expose,
                "hide_types": hide_types,
                "expose_types": expose_types,
            }
            if hide_all is not None:
                options["hide_all"] = hide_all
            try:
                theirs = PyroBlock(**options)
            except AssertionError:
                with pytest.raises(ValueError, match="cannot hide and expose"):
                    poutine.block(**options)
                continue
            ours = poutine.block(**options)
            for msg in messages:
                assert ours.hide_fn(msg) == theirs.hide_fn(msg), (options, msg)
            compared += 1
    assert compared > 200


def test_hidden_sites_keep_their_values():
    conditioned = poutine.condition(model, data={"a": True, "b": False})
    assert cp.run(poutine.block(conditioned)) == (1.0, True, False, True)


def test_handlers_inside_see_everything():
    inner = poutine.trace(model)
    outer = poutine.trace(poutine.block(inner, hide=["a"])).get_trace()
    assert "a" in inner.trace and "a" not in outer and "b" in outer


def test_a_condition_outside_does_not_reach_a_hidden_site():
    hidden = poutine.block(model, hide=["a"])
    data = {"a": "never", "b": "here"}
    with pytest.warns(UnmetNameWarning, match="condition was given 'a'"):
        assert cp.run(poutine.condition(hidden, data=data))[1] in (True, False)
    with pytest.warns(UnmetNameWarning, match="condition was given 'a'"):
        assert cp.run(poutine.condition(hidden, data=data))[2] == "here"


def test_a_control_handler_outside_does_not_get_a_hidden_site():
    class Zero(cp.Handler):
        def on_sample(self, msg, k):
            return (yield k(0))

    assert cp.run(cp.handle(Zero(), poutine.block(model, expose=["b"])))[1:3] in [
        (True, 0),
        (False, 0),
    ]


def test_blocking_twice_is_blocking_once():
    twice = poutine.block(poutine.block(model, hide=["a"]), hide=["a"])
    assert set(poutine.trace(twice).get_trace()) - {"_INPUT", "_RETURN"} == set("byw")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hide_fn": bool, "expose_fn": bool}, "not both"),
        ({"hide_all": True, "expose_all": True}, "at once"),
        ({"hide": ["a"], "expose": ["a"]}, "cannot hide and expose 'a': it is in hide and expose"),
        ({"hide_types": ["param"], "expose_types": ["param"]}, "hide_types and expose_types"),
        ({"hide": "a"}, r"hide=\['a'\]"),
    ],
)
def test_contradictions_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        poutine.block(model, **options)
