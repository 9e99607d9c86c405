"""Keys by content: equal exactly where values hold the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contpoutine.distributions.content import content_key

plain = st.recursive(
    st.integers(-3, 3) | st.sampled_from(["a", "b", None, True]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(plain, plain)
def test_keys_of_plain_values_are_equal_where_the_values_are(a, b) -> None:
    assert (content_key(a) == content_key(b)) == (a == b)
    hash(content_key(a))


def test_a_plain_value_is_its_own_key() -> None:
    for value in (3, "a", True, None, 2.5, (1, "x"), frozenset({1})):
        assert content_key(value) == value


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (torch.tensor(1.0), torch.tensor(1.0), True),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), True),
        (torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0]), False),
        (torch.tensor(1.0), torch.tensor(1), False),
        (torch.tensor(1.0), torch.tensor(1.0, dtype=torch.float64), False),
        (torch.tensor([1.0]), torch.tensor(1.0), False),
        (torch.tensor(0.0), torch.tensor(-0.0), True),
        (torch.tensor([0.0]), torch.tensor([-0.0]), True),
        (torch.tensor(math.nan), torch.tensor(math.nan), True),
        (torch.ones(2, 3).t(), torch.ones(3, 2), True),
        (torch.ones(3, requires_grad=True), torch.ones(3), True),
        (torch.tensor([True, False]), torch.tensor([True, False]), True),
        (
            torch.tensor([1.5], dtype=torch.bfloat16),
            torch.tensor([1.5], dtype=torch.bfloat16),
            True,
        ),
        (torch.tensor([1j]), torch.tensor([1j]), True),
        (torch.empty(0), torch.empty(0), True),
        (np.array([1, 2]), np.array([1, 2]), True),
        (np.array([1, 2]), np.array([1.0, 2.0]), False),
        (np.array([0.0]), np.array([-0.0]), True),
        (math.nan, -math.nan, True),
        ([torch.tensor(1.0)], [torch.tensor(1.0)], True),
        ((1, torch.tensor(1.0)), (1, torch.tensor(2.0)), False),
        ({1, 2}, {2, 1}, True),
    ],
    ids=repr,
)
def test_keys_by_content(a, b, same) -> None:
    assert (content_key(a) == content_key(b)) is same
    if same:
        assert hash(content_key(a)) == hash(content_key(b))


def test_an_unhashable_object_of_a_users_class_is_compared_with_its_own_equality() -> None:
    class Point:
        def __init__(self, x):
            self.x = x

        def __eq__(self, other):
            return isinstance(other, Point) and self.x == other.x

    assert content_key(Point(1)) == content_key(Point(1))
    assert content_key(Point(1)) != content_key(Point(2))
    assert len({content_key(Point(i % 2)) for i in range(6)}) == 2
