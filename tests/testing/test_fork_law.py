"""`assert_fork_law` passes where the law holds, and says what is wrong where it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.testing import Outcome, assert_fork_law
from tests.capture.law import NATIVE

choose = cp.operation("choose")


class Shared:
    """Says that branches can share it, and changes."""

    def __init__(self):
        self.seen = []

    def __fork__(self, memo):
        return self


def coins(n):
    seen = []
    for i in range(n):
        seen.append((yield cp.sample(f"coin{i}", dist.Flip(0.5))))
    return seen


def test_the_runs_that_ended_are_given_by_the_places_of_their_answers():
    ended = assert_fork_law(coins, 2)
    assert {path: outcome.value for path, outcome in ended.items()} == {
        (0, 0): [True, True],
        (0, 1): [True, False],
        (1, 0): [False, True],
        (1, 1): [False, False],
    }
    assert all(isinstance(outcome, Outcome) for outcome in ended.values())


@pytest.mark.skipif(not NATIVE, reason="about clones")
def test_an_object_that_branches_share_is_found_and_the_message_says_where():
    def model():
        shared = Shared()
        for i in range(2):
            shared.seen.append((yield cp.sample(f"x{i}", dist.Flip(0.5))))
        return list(shared.seen)

    with pytest.raises(AssertionError) as caught:
        assert_fork_law(model, capture="auto")
    message = str(caught.value)
    assert "model (" in message and __file__ in message
    assert 'under capture="auto"' in message
    assert "sample 'x0' at" in message
    assert "the resumed branch" in message and "a run from the start" in message
    assert "__fork__(self, memo)" in message
    assert_fork_law(model, capture="replay")


@pytest.mark.skipif(not NATIVE, reason="about clones")
def test_a_value_that_a_later_branch_changes_is_found():
    def model():
        shared = Shared()
        shared.seen = ["begun"]
        first = yield cp.sample("x", dist.Flip(0.5))
        shared.seen[0] = first
        return shared

    with pytest.raises(AssertionError, match="was changed by another branch"):
        assert_fork_law(model, capture="auto")


def test_a_model_that_changes_what_is_not_its_own_is_blamed():
    outside = []

    def model():
        x = yield cp.sample("x", dist.Flip(0.5))
        outside.append(x)
        return len(outside)

    with pytest.raises(AssertionError, match="breaks the contract of resumption") as caught:
        assert_fork_law(model)
    assert "one run" in str(caught.value)


def test_a_model_that_changes_its_arguments_is_blamed():
    def model(xs):
        xs.append((yield cp.sample("x", dist.Flip(0.5))))
        return xs

    with pytest.raises(AssertionError, match="an argument that is changed"):
        assert_fork_law(model, [])


def test_what_cannot_be_cloned_is_said_when_clones_are_asked_for():
    def model():
        import threading

        lock = threading.Lock()
        yield cp.sample("x", dist.Flip(0.5))
        return lock.locked()

    assert_fork_law(model)
    if NATIVE:
        with pytest.raises(AssertionError, match='capture="auto" replays here instead'):
            assert_fork_law(model, capture="clone")


def test_sites_of_another_type_are_answered_with_their_arguments():
    def model():
        return (yield choose("a", "b"))

    ended = assert_fork_law(model, effect="choose")
    assert [ended[i,].value for i in (0, 1)] == ["a", "b"]
    ended = assert_fork_law(model, effect="choose", answers=lambda msg: [7])
    assert ended[0,].value == 7


def test_a_site_can_be_answered_by_an_exception():
    def model():
        try:
            x = yield cp.sample("x", dist.Flip(0.5))
        except KeyError:
            x = "caught"
        return [x]

    ended = assert_fork_law(model, throws=(KeyError, ValueError))
    assert ended[2,].value == ["caught"]
    assert ended[3,].kind == "raised" and isinstance(ended[3,].value, ValueError)


def test_observed_sites_factors_and_sites_of_another_type_get_their_defaults():
    @cp.effectful(type="add")
    def add(a, b):
        return a + b

    def model():
        x = yield cp.sample("x", dist.Flip(0.5))
        y = yield cp.observe("y", dist.Flip(0.5), True)
        yield cp.factor("f", -1.0)
        return x, y, (yield add(1, 2))

    ended = assert_fork_law(model)
    assert [ended[i,].value for i in (0, 1)] == [(True, True, 3), (False, True, 3)]


def test_values_of_probability_zero_are_no_answers():
    def model():
        return (yield cp.sample("x", dist.Finite({1: 1.0, 2: 0.0})))

    assert [outcome.value for outcome in assert_fork_law(model).values()] == [1]


def test_a_model_that_brings_handlers_and_sub_models_of_its_own():
    class Double(cp.Messenger):
        def __init__(self):
            self.seen = []

        def _pyro_post_sample(self, msg):
            self.seen.append(msg["value"])

    class Both(cp.Handler):
        def on_choose(self, msg, k):
            first, second = msg["args"]
            return [(yield k(first)), (yield k(second))]

    def sub(xs):
        xs.append((yield choose(1, 2)))
        return xs, (yield cp.sample("y", dist.Flip(0.5)))

    def model():
        with Double() as double:
            x = yield cp.sample("x", dist.Flip(0.5))
            both = yield cp.handle(Both(), sub)([x])
        return x, both, double.seen

    assert len(assert_fork_law(model)) == 8


def test_a_model_without_end_is_checked_on_its_first_branches():
    def model():
        n = 0
        while (yield cp.sample("more", dist.Flip(0.5))):
            n += 1
        return n

    assert len(assert_fork_law(model, max_resumptions=50)) > 5


def test_batched_sites_are_answered_by_tensors():
    torch = pytest.importorskip("torch")

    def model():
        x = yield cp.sample("x", dist.Bernoulli(torch.tensor([0.5, 0.5])).to_event(1))
        total = torch.zeros(2)
        total += x
        y = yield cp.sample("y", dist.Bernoulli(0.5))
        total += y
        return total

    assert len(assert_fork_law(model)) == 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"capture": "copy"}, "auto, clone or replay"),
        ({"effect": "no name"}, "type of a site"),
    ],
)
def test_options_are_checked_early(options, says):
    with pytest.raises(ValueError, match=says):
        assert_fork_law(coins, 1, **options)


def test_without_hypothesis_the_law_can_be_checked_and_models_say_what_is_missing():
    script = """
import sys
sys.modules["hypothesis"] = None
import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import testing

def model():
    return (yield cp.sample("x", dist.Flip(0.5)))

assert len(testing.assert_fork_law(model)) == 2
try:
    testing.models
except cp.errors.MissingDependencyError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install hypothesis" in result.stdout, result.stderr


def test_testing_is_not_imported_by_the_package():
    script = "import sys, contpoutine; print('contpoutine.testing' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
