"""Sparse linear systems x = A x + b, where nothing is negative: the sums over loops.

Such a system has a sum that is finite exactly if the elimination meets positive pivots only, and
then no step of it subtracts but for the pivots: every entry comes out to nearly full precision. Up
to a few hundred unknowns, and where SciPy is missing, the elimination is done here, the unknown of
the fewest neighbours first; above, by SciPy's sparse LU. Dense systems go to torch.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Any

from contpoutine.errors import UnboundedWeightError

_SPARSE_FROM = 300  # unknowns, from which on SciPy is asked
_LONG_FROM = 2000  # the same for chains, which are eliminated sooner than SciPy is imported
_DENSE_FROM = 60
_DENSE_TO = 4000
_EPSILON = 2.0**-52

Row = dict[int, float]
Solve = Callable[[Sequence[float]], list[float]]


def factor(rows: list[Row], rest: Sequence[float]) -> Solve:
    """A function that solves x = A x + b for any b.

    Args:
        rows: for each unknown, the entries of A that are not zero.
        rest: for each unknown, 1 minus its entry on the diagonal, which the caller may know better
            than the subtraction does.

    Raises:
        UnboundedWeightError: the sum over the loops is not finite.
    """
    n, entries = len(rows), sum(map(len, rows))
    if n >= (_SPARSE_FROM if entries > 3 * n else _LONG_FROM):
        scipy = _scipy()
        if scipy is not None:
            return _by_scipy(scipy, rows, rest)
    if _DENSE_FROM <= n <= _DENSE_TO and entries > 8 * n:
        return _by_torch(rows, rest)
    return _eliminated(rows, rest)


def solved(rows: list[Row], rest: Sequence[float], b: Sequence[float]) -> tuple[list[float], float]:
    """The solution, and a bound on the relative error of its entries.

    What is left over when the solution is put in (the residual, rounding included) is itself
    carried through the system, which bounds the error since no entry of the inverse is negative.
    """
    solve = factor(rows, rest)
    x = solve(b)
    left = residual(rows, rest, b, x)
    error = solve(left)
    return x, max([e / y for e, y in zip(error, x, strict=True) if y > 0.0], default=0.0)


def residual(
    rows: list[Row], rest: Sequence[float], b: Sequence[float], x: Sequence[float]
) -> list[float]:
    """For each equation, by how much the two sides differ at most."""
    left = []
    for i, row in enumerate(rows):
        parts = [a * x[j] for j, a in row.items() if j != i]
        kept = rest[i] * x[i]
        left.append(abs(math.fsum([b[i], *parts, -kept])) + 2.0 * _EPSILON * kept)
    return left


def _checked(x: list[float]) -> list[float]:
    if all(0.0 <= entry < math.inf for entry in x):
        return x
    largest = max(map(abs, x), default=0.0)
    if all(-1e-13 * largest <= entry < math.inf for entry in x):  # a zero that was rounded
        return [max(entry, 0.0) for entry in x]
    raise UnboundedWeightError("the weights of a loop add up without bound")


# --- elimination ----------------------------------------------------------------------------


def _eliminated(rows: list[Row], rest: Sequence[float]) -> Solve:
    """Elimination in the order of the number of neighbours, in Python."""
    left = [{j: a for j, a in row.items() if j != i and a > 0.0} for i, row in enumerate(rows)]
    pivots = list(rest)
    users: list[set[int]] = [set() for _ in rows]
    for i, row in enumerate(left):
        for j in row:
            users[j].add(i)
    heap = [(len(left[i]) * len(users[i]), i) for i in range(len(rows))]
    heapq.heapify(heap)
    steps: list[tuple[int, list[tuple[int, float]]]] = []  # the unknown, who uses it by how much
    done = bytearray(len(rows))
    while heap:
        cost, k = heapq.heappop(heap)
        if done[k]:
            continue
        if cost < len(left[k]) * len(users[k]):  # it has gained neighbours since
            heapq.heappush(heap, (len(left[k]) * len(users[k]), k))
            continue
        done[k] = 1
        if not pivots[k] > 0.0:
            raise UnboundedWeightError("the weights of a loop add up without bound")
        row = left[k]
        for j in row:
            users[j].discard(k)
        used = []
        for i in users[k]:
            other = left[i]
            share = other.pop(k) / pivots[k]
            used.append((i, share))
            for j, a in row.items():
                if j == i:
                    pivots[i] -= share * a
                else:
                    if j not in other:
                        users[j].add(i)
                        other[j] = 0.0
                    other[j] += share * a
        steps.append((k, used))

    def solve(b: Sequence[float]) -> list[float]:
        x = list(b)
        for k, used in steps:
            here = x[k]
            if here:
                for i, share in used:
                    x[i] += share * here
        for k, _ in reversed(steps):
            x[k] = sum([x[k], *[a * x[j] for j, a in left[k].items()]]) / pivots[k]
        return _checked(x)

    return solve


# --- libraries ------------------------------------------------------------------------------


def _scipy() -> Any:
    try:
        import scipy.sparse.linalg
    except ImportError:
        return None
    return scipy


def _by_scipy(scipy: Any, rows: list[Row], rest: Sequence[float]) -> Solve:
    n = len(rows)
    data, columns, starts = [], [], [0]
    for i, row in enumerate(rows):
        data.append(rest[i])
        columns.append(i)
        for j, a in row.items():
            if j != i:
                data.append(-a)
                columns.append(j)
        starts.append(len(data))
    matrix = scipy.sparse.csr_matrix((data, columns, starts), shape=(n, n)).tocsc()
    try:
        lu = scipy.sparse.linalg.splu(matrix, diag_pivot_thresh=0.0)
    except RuntimeError as error:  # "Factor is exactly singular"
        raise UnboundedWeightError("the weights of a loop add up without bound") from error
    import numpy

    return lambda b: _checked(lu.solve(numpy.asarray(b, dtype=float)).tolist())


def _by_torch(rows: list[Row], rest: Sequence[float]) -> Solve:
    import torch

    n = len(rows)
    matrix = torch.zeros((n, n), dtype=torch.float64)
    for i, row in enumerate(rows):
        for j, a in row.items():
            matrix[i, j] = -a
        matrix[i, i] = rest[i]
    lu, pivots, singular = torch.linalg.lu_factor_ex(matrix)
    if int(singular):
        raise UnboundedWeightError("the weights of a loop add up without bound")

    def solve(b: Sequence[float]) -> list[float]:
        right = torch.tensor(b, dtype=torch.float64).unsqueeze(1)
        x: list[float] = torch.linalg.lu_solve(lu, pivots, right).squeeze(1).tolist()
        return _checked(x)

    return solve
