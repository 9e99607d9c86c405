"""The joint distribution of all delayed normal variables, in information form.

Its log-density is `-1/2 x'Px + h'x` and a constant. A normal site around an affine expression
multiplies the joint by one more Gaussian factor, whether the site is delayed or observed, and that
touches only the entries of the variables in it: P stays as sparse as the model. Murray et al. keep
one path of marginalised nodes, and sample what would branch off. Normal variables need no path, as
they stay jointly normal under every affine factor: nothing is ever sampled here to make room.

A question (mean and variance of an expression) eliminates the other variables, those farthest
away first, which fills in nothing where the model is a tree. What is left of the joint then, its
*front*, is remembered: as long as the model goes on from there, as a filter does, the next question
costs the same, however long the chain has become.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from contpoutine.poutine.delay.symbol import Variable

Terms = dict[Variable, Any]
Rows = dict[Variable, dict[Variable, Any]]


class Gaussian:
    """An immutable joint. Numbers are floats, or tensors where gradients are wanted."""

    fork_shared = True
    __slots__ = ("_front", "precision", "shift")

    def __init__(self, precision: Rows, shift: Terms) -> None:
        self.precision, self.shift = precision, shift
        self._front: Gaussian | None = None  # a marginal that has been asked for

    def with_factor(self, terms: Terms, target: Any, variance: Any) -> Gaussian:
        """Times the density of `target` under a normal around `terms`, as a function of them.

        A new variable `x` around `2 y + 1` is the factor of `x - 2 y` with the target 1.
        """
        precision, shift = dict(self.precision), dict(self.shift)
        for one, weight in terms.items():
            scaled = weight / variance
            row: Terms = dict(precision.get(one, {}))
            precision[one] = row
            shift[one] = shift.get(one, 0.0) + scaled * target
            for other, factor in terms.items():
                row[other] = row.get(other, 0.0) + scaled * factor
        fresh, front = Gaussian(precision, shift), self._front
        if front and all(v in front.precision or v not in self.precision for v in terms):
            fresh._front = front.with_factor(terms, target, variance)
        return fresh

    def fix(self, variable: Variable, value: Any) -> Gaussian:
        """Given that the variable has this value; it is no part of the joint any more."""
        precision, shift = dict(self.precision), dict(self.shift)
        row = precision.pop(variable)
        del shift[variable]
        for other, coupling in row.items():
            if other != variable:
                shift[other] = shift[other] - coupling * value
                precision[other] = {k: v for k, v in precision[other].items() if k != variable}
        fresh, front = Gaussian(precision, shift), self._front
        if front and variable in front.precision:
            fresh._front = front.fix(variable, value)
        return fresh

    def moments(self, terms: Terms) -> tuple[Any, Any]:
        """Mean and variance of `sum of coefficient * variable`."""
        front = self._front
        whole = front if front and all(variable in front.precision for variable in terms) else self
        rows, shift = whole._reduced(list(terms))
        self._front = Gaussian(rows, shift)
        # With s the solution of P s = coefficients, the mean is s'h, the variance s'coefficients.
        solution = _solve(rows, terms)
        mean = sum(solution[variable] * shift[variable] for variable in terms)
        variance = sum(solution[variable] * terms[variable] for variable in terms)
        return mean, variance

    def _reduced(self, kept: list[Variable]) -> tuple[Rows, Terms]:
        """The information form of the marginal of a few variables."""
        order = self._by_distance(kept)
        rows = {variable: dict(self.precision[variable]) for variable in order}
        shift = {variable: self.shift[variable] for variable in order}
        for variable in reversed(order[len(kept) :]):
            _eliminate(rows, shift, variable)
        return rows, shift

    def _by_distance(self, kept: Iterable[Variable]) -> list[Variable]:
        """These variables and all that depend on them, nearest first."""
        order = dict.fromkeys(kept)
        queue = list(order)
        for variable in queue:
            for other in self.precision[variable]:
                if other not in order:
                    order[other] = None
                    queue.append(other)
        return queue


def _eliminate(rows: Rows, right: Terms, variable: Variable) -> None:
    """One step of Gaussian elimination, on the symmetric rows and the right-hand side."""
    row = rows.pop(variable)
    pivot = row.pop(variable)
    moved = right.pop(variable)
    for one, coupling in row.items():
        factor = coupling / pivot
        into = rows[one]
        del into[variable]
        right[one] = right[one] - factor * moved
        for other, entry in row.items():
            into[other] = into.get(other, 0.0) - factor * entry


def _solve(rows: Rows, right: Terms) -> Terms:
    """The solution of a small symmetric system."""
    rows = {variable: dict(row) for variable, row in rows.items()}
    right = dict(right)
    eliminated = []
    for variable in list(rows):
        eliminated.append((variable, dict(rows[variable]), right[variable]))
        _eliminate(rows, right, variable)
    solution: Terms = {}
    for variable, row, value in reversed(eliminated):
        pivot = row.pop(variable)
        known = sum(entry * solution[other] for other, entry in row.items())
        solution[variable] = (value - known) / pivot
    return solution
