"""Names that no site has are warned of, with near names; once all executions have run."""

from __future__ import annotations

import warnings

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.ambient import AMBIENT
from contpoutine.errors import TraceMismatchError, UnmetNameWarning


def model():
    weight = yield cp.sample("weight", dist.Flip(0.5))
    if weight:
        yield cp.sample("late", dist.Flip(0.5))
    return weight


@pytest.mark.parametrize("handler", [poutine.condition, poutine.do])
def test_a_run_warns_with_near_names(handler):
    with pytest.warns(UnmetNameWarning, match="'wieght'.*there was 'weight'.*mean 'weight'"):
        cp.run(handler(model, data={"wieght": True}))
    assert AMBIENT.get() == ()


def test_a_site_of_some_branches_only_is_no_reason_to_warn(capture):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cp.infer.enumerate(poutine.condition(model, data={"late": True}), capture=capture)()


def test_a_run_that_draws_warns_of_near_names_only():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cp.run(poutine.condition(model, data={"elsewhere": True}))
    with pytest.warns(UnmetNameWarning, match="given 'elsewhere'"):
        cp.run(poutine.condition(model, data={"weight": True, "late": True, "elsewhere": True}))


def test_an_enumeration_warns_once_at_its_end(capture):
    with pytest.warns(UnmetNameWarning, match="'lat'") as caught:
        cp.infer.enumerate(poutine.condition(model, data={"lat": True}), capture=capture)()
    assert len(caught) == 1


def test_validation_can_be_switched_off():
    poutine.enable_validation(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cp.run(poutine.condition(model, data={"wieght": True}))
    finally:
        poutine.enable_validation(True)


def test_an_exception_is_not_followed_by_a_warning():
    def failing():
        yield cp.sample("a", dist.Flip(0.5))
        raise KeyError("a")

    with pytest.raises(KeyError):
        cp.run(poutine.condition(failing, data={"b": True}))


def test_a_trace_of_another_model_cannot_be_replayed(capture):
    def other():
        yield cp.sample("a", dist.Flip(0.5))
        yield cp.sample("b", dist.Flip(0.5))

    trace = poutine.trace(other).get_trace()
    with pytest.raises(TraceMismatchError, match="has 'a', 'b', and the model performed 'weight'"):
        cp.run(poutine.replay(model, trace=trace))
    assert AMBIENT.get() == ()
    with pytest.raises(TraceMismatchError, match="has 'a', 'b', and the model performed 'weight'"):
        cp.infer.enumerate(poutine.replay(model, trace=trace), capture=capture)()


def test_a_trace_that_shares_one_site_is_replayed(capture):
    def guide():
        yield cp.sample("late", dist.Flip(1.0))

    trace = poutine.trace(guide).get_trace()
    posterior = cp.infer.enumerate(poutine.replay(model, trace=trace), capture=capture)()
    assert len(posterior.marginal()) == 2
