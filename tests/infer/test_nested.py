"""Queries inside of queries, and marginals as the distributions of sites."""

import contextlib
import math

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.errors import CircularQueryError, DistributionError
from contpoutine.infer.nested import is_frozen

# By replay a question that is asked once is still run again for each resumption inside of it.
counts_runs = pytest.mark.clones("counts how often a model runs, which replay does for its living")
native_only = pytest.mark.skipif(
    not cp.capabilities().native, reason="questions are told apart by state keys, which C reads"
)


def weather(rain):
    wet = yield cp.sample("wet", dist.Flip(rain))
    yield cp.observe("seen", dist.Flip(0.9 if wet else 0.2), True)
    return wet


@pytest.mark.parametrize("capture", ["auto", "replay"])
def test_a_marginal_is_the_distribution_of_a_site(capture):
    def model():
        believed = cp.infer.enumerate(weather)(0.5).marginal()
        return (yield cp.sample("x", believed))

    found = cp.infer.enumerate(model, capture=capture)().marginal()
    assert found[True] == pytest.approx(0.9 / 1.1)


@pytest.mark.parametrize("capture", ["auto", "replay"])
def test_a_marginal_weighs_an_observation(capture):
    def model():
        rain = yield cp.sample("rain", dist.UniformDraw([0.1, 0.5]))
        yield cp.observe("said", cp.infer.enumerate(weather)(rain).marginal(), True)
        return rain

    found = cp.infer.enumerate(model, capture=capture)().marginal()
    likelihood = {rain: 0.9 * rain / (0.9 * rain + 0.2 * (1 - rain)) for rain in (0.1, 0.5)}
    assert dict(found.items()) == pytest.approx(
        {rain: likelihood[rain] / sum(likelihood.values()) for rain in likelihood}
    )


def test_a_value_that_the_inner_model_never_gives_weighs_nothing():
    def certain():
        yield cp.sample("x", dist.Flip(0.5))
        return "this"

    def model():
        guess = yield cp.sample("guess", dist.UniformDraw(["this", "that"]))
        yield cp.observe("said", cp.infer.enumerate(certain)().marginal(), guess)
        return guess

    assert dict(cp.infer.enumerate(model)().marginal().items()) == {"this": 1.0}


def test_a_marginal_is_drawn_from_where_nothing_enumerates():
    believed = cp.infer.enumerate(weather)(0.5).marginal()

    def sampled_outside():
        return (yield cp.sample("x", believed))

    trace = poutine.trace(sampled_outside).get_trace()
    assert trace.nodes["x"]["value"] in (True, False)
    assert float(trace.log_prob_sum()) == pytest.approx(
        math.log({True: 0.9 / 1.1, False: 0.2 / 1.1}[trace.nodes["x"]["value"]])
    )


def test_a_marginal_of_a_stopped_enumeration_is_no_distribution():
    part = cp.infer.enumerate(weather, max_executions=1)(0.5).marginal()

    def model():
        yield cp.sample("x", part)

    with pytest.raises(DistributionError, match=r"a budget stopped.*from_weights"):
        cp.infer.enumerate(model)()


def test_a_marginal_of_a_site_that_may_not_occur_is_no_distribution():
    def sometimes():
        if (yield cp.sample("a", dist.Flip(0.5))):
            yield cp.sample("b", dist.Flip(0.5))

    marginal = cp.infer.enumerate(sometimes)().marginal("b")

    def model():
        yield cp.observe("x", marginal, True)

    with pytest.raises(DistributionError, match="occurs on some executions only"):
        cp.infer.enumerate(model)()


# --- what is remembered ---------------------------------------------------------------------------


class Log:
    """Counts runs where no question sees it: a global that changes would tell two apart."""

    runs = []


def logged(kind, items):
    Log.runs.append((kind, tuple(items)))
    x = yield cp.sample("x", dist.Flip(0.5))
    return (kind, x)


@pytest.fixture
def log():
    Log.runs.clear()
    return Log.runs


@native_only
@counts_runs
def test_an_equal_question_is_asked_once(log):
    def model():
        for _ in range(3):
            yield cp.sample("a", dist.Flip(0.5))
        answer = cp.infer.enumerate(logged)("k", [1, 2]).marginal()
        return (yield cp.sample("answer", answer))

    first = cp.infer.enumerate(model)()
    assert first.marginal()[("k", True)] == pytest.approx(0.5)
    assert log == [("k", (1, 2))]
    cp.infer.enumerate(model)()
    assert len(log) == 2  # for the duration of the outer query


@native_only
@counts_runs
def test_questions_that_differ_in_a_type_a_value_or_an_option_are_asked_each(log):
    def model():
        yield cp.sample("a", dist.Flip(0.5))
        for kind in (1, True, 1.0, 0.0, -0.0):
            cp.infer.enumerate(logged)(kind, ())
        cp.infer.enumerate(logged)(1, (1,))
        cp.infer.enumerate(logged, order="likely_first")(1, ())

    cp.infer.enumerate(model)()
    assert len(log) == 7


BELIEF = {"p": 0.2}


def believer():
    return (yield cp.sample("x", dist.Flip(believed())))


def believed():
    return BELIEF["p"]


@native_only
def test_a_global_that_has_changed_between_two_questions_is_read_again():
    def model():
        BELIEF["p"] = 0.2
        first = cp.infer.enumerate(believer)().marginal()
        BELIEF["p"] = 0.9
        second = cp.infer.enumerate(believer)().marginal()
        return (yield cp.sample("a", first)), (yield cp.sample("b", second))

    assert cp.infer.enumerate(model)().marginal()[True, True] == pytest.approx(0.18)


@native_only
def test_closures_are_told_apart_by_what_they_close_over():
    def model():
        rain = yield cp.sample("rain", dist.UniformDraw([0.25, 0.5, 0.75]))

        def inner():
            return (yield cp.sample("x", dist.Flip(rain)))

        return cp.infer.enumerate(inner)().marginal()[True]

    found = cp.infer.enumerate(model)().marginal()
    assert sorted(found) == pytest.approx([0.25, 0.5, 0.75])


@pytest.mark.parametrize("capture", ["auto", "replay"])
def test_an_answer_that_holds_what_can_be_changed_is_nobodys_but_the_branchs(capture):
    def inner():
        x = yield cp.sample("x", dist.Flip(0.5))
        return [x]

    def model():
        answer = cp.infer.enumerate(inner)().marginal()
        for _ in range(2):
            if (yield cp.sample("a", dist.Flip(0.5))):
                next(iter(answer)).append("seen")
        again = cp.infer.enumerate(inner)().marginal()
        return len(next(iter(answer))), len(next(iter(again)))

    found = cp.infer.enumerate(model, capture=capture)().marginal()
    assert dict(found.items()) == pytest.approx({(2, 1): 0.5, (1, 1): 0.25, (3, 1): 0.25})


@native_only
def test_a_handler_around_the_inner_sites_is_asked_each_time():
    def inner():
        return (yield cp.sample("x", dist.Flip(0.5)))

    def model():
        plain = cp.infer.enumerate(inner)().marginal()[True]
        with poutine.condition(data={"x": True}):
            conditioned = cp.infer.enumerate(inner)().marginal()[True]
        yield cp.sample("a", dist.Flip(0.5))
        return plain, conditioned

    assert set(cp.infer.enumerate(model)().marginal()) == {(0.5, 1.0)}


@native_only
def test_a_query_that_asks_itself_is_an_error_that_says_so():
    def circular(n):
        yield cp.sample("x", dist.Flip(0.5))
        return (yield cp.sample("y", cp.infer.enumerate(circular)(n).marginal()))

    def model():
        return (yield cp.sample("z", cp.infer.enumerate(circular)(1).marginal()))

    with pytest.raises(CircularQueryError, match="how deep to reason"):
        cp.infer.enumerate(model)()


def failing():
    Log.runs.append("failing")
    yield cp.sample("x", dist.Flip(0.5))
    raise KeyError("no")


@native_only
@counts_runs
def test_a_question_that_failed_is_asked_again(log):
    def model():
        for _ in range(2):
            with contextlib.suppress(KeyError):
                cp.infer.enumerate(failing)()
        yield cp.sample("a", dist.Flip(0.5))

    cp.infer.enumerate(model)()
    assert len(log) == 2


def test_recursive_reasoning_counts_down():
    """Two players of a coordination game, each simulating the other to a depth."""

    def player(depth):
        place = yield cp.sample("place", dist.Finite({"bar": 0.55, "cafe": 0.45}))
        if depth:
            other = cp.infer.enumerate(player)(depth - 1).marginal()
            yield cp.observe("meets", other, place)
        return place

    p = 0.55
    for _ in range(3):
        p = 0.55 * p / (0.55 * p + 0.45 * (1 - p))
    assert cp.infer.enumerate(player)(3).marginal()["bar"] == pytest.approx(p)


def test_what_is_frozen_is_plain_all_the_way_down():
    from typing import NamedTuple

    class Point(NamedTuple):
        x: object

    assert is_frozen(Point((1, "a", None, frozenset({2}))))
    assert not is_frozen(Point([1]))
    assert not is_frozen(object())
