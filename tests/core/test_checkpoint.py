"""A checkpoint outlives the run that made it, and is resumed as often as one likes."""

from __future__ import annotations

import pytest

import contpoutine as cp
from contpoutine.core.checkpoint import Checkpoint
from contpoutine.core.continuation import Origin
from contpoutine.core.machine import Computation, Finished
from contpoutine.core.native import native
from tests.capture.law import WORKING, strategy

ask = cp.operation("ask")


@pytest.fixture(params=WORKING)
def capture(request):
    with strategy(request.param):
        yield request.param


def model(n):
    seen = []
    for i in range(n):
        seen.append((yield ask(i)))
    return seen


def begin(n=3, model=model):
    computation = Computation([model(n)], (), Origin(model, (n,), {}))
    computation.resume()
    return computation


def answer(computation, value):
    computation.undecided = True
    return computation.answer(value)


def test_each_resumption_goes_on_from_the_same_place(capture):
    computation = begin()
    answer(computation, "a")
    place = Checkpoint(computation)
    assert place.msg["args"] == (1,)
    for value in "xyz":
        other = place.resume()
        assert other.pending["args"] == (1,)
        answer(other, value)
        event = answer(other, "end")
        assert type(event) is Finished and event.value == ["a", value, "end"]


def test_the_first_resumption_is_no_replay_and_needs_none():
    place = Checkpoint(begin())
    first = place.resume()
    assert place.why_replayed is None or native is None
    assert first.pending["args"] == (0,)


def test_an_exception_that_was_answered_is_replayed():
    def careful(n):
        try:
            yield ask(0)
        except KeyError:
            return "refused", (yield ask(1))

    with strategy("replay"):
        computation = begin(model=careful)
        computation.answer_by_error(KeyError("no"))
        place = Checkpoint(computation)
        for value in (1, 2):
            assert answer(place.resume(), value).value == ("refused", value)


def test_only_a_suspended_computation_has_one():
    computation = begin(0)
    with pytest.raises(ValueError, match="waits for an answer"):
        Checkpoint(computation)


def test_it_says_where_it_waits():
    assert "checkpoint at ask" in repr(Checkpoint(begin()))
    assert "test_checkpoint.py" in repr(Checkpoint(begin()))
