"""Two values have one text exactly if nothing tells them apart."""

from __future__ import annotations

import itertools
from collections import Counter, deque

import pytest

from contpoutine.testing import likeness


class Plain:
    def __init__(self, **attributes):
        vars(self).update(attributes)


def closure(x):
    return lambda y=[x]: (x, y)


def gen(n):
    for i in range(n):
        yield i


def begun(n, steps):
    g = gen(n)
    for _ in range(steps):
        next(g)
    return g


def cyclic(x):
    xs = [x]
    xs.append(xs)
    return xs


SHARED = [1]
MAKERS = [
    lambda x: x,
    lambda x: [x, {"a": (x,)}],
    lambda x: {x, 7},
    lambda x: Plain(a=x),
    lambda x: deque([x], 3),
    lambda x: Counter([x]),
    lambda x: closure(x),
    lambda x: closure(x).__defaults__,
    lambda x: begun(5, x + 1),
    lambda x: iter([1, 2][x:]),
    lambda x: enumerate([x]),
    lambda x: itertools.count(x),
    lambda x: cyclic(x),
    lambda x: [x].append,
    lambda x: ValueError(x),
    lambda x: bytearray([x]),
    lambda x: float(x),
]


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_made_alike_has_one_text_and_what_differs_has_two(make):
    assert likeness(make(1)) == likeness(make(1))
    assert likeness(make(0)) != likeness(make(1))


def test_aliases_are_told_from_equal_objects():
    xs = [1]
    assert likeness([xs, xs]) != likeness([[1], [1]])
    assert likeness(xs, xs) != likeness([1], [1])
    assert likeness({"a": xs, "b": [xs]}) != likeness({"a": [1], "b": [[1]]})


def test_numbers_of_different_types_are_different():
    assert len({likeness(x) for x in (1, 1.0, True)}) == 3


def test_looking_does_not_advance_an_iterator():
    for it in (iter([1, 2]), gen(2), enumerate("ab"), itertools.chain("a", "b"), map(abs, [1])):
        before = likeness(it)
        assert likeness(it) == before
        next(it)


def test_members_known_by_identity_have_no_order():
    a, b = Plain(x=1), Plain(x=2)
    assert likeness({a, b}) == likeness({b, a})


def test_tensors_are_shown_by_value():
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.0, 2.0])
    assert likeness(x) == likeness(x.clone()) != likeness(x + 1)
    assert likeness(x) != likeness(x.clone().requires_grad_())
