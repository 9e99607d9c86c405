"""State keys: equal keys, equal futures; and what keeps two states apart."""

from __future__ import annotations

import collections
import dataclasses
import enum
import fractions
import functools
import gc
import itertools
import math
import os
import random
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import contpoutine as cp
from contpoutine.testing import DrawnModel, models
from tests.capture.conftest import native_only
from tests.capture.law import Asked, Keeping, all_paths, choose, outcome_of

pytestmark = native_only

EXAMPLES = int(os.environ.get("LAWS", "500"))


def keyed(model: Any) -> list[tuple[tuple[int, ...], Any]]:
    """(path, key) of each answer to each question of a model."""
    found = []
    waiting = [((), outcome_of(lambda: cp.run(cp.handle(Keeping(), model))))]
    while waiting:
        path, asked = waiting.pop()
        if not isinstance(asked, Asked):
            continue
        for i, option in enumerate(asked.options):
            found.append(((*path, i), asked.k.state_key(option)))
        for i, option in enumerate(asked.options):
            outcome = outcome_of(lambda k=asked.k, v=option: cp.run(k(v)))
            waiting.append(((*path, i), outcome))
    return found


def check_law(model: Any) -> int:
    """No two states with one key differ in what can follow. Gives how many keys were met again."""
    futures = collections.defaultdict(dict)
    for path, outcome in all_paths(model).items():
        for at in range(1, len(path) + 1):
            futures[path[:at]][path[at:]] = outcome
    first: dict[Any, Any] = {}
    again = 0
    for path, key in keyed(model):
        if key in first:
            again += 1
            assert futures[path] == futures[first[key]], (path, first[key])
        else:
            first[key] = path
    return again


@given(models("choose"), st.sets(st.integers(0, 11), max_size=4))
@settings(
    max_examples=max(1, EXAMPLES // 5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_on_drawn_models_equal_keys_have_equal_futures(model, places):
    body, _, held = model.source.rpartition("return [")
    names = held.rstrip("]\n").split(", ")
    kept = sorted({names[place % len(names)] for place in places})
    check_law(DrawnModel(f"{body}return [{', '.join([*kept, 'len(fuel)'])}]\n"))


def joined(model: Any) -> bool:
    """Do the two answers of the model's first question lead to one state at its second?"""
    keys = {path: key for path, key in keyed(model) if len(path) == 2}
    check_law(model)
    same = [keys[0, answer] == keys[1, answer] for answer in (0, 1)]
    assert same[0] == same[1]
    return same[0]


def two(first: Any, second: Any) -> Any:
    """A model that holds one of two things between its questions."""

    def model():
        held = first() if (yield choose(0, 1)) else second()
        yield choose(0, 1)
        return shape_of(held)

    return model


def shape_of(held: Any) -> str:
    return f"{type(held).__name__} {held!r}"


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any


@dataclasses.dataclass
class Plain:
    x: Any


class Slotted:
    __slots__ = ("x", "y")

    def __init__(self, x: Any) -> None:
        self.x = x

    def __repr__(self) -> str:
        return f"Slotted({self.x})"


class Attributes:
    def __init__(self, x: Any) -> None:
        self.x = x

    def __repr__(self) -> str:
        return f"Attributes({self.x})"


class Liar:
    """Says that it equals everything, and that its hash is one."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return f"Liar({self.x})"


class Grumpy(Liar):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare me")

    def __hash__(self) -> int:
        raise RuntimeError("do not hash me")


class Bag(list):
    pass


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


SAME = [
    lambda: 3,
    lambda: 2**80,
    lambda: -0.0,
    lambda: 1 + 2j,
    lambda: "é" * 3,
    lambda: b"ab",
    lambda: None,
    lambda: (1, (2, "x")),
    lambda: [1, [2], (3, [4])],
    lambda: {"a": [1], 2: None},
    lambda: {1, 9, 17},
    lambda: frozenset([1, "a"]),
    lambda: range(3, 9, 2),
    lambda: Colour.RED,
    lambda: Point(1, 2),
    lambda: Frozen([1]),
    lambda: Plain({"a": 1}),
    lambda: Slotted([1]),
    lambda: Attributes((1, [2])),
    lambda: Liar(1),
    lambda: Grumpy([1]),
    lambda: Bag([1, 2]),
    lambda: collections.deque([1, 2], maxlen=3),
    lambda: collections.defaultdict(list, {1: [2]}),
    lambda: collections.Counter("aab"),
    lambda: collections.OrderedDict(a=1),
    lambda: fractions.Fraction(1, 3),
    lambda: functools.partial(int, base=2),
    lambda: bytearray(b"ab"),
    lambda: random.Random(3),
    lambda: math.nan,
]


@pytest.mark.parametrize("make", SAME, ids=lambda make: type(make()).__name__)
def test_states_that_hold_the_same_are_one(make):
    def model():
        held = (make, make)[(yield choose(0, 1))]()
        yield choose(0, 1)
        return type(held).__name__

    assert joined(model)


DIFFERENT = [
    (lambda: 1, lambda: True),
    (lambda: 1, lambda: 1.0),
    (lambda: True, lambda: 1.0),
    (lambda: 0, lambda: False),
    (lambda: 0.0, lambda: -0.0),
    (lambda: (0.0,), lambda: (-0.0,)),
    (lambda: complex(0.0, 0.0), lambda: complex(0.0, -0.0)),
    (lambda: float("nan"), lambda: float("nan")),
    (lambda: "1", lambda: 1),
    (lambda: "a", lambda: b"a"),
    (lambda: None, lambda: False),
    (lambda: (), list),
    (lambda: (1, 2), lambda: Point(1, 2)),
    (lambda: [1, 2], lambda: Bag([1, 2])),
    (lambda: [[], []], lambda: [[]] * 2),
    (lambda: {1: 2, 3: 4}, lambda: {3: 4, 1: 2}),
    (lambda: {1}, lambda: frozenset({1})),
    (lambda: {0, 8}, lambda: {8, 0}),
    (lambda: {"a": 1}, lambda: collections.OrderedDict(a=1)),
    (lambda: Liar(1), lambda: Liar(2)),
    (lambda: Grumpy(1), lambda: Grumpy(2)),
    (lambda: Frozen(1), lambda: Plain(1)),
    (lambda: Frozen(1), lambda: Frozen(True)),
    (lambda: Colour.RED, lambda: Colour.BLUE),
    (lambda: 2**80, lambda: 2**80 + 1),
    (lambda: -1, lambda: 2**64 - 1),
    (lambda: collections.deque([1], maxlen=1), lambda: collections.deque([1], maxlen=2)),
    (lambda: [1, [2, 3]], lambda: [1, [2], 3]),
    (lambda: ["ab", "c"], lambda: ["a", "bc"]),
]


@pytest.mark.parametrize("first, second", DIFFERENT)
def test_states_that_hold_different_things_are_two(first, second):
    assert not joined(two(first, second))


def test_a_list_twice_is_not_two_equal_lists():
    def model():
        a = [1]
        b = a if (yield choose(0, 1)) else [1]
        more = yield choose(0, 1)
        a.append(more)
        return b

    assert not joined(model)


def test_a_dead_local_does_not_keep_states_apart():
    def model():
        x = yield choose(0, 1)
        half = x / 2
        print(end=str(half)[:0])
        x = yield choose(0, 1)
        return x

    assert joined(model)


def test_a_local_that_a_handler_of_exceptions_reads_is_live():
    def model():
        x = yield choose(0, 1)
        try:
            x, y = (yield choose(0, 1)), x
            raise ValueError(y)
        except ValueError as error:
            return str(error)

    assert not joined(model)


def test_what_locals_sees_is_live():
    def model():
        x = yield choose(0, 1)
        if not (yield choose(0, 1)):
            return locals()["x"]
        x = 3
        return x

    assert not joined(model)


def test_a_loop_stands_where_its_iterator_is():
    def model():
        total = 0
        for i in itertools.chain([0], [5]):
            total = i
            yield choose(0, 1)
        return total

    keys = keyed(model)
    assert len({key for path, key in keys if len(path) == 1}) == 1  # the answer is dropped
    assert len({key for _, key in keys}) == 2
    check_law(model)


def test_enumerate_and_zip_forget_their_last_item():
    def model():
        for _, x in enumerate(zip((1, 2), (3, 4))):
            x = (yield choose(0, 1)), x
            del x

    check_law(model)
    assert len({key for _, key in keyed(model)}) == 4


@pytest.mark.parametrize(
    "step", [lambda it: next(it), lambda it: next(it) and next(it)], ids=["one", "two"]
)
def test_an_iterator_that_is_further_on_is_another(step):
    def model():
        it = iter([1, 2, 3, 4])
        if (yield choose(0, 1)):
            step(it)
        yield choose(0, 1)
        return list(it)

    assert not joined(model)


def test_a_dict_iterator_counts_what_was_deleted():
    def model():
        d = {0: 0, 1: 1, 2: 2}
        if (yield choose(0, 1)):
            d = {9: 0, 0: 0, 1: 1, 2: 2}
            del d[9]
        it = iter(d)
        next(it)
        if (yield choose(0, 1)):
            return list(it)
        return None

    assert not joined(model)


def test_closures_are_told_by_what_their_cells_hold():
    def counter(start):
        def model():
            n = start if (yield choose(0, 1)) else 5

            def more():
                nonlocal n
                n += 1
                return n

            yield choose(0, 1)
            return more()

        return model

    assert joined(counter(5))
    assert not joined(counter(6))


def test_a_generator_in_a_local_is_told_by_its_place():
    def numbers():
        for i in range(9):
            yield i

    def model(skip):
        g = numbers()
        for _ in range(skip if (yield choose(0, 1)) else 2):
            next(g)
        yield choose(0, 1)
        return next(g)

    assert joined(functools.partial(model, 2))
    assert not joined(functools.partial(model, 3))


def test_a_value_that_is_dropped_does_not_count():
    def model():
        yield choose(0, 1)
        return (yield choose(0, 1))

    keys = keyed(model)
    assert len({key for path, key in keys if len(path) == 1}) == 1


def test_handlers_are_part_of_a_state():
    class Adds(cp.Messenger):
        def __init__(self):
            self.total = 0

        def _pyro_post_choose(self, msg):
            self.total += msg["value"]

    def model(answers):
        with Adds() as seen:
            yield choose(*answers)
            last = yield choose(0, 1)
        return seen.total, last

    def keys(answers):
        return {key for path, key in keyed(functools.partial(model, answers)) if len(path) == 2}

    assert len(keys((0, 1))) == 4
    assert len(keys((1, 1))) == 2
    check_law(functools.partial(model, (0, 1)))
    check_law(functools.partial(model, (1, 1)))


def test_outside_objects_are_told_by_identity():
    shared = [[1], [1]]

    def model():
        held = shared[(yield choose(0, 1))]
        yield choose(0, 1)
        return held

    assert not joined(model)


def test_an_exception_makes_a_state_of_its_own_and_says_why():
    def model():
        try:
            raise ValueError((yield choose(0, 1)))
        except ValueError:
            yield choose(0, 1)

    keys = [key for path, key in keyed(model) if len(path) == 2]
    assert len(set(keys)) == 4
    assert "is being handled" in keys[0].why_unique


def test_an_unknown_object_makes_a_state_of_its_own_and_says_why():
    def model():
        held = memoryview(b"ab")
        yield choose(0, 1)
        return held

    (first, second) = [key for _, key in keyed(model)]
    assert first == first and first != second
    assert "memoryview" in first.why_unique


def test_a_class_says_itself_what_it_is_made_of():
    class Polynomial:
        __slots__ = ("_cache", "terms")

        def __init__(self, *terms):
            self.terms, self._cache = terms, object()

        def __state_key__(self):
            return self.terms

    def model(first, second):
        def run():
            held = first() if (yield choose(0, 1)) else second()
            yield choose(0, 1)
            return held.terms

        return run

    global_name = "Polynomial"
    globals()[global_name] = Polynomial
    Polynomial.__qualname__ = global_name
    try:
        assert joined(model(lambda: Polynomial(1, 2), lambda: Polynomial(1, 2)))
        assert not joined(model(lambda: Polynomial(1, 2), lambda: Polynomial(2, 1)))
    finally:
        del globals()[global_name]


def test_addresses_in_a_key_are_not_used_again():
    keys = []
    gc.freeze()  # what the rest of the suite has left is not looked through each time
    for _ in range(200):
        keys += [key for _, key in keyed(two(lambda: float("nan"), lambda: float("nan")))]
        gc.collect()
    gc.unfreeze()
    assert len(set(keys)) == 200 * 4  # the answer to the second question is dropped


def test_a_deep_structure_is_no_overflow():
    def model():
        nest = None
        for _ in range(100_000):
            nest = (nest,)
        yield choose(0, 1)
        return nest is None

    assert all("too deep" in key.why_unique for _, key in keyed(model))


def test_a_list_that_contains_itself_has_a_key():
    def model():
        xs = [(yield choose(0, 0))]
        xs.append(xs)
        yield choose(0, 1)
        return len(xs)

    assert joined(model)


def test_a_cell_that_nobody_else_has_is_as_dead_as_a_local():
    def model(held):
        def run():
            x = yield choose(0, 1)
            kept = [(lambda: x)] if held else []
            y = [x for _ in range(2)]
            x = yield choose(0, 1)
            return [x for _ in y[:0]], [f() for f in kept]

        return run

    assert not joined(model(True))
    y_lives = keyed(model(False))
    check_law(model(False))
    assert len({key for path, key in y_lives if len(path) == 2}) == 4


def test_the_old_value_of_a_cell_does_not_keep_states_apart():
    def model():
        x = yield choose(0, 1)
        ([x for _ in range(2)])
        x = yield choose(0, 1)
        return [x for _ in range(2)]

    assert joined(model)
