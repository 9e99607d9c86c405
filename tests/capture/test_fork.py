"""`cp.fork`: what a user says about the types of their own."""

from __future__ import annotations

import collections
import enum
import functools
import random
import threading

import pytest

import contpoutine as cp
from contpoutine.capture import ownership
from contpoutine.core.capture import provider
from tests.capture.conftest import native_only
from tests.capture.law import assert_law, assert_refused, choose


@pytest.fixture(autouse=True)
def registrations_end_with_the_test():
    before = dict(ownership.RULES)
    yield
    ownership.RULES.clear()
    ownership.RULES.update(before)
    provider().learn()


class Locked:
    """Holds a lock, which no fork copies."""

    def __init__(self):
        self.lock, self.items = threading.Lock(), []

    def push(self, x):
        with self.lock:
            self.items.append(x)


class Sharp(Locked):
    pass


def pushing(kind):
    def model():
        thing = kind()
        also = [thing]
        thing.push((yield choose(1, 2)))
        also[0].push((yield choose(3, 4)))
        return thing.items, also[0] is thing

    return model


def copy_locked(old, memo):
    fresh = Locked()
    memo.record(old, fresh)
    fresh.items = memo(old.items)
    return fresh


def test_a_type_that_holds_a_lock_is_replayed_until_a_copy_is_registered():
    assert_refused(pushing(Locked), because="lock")
    cp.fork.register(Locked, copy_locked)
    assert_law(pushing(Locked))


def test_a_registration_is_for_the_very_type():
    cp.fork.register(Locked, copy_locked)
    assert_refused(pushing(Sharp), because="lock")


def test_a_registration_replaces_the_one_before():
    calls = []

    def counted(old, memo):
        calls.append(old)
        return copy_locked(old, memo)

    cp.fork.register(Locked, lambda old, memo: old)
    cp.fork.register(Locked, counted)
    assert_law(pushing(Locked))
    assert calls or not cp.capabilities().native


class Connection:
    """Counts for everybody, on purpose."""

    def __init__(self):
        self.asked = 0


@native_only
def test_instances_of_a_shared_type_are_one_object_in_every_branch():
    cp.fork.share(Connection)
    seen = []

    def model():
        connection = Connection()
        seen.append(connection)
        n = yield cp.sample("a", cp.distributions.UniformDraw([1, 10]))
        connection.asked += n
        yield cp.sample("b", cp.distributions.Flip(0.5))
        return connection

    posterior = cp.infer.enumerate(model, capture="clone")()
    assert {id(value) for value in posterior.marginal()} == {id(seen[0])}
    assert seen[0].asked == 11


class Own:
    """Says itself how it is forked."""

    def __init__(self, items):
        self.items, self.forked = items, 0

    def __fork__(self, memo):
        fresh = Own.__new__(Own)
        memo.record(self, fresh)
        fresh.items, fresh.forked = memo(self.items), self.forked + 1
        return fresh


def test_a_fork_method_copies_with_aliases_kept():
    def model():
        xs = []
        own = Own(xs)
        xs.append(own)
        own.items.append((yield choose(1, 2)))
        xs.append((yield choose(3, 4)))
        return own.items is xs, xs[0] is own, xs[1:]

    assert_law(model)


class Broken:
    def __fork__(self, memo):
        raise ValueError("no copy today")


def test_an_error_in_a_fork_method_is_not_swallowed():
    def model():
        thing = Broken()
        yield cp.sample("a", cp.distributions.Flip(0.5))
        return thing

    if cp.capabilities().native:
        with pytest.raises(ValueError, match="no copy today"):
            cp.infer.enumerate(model, capture="auto")()


@pytest.mark.parametrize("cls", [list, dict, int, str, tuple, ValueError, type(len), type])
def test_what_is_settled_cannot_be_registered(cls):
    with pytest.raises(TypeError, match="is settled"):
        cp.fork.register(cls, lambda old, memo: old)
    with pytest.raises(TypeError, match="is settled"):
        cp.fork.share(cls)


def test_what_is_no_class_or_no_function_is_said():
    with pytest.raises(TypeError, match="needs a class, not 3"):
        cp.fork.share(3)
    with pytest.raises(TypeError, match="needs a function copy"):
        cp.fork.register(Locked, "copy")


class MyDefault(collections.defaultdict):
    pass


class MyOrdered(collections.OrderedDict):
    pass


class MySet(set):
    pass


class MyTuple(tuple):
    pass


class MyFloat(float):
    __slots__ = ("note",)


class MyRandom(random.Random):
    pass


class Deep(collections.Counter, dict):
    pass


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize("kind", [MyOrdered, MyDefault, Deep])
def test_subclasses_of_mappings_keep_their_order_and_their_attributes(kind):
    def model():
        d = kind(list, b=[1]) if kind is MyDefault else kind(b=1)
        d.note = [d]
        d["z"] = yield choose(1, 2)
        d["a"] = yield choose(3, 4)
        return list(d.items()), d.note[0] is d, type(d) is kind, getattr(d, "default_factory", 0)

    assert_law(model)


def test_subclasses_of_sets_tuples_numbers_and_generators():
    def model():
        s = MySet({32 * i for i in range(9)})
        s.discard(64)
        xs = []
        t, f, r = MyTuple((xs, 1)), MyFloat(0.5), MyRandom(7)
        t.note, f.note, r.note = xs, [xs], xs
        s.add((yield choose(1, 33)))
        xs.append(r.random())
        f.note.append((yield choose(3, 4)))
        return list(s), list(t), t.note is xs, f, f.note, f.note[0] is xs, r.random(), r.note is xs

    assert_law(model)


def test_bounded_deques_members_of_enumerations_and_partials_of_methods():
    def model():
        last = collections.deque(maxlen=2)
        colours = {Colour.RED: last}
        push = functools.partial(last.append)
        push((yield choose(1, 2)))
        push((yield choose(3, 4)))
        colours[Colour.RED].append(5)
        return list(last), last.maxlen, Colour.RED in colours, push.func.__self__ is last

    assert_law(model)


@native_only
def test_a_fork_costs_what_the_frame_owns_and_not_what_its_arguments_hold():
    """Counted, not timed: a copied object is asked of Python, and says so."""
    copied = []

    class Told:
        def __fork__(self, memo):
            copied.append(self)
            return Told()

    def model(numbers, table, things):
        mine = [Told(), Told()]
        total = 0
        for i in range(4):
            total += yield cp.sample(f"x{i}", cp.distributions.Flip(0.5))
        return total + len(numbers) + len(table) + len(things) + len(mine)

    def forks(*args):
        copied.clear()
        cp.infer.enumerate(model, capture="clone")(*args)
        return len(copied)

    few = forks([], {}, [])
    many = forks([1] * 10**6, dict.fromkeys(range(10**6)), [Told() for _ in range(1000)])
    assert few == many == 2 * 15  # one fork at each choice of the tree
