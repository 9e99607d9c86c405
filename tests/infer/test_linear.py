"""Systems x = A x + b without negative entries, by each of the ways to solve them."""

from __future__ import annotations

import random
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contpoutine.errors import UnboundedWeightError
from contpoutine.infer import linear
from contpoutine.infer.sums import Sums
from tests.graphs.drawn import ruin


def drawn(n, density, seed, gain=0.95):
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        row = {j: rng.random() + 0.01 for j in range(n) if rng.random() < density}
        total = sum(row.values())
        rows.append({j: gain * a / total for j, a in row.items()})
    return rows, [1.0 - row.get(i, 0.0) for i, row in enumerate(rows)], [rng.random() for _ in rows]


def by_torch(rows, b):
    a = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for i, row in enumerate(rows):
        for j, x in row.items():
            a[i, j] = x
    eye = torch.eye(len(rows), dtype=torch.float64)
    return torch.linalg.solve(eye - a, torch.tensor(b, dtype=torch.float64)).tolist()


@given(st.integers(1, 30), st.floats(0.05, 1.0), st.integers(0, 10**6))
def test_elimination_solves_any_system(n, density, seed) -> None:
    rows, rest, b = drawn(n, density, seed)
    x, error = linear.solved(rows, rest, b)
    assert x == pytest.approx(by_torch(rows, b), rel=1e-11)
    assert error < 1e-12


@pytest.mark.parametrize(("n", "density"), [(80, 0.5), (320, 0.02), (320, 0.5)])
@pytest.mark.parametrize("scipy", [True, False])
def test_large_ones_are_solved_with_scipy_and_without(n, density, scipy, monkeypatch) -> None:
    if not scipy:
        monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    rows, rest, b = drawn(n, density, 1)
    x, error = linear.solved(rows, rest, b)
    assert x == pytest.approx(by_torch(rows, b), rel=1e-10)
    assert 0.0 < error < 1e-11


@pytest.mark.parametrize("n", [1, 3, 90, 320])
@pytest.mark.parametrize("scipy", [True, False])
@pytest.mark.parametrize("gain", [1.0, 1.3])
def test_what_has_no_finite_sum_is_refused(n, scipy, gain, monkeypatch) -> None:
    if not scipy:
        monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    ring = [{(i + 1) % n: gain} for i in range(n)]
    rest = [1.0 - row.get(i, 0.0) for i, row in enumerate(ring)]
    with pytest.raises(UnboundedWeightError, match="without bound"):
        linear.factor(ring, rest)([1.0] * n)


def test_a_loop_that_is_left_once_in_a_billion_times_is_exact() -> None:
    x, error = linear.solved([{0: 1.0 - 1e-9}], [1e-9], [1e-9])
    assert x == [1.0] and error < 1e-6


def test_the_walk_of_two_thousand_states_is_the_same_without_scipy(monkeypatch) -> None:
    by_scipy = Sums(ruin(2000, 0.45, 1000)[0])
    before = by_scipy.log_evidence, list(by_scipy.states)
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    alone = Sums(ruin(2000, 0.45, 1000)[0])
    assert alone.log_evidence == pytest.approx(before[0], abs=1e-10)
    assert list(alone.states) == pytest.approx(before[1], rel=1e-8, abs=1e-12)
