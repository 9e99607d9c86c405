"""Returns through frames that wait in one state: remembered where nobody can tell, and only there."""

import math

import pytest

import contpoutine as cp
import contpoutine.distributions as dist

FLIP = dist.Flip(0.5)


def marginal(model, *args, capture="auto", **options):
    posterior = cp.infer.enumerate(model, capture=capture, **options)(*args)
    return dict(posterior.marginal().items())


def agree(model, *args, **options):
    """Clone and replay give the same histogram, value by value and type by type."""
    cloned = marginal(model, *args, **options)
    replayed = marginal(model, *args, capture="replay", **options)
    assert {(type(v), repr(v)): p for v, p in cloned.items()} == pytest.approx(
        {(type(v), repr(v)): p for v, p in replayed.items()}
    )
    return cloned


def count(depth):
    if depth == 0 or (yield cp.sample("stop", FLIP)):
        return 0
    return 1 + (yield count(depth - 1))


@pytest.mark.parametrize("order", ["depth_first", "breadth_first", "likely_first"])
def test_a_recursion_that_counts_is_exact(order):
    found = agree(count, 6, order=order)
    assert found == pytest.approx({**{n: 0.5 ** (n + 1) for n in range(6)}, 6: 0.5**6})


def test_frames_that_hold_other_operands_return_other_values():
    def tree(depth, weight):
        if depth == 0:
            return weight if (yield cp.sample("leaf", FLIP)) else 0
        left = yield tree(depth - 1, weight)
        right = yield tree(depth - 1, weight * 10)
        return left + right

    agree(tree, 2, 1)


def test_equal_operands_of_other_types_are_told_apart():
    def scaled(unit):
        return unit * (yield leaf())

    def leaf():
        return 1 if (yield cp.sample("leaf", FLIP)) else 2

    def model():
        unit = (1, 1.0, True)[(yield cp.sample("unit", dist.RandInt(0, 3)))]
        return repr((yield scaled(unit)))

    assert set(agree(model)) == {"1", "2", "1.0", "2.0"}


def test_answers_of_other_types_are_told_apart():
    def inner():
        return (1, 1.0, True, -0.0, 0.0, 0)[(yield cp.sample("x", dist.RandInt(0, 6)))]

    def outer():
        return (yield inner())

    def model():
        yield cp.sample("again", FLIP)
        return repr((yield outer()))

    assert set(agree(model)) == {"1", "1.0", "True", "-0.0", "0.0", "0"}


def test_what_a_frame_does_on_its_way_out_is_done_on_every_path():
    log = []

    def noisy():
        answer = yield count(1)
        log.append(answer)
        return answer

    def model():
        yield cp.sample("first", FLIP)
        return (yield noisy())

    marginal(model)
    assert sorted(log) == [0, 0, 1, 1]


def test_a_frame_that_fails_fails_on_every_path_that_would():
    def inverse():
        return 1 / (yield count(1))

    def model():
        failed = 0
        for _ in range(2):
            try:
                yield inverse()
            except ZeroDivisionError:
                failed += 1
        return failed

    assert agree(model) == pytest.approx({0: 0.25, 1: 0.5, 2: 0.25})


def test_an_answer_that_has_its_own_arithmetic_is_asked_each_time():
    class Tally:
        asked = 0

        def __radd__(self, other):
            Tally.asked += 1
            return other

    def inner():
        yield cp.sample("x", FLIP)
        return TALLY

    def outer():
        return 1 + (yield inner())

    TALLY = Tally()

    def model():
        yield cp.sample("first", FLIP)
        return (yield outer())

    marginal(model)
    assert Tally.asked == 4


def test_an_operand_that_has_its_own_arithmetic_is_asked_each_time():
    class Shift:
        asked = 0

        def __add__(self, other):
            Shift.asked += 1
            return other

    def outer(shift):
        return shift + (yield count(1))

    def model(shift):
        yield cp.sample("first", FLIP)
        return (yield outer(shift))

    marginal(model, Shift())
    assert Shift.asked == 4


def test_what_a_frame_owns_is_dropped_on_every_path():
    class Own:
        dropped = 0

        def __del__(self):
            Own.dropped += 1

    def outer():
        own = Own()  # noqa: F841
        return 1 + (yield count(1))

    def model():
        yield cp.sample("first", FLIP)
        return (yield outer())

    posterior = cp.infer.enumerate(model)()
    assert Own.dropped >= 4
    assert posterior.executions == 4


def test_a_deep_recursion_returns_through_all_its_calls():
    def geometric():
        if (yield cp.sample("stop", dist.Flip(0.3))):
            return 0
        return 1 + (yield geometric())

    posterior = cp.infer.enumerate(geometric, order="likely_first", max_executions=1500)()
    found = dict(posterior.marginal().items())
    assert list(found) == list(range(1500))
    for n in (0, 1, 700, 1499):
        assert math.isclose(
            math.log(found[n]) - math.log(found[0]), n * math.log(0.7), rel_tol=1e-9, abs_tol=1e-9
        )
