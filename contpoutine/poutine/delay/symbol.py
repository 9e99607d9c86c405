"""What a model holds while a value is delayed: an affine expression over delayed variables.

A `Symbol` is a constant plus coefficients times variables, and an immutable one: what is known of
the variables is not in it, but in the beliefs of the handler that made it. Adding, subtracting, and
multiplying by numbers gives another such expression; every other use is refused by name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from contpoutine.distributions.content import is_tensor
from contpoutine.distributions.symbolic import Symbolic
from contpoutine.errors import SymbolicValueError


class Owner:
    """One installation of a `delayed` handler."""

    fork_shared = True
    __slots__ = ()


class Variable(NamedTuple):
    """A delayed site: its name, and how many the handler had delayed before."""

    name: str
    number: int


class Symbol(Symbolic):
    """`constant + sum of coefficient * variable`, over the variables of one handler."""

    def __init__(
        self, owner: Owner, where: str, terms: dict[Variable, Any], constant: Any = 0.0
    ) -> None:
        self.owner, self.where = owner, where
        self.terms, self.constant = terms, constant

    @property
    def variable(self) -> Variable | None:
        """The variable, where the expression is no more than that."""
        if len(self.terms) == 1 and is_zero(self.constant):
            ((variable, coefficient),) = self.terms.items()
            if not is_tensor(coefficient) and coefficient == 1.0:
                return variable
        return None

    def _refusal(self, what: str) -> str:
        names = " and ".join(repr(variable.name) for variable in self.terms)
        return (
            f"the value of site {names}, drawn at {self.where}, is kept symbolic by "
            f"poutine.delayed, and {what} needs its number. Take the number first: "
            f"`x = yield poutine.realize(x)`. (Sums with other such values, and sums and products "
            f"with plain numbers, stay symbolic.)"
        )

    # --- arithmetic

    def _plus(self, other: Any, sign: float) -> Symbol:
        if not isinstance(other, Symbol):
            return Symbol(
                self.owner, self.where, self.terms, self.constant + sign * self._number(other)
            )
        if other.owner is not self.owner:
            raise SymbolicValueError(
                f"{self!r} and {other!r} belong to two different `poutine.delayed` handlers, and "
                f"have no common distribution. Take the number of one of them first: "
                f"`x = yield poutine.realize(x)`."
            )
        terms = dict(self.terms)
        for variable, coefficient in other.terms.items():
            terms[variable] = terms.get(variable, 0.0) + sign * coefficient
        return Symbol(self.owner, self.where, terms, self.constant + sign * other.constant)

    def _times(self, factor: Any) -> Symbol:
        terms = {variable: factor * coefficient for variable, coefficient in self.terms.items()}
        return Symbol(self.owner, self.where, terms, factor * self.constant)

    def _number(self, other: Any) -> Any:
        if isinstance(other, Symbol):
            self._refuse("a product with another symbolic value")
        number = as_number(other)
        if number is None:
            self._refuse(f"arithmetic with {other!r} (a single number is needed)")
        return number

    def __add__(self, other: Any) -> Symbol:
        return self._plus(other, 1.0)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Symbol:
        return self._plus(other, -1.0)

    def __rsub__(self, other: Any) -> Symbol:
        return (-self)._plus(other, 1.0)

    def __neg__(self) -> Symbol:
        return self._times(-1.0)

    def __pos__(self) -> Symbol:
        return self

    def __mul__(self, other: Any) -> Symbol:
        return self._times(self._number(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Symbol:
        return self._times(1.0 / self._number(other))

    def __repr__(self) -> str:
        parts = [
            variable.name if is_one(coefficient) else f"{_short(coefficient)} * {variable.name}"
            for variable, coefficient in self.terms.items()
        ]
        if not is_zero(self.constant):
            parts.append(_short(self.constant))
        return f"<{' + '.join(parts)}, delayed>"


def as_number(value: Any) -> Any:
    """A single number as a float, or as a tensor if it carries gradients; None for all else."""
    if isinstance(value, int | float):
        return float(value)
    if is_tensor(value):
        if value.dim() or value.is_complex():
            return None
        return value.clone() if value.requires_grad else float(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def is_zero(number: Any) -> bool:
    """Is it the plain number 0?"""
    return not is_tensor(number) and number == 0.0


def is_one(number: Any) -> bool:
    """Is it the plain number 1?"""
    return not is_tensor(number) and number == 1.0


def _short(number: Any) -> str:
    return f"{float(number):.6g}"
