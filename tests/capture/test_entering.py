"""A handler that was made outside and never begins afresh: right, or refused by name."""

from __future__ import annotations

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.errors import CaptureError, HandlerStateError
from tests.capture.law import Asked, Keeping, choose

ORDERS = ("depth_first", "breadth_first", "likely_first")


class Sticky(cp.Messenger):
    """Its state is made when the handler is made."""

    def __init__(self, label="label"):
        self.label, self.seen, self.total = label, [], 0

    def _pyro_post_sample(self, msg):
        self.seen.append(msg["value"])
        self.total += 1

    def _pyro_post_choose(self, msg):
        self._pyro_post_sample(msg)


class Late(Sticky):
    """Begins afresh, after it is installed."""

    def __enter__(self):
        super().__enter__()
        self.seen, self.total = [], 0
        return self


def flips(n):
    for i in range(n):
        yield cp.sample(f"x{i}", dist.Flip(0.5))


def inside(handler, n):
    with handler:
        yield from flips(n)
        return tuple(handler.seen), handler.total


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [Sticky, Late])
def test_one_that_is_entered_at_the_start_counts_its_own_branch_only(kind, order, capture):
    handler = kind()
    posterior = cp.infer.enumerate(inside, order=order, capture=capture)(handler, 3)
    leaves = list(posterior.marginal())
    assert len(leaves) == 8
    assert all(total == len(seen) == 3 for seen, total in leaves)


def wrapped(self, n):
    def model():
        with self:
            yield from flips(n)
            return tuple(self.seen), self.total

    return model


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [Sticky, Late])
def test_one_that_the_model_closes_over_is_its_own_in_every_branch(kind, order, capture):
    leaves = cp.infer.enumerate(wrapped(kind(), 3), order=order, capture=capture)().marginal()
    assert len(leaves) == 8
    assert all(total == len(seen) == 3 for seen, total in leaves)


GLOBAL = Sticky()


def reads_a_global():
    with GLOBAL:
        yield from flips(3)
        return tuple(GLOBAL.seen), GLOBAL.total


@pytest.mark.parametrize("order", ORDERS)
def test_one_that_is_a_global_is_replayed_and_says_so(order, capture):
    GLOBAL.__init__()
    if capture == "clone":
        with pytest.raises(CaptureError, match="is the global 'GLOBAL'"):
            cp.infer.enumerate(reads_a_global, order=order, capture=capture)()
        return
    leaves = cp.infer.enumerate(reads_a_global, order=order, capture=capture)().marginal()
    assert len(leaves) == 8
    assert all(total == len(seen) == 3 for seen, total in leaves)


@pytest.mark.parametrize("order", ORDERS)
def test_one_that_a_branch_enters_after_another_has_used_it_is_right_or_refused(order, capture):
    handler = Sticky()

    def model():
        yield cp.sample("first", dist.Flip(0.5))
        return (yield from inside(handler, 1))

    if capture == "clone" and order == "depth_first":
        with pytest.raises(HandlerStateError, match="Sticky.*`seen`, `total`.*__enter__"):
            cp.infer.enumerate(model, order=order, capture=capture)()
        return
    try:
        leaves = cp.infer.enumerate(model, order=order, capture=capture)().marginal()
    except (HandlerStateError, CaptureError):
        return
    assert len(leaves) == 2
    assert all(total == len(seen) == 1 for seen, total in leaves)


def test_one_that_begins_afresh_may_be_entered_by_every_branch(capture):
    handler = Late()

    def model():
        yield cp.sample("first", dist.Flip(0.5))
        return (yield from inside(handler, 2))

    if capture == "clone":  # one object in two branches: what a clone cannot have
        return
    leaves = cp.infer.enumerate(model, capture=capture)().marginal()
    assert len(leaves) == 4 and all(total == 2 for _, total in leaves)


def test_one_without_a_state_and_one_made_by_the_model_may_be_entered_by_every_branch(capture):
    class Plain(cp.Messenger):
        def __init__(self, data):
            self.data = data

        def _pyro_sample(self, msg):
            assert msg["name"] not in self.data

    handler = Plain({"a": 1})

    def model():
        x = yield cp.sample("x", dist.Flip(0.5))
        mine = Sticky()
        for i in range(2):
            with handler, mine:
                x += yield cp.sample(f"y{i}", dist.Flip(0.5))
        return x, mine.total

    if capture == "clone":
        return
    leaves = cp.infer.enumerate(model, capture=capture)().marginal()
    assert {total for _, total in leaves} == {2}


def test_a_continuation_that_is_replayed_finds_the_handler_as_it_was_first(capture):
    handler = Sticky()

    def model():
        with handler:
            yield choose(0, 1)
            yield choose(2, 3)
            return handler.total, list(handler.seen)

    asked = cp.run(cp.handle(Keeping(), model))
    for a in (0, 1, 0):
        inner = cp.run(asked.k(a))
        assert isinstance(inner, Asked)
        for b in (2, 3):
            assert cp.run(inner.k(b)) == (2, [a, b])


def test_outside_of_an_enumeration_a_handler_may_count_on():
    handler = Sticky()
    for _ in range(2):
        with handler:
            cp.run(flips, 2)
    assert handler.total == 4
