"""What is known of the delayed variables at one point of one execution.

A variable of a Beta, Gamma or Dirichlet site has a belief of its own: the parameters of its
posterior, given everything observed so far. The normal ones share a joint. A variable whose number
has been taken is known. All of it is immutable: to learn something is to have other beliefs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import contpoutine.distributions as dist
from contpoutine.distributions.content import is_tensor
from contpoutine.errors import SymbolicValueError
from contpoutine.poutine.delay.gaussian import Gaussian
from contpoutine.poutine.delay.symbol import Symbol, Variable, as_number, is_one, is_zero


class Beta(NamedTuple):
    """Of a probability: pseudo-counts of ones and zeros."""

    ones: Any
    zeros: Any


class Gamma(NamedTuple):
    """Of a rate."""

    shape: Any
    rate: Any


class Dirichlet(NamedTuple):
    """Of the probabilities of categories: a pseudo-count for each."""

    counts: tuple[Any, ...]


class Normal(NamedTuple):
    """The variable is part of the joint."""


class Known(NamedTuple):
    """Its number has been taken."""

    value: Any


Belief = Beta | Gamma | Dirichlet | Normal | Known


class Beliefs:
    """The belief about each variable, and the joint of the normal ones."""

    fork_shared = True
    __slots__ = ("about", "gaussian")

    def __init__(self, about: dict[Variable, Belief], gaussian: Gaussian) -> None:
        self.about, self.gaussian = about, gaussian

    def having(self, variable: Variable, belief: Belief) -> Beliefs:
        """The same, with this belief about the variable."""
        return Beliefs({**self.about, variable: belief}, self.gaussian)

    def with_gaussian(self, gaussian: Gaussian) -> Beliefs:
        """The same, with another joint."""
        return Beliefs(self.about, gaussian)

    def knowing(self, variable: Variable, value: Any) -> Beliefs:
        """Given that the variable has this value."""
        gaussian = self.gaussian
        if isinstance(self.about[variable], Normal):
            gaussian = gaussian.fix(variable, as_number(value))
        return Beliefs({**self.about, variable: Known(value)}, gaussian)

    def simplified(self, symbol: Symbol) -> Any:
        """The expression with what is known put in: a value, or a symbol of unknown variables."""
        terms, constant = {}, symbol.constant
        alone = symbol.variable
        if alone is not None and isinstance(known := self.about[alone], Known):
            return known.value
        for variable, coefficient in symbol.terms.items():
            belief = self.about[variable]
            if isinstance(belief, Known):
                number = as_number(belief.value)
                constant = constant + coefficient * (belief.value if number is None else number)
            elif not is_zero(coefficient):
                terms[variable] = coefficient
        return Symbol(symbol.owner, symbol.where, terms, constant) if terms else constant

    def posterior(self, symbol: Symbol) -> Any:
        """The distribution of the expression, given everything learned so far.

        Raises:
            SymbolicValueError: the expression has no closed form.
        """
        given = self.simplified(symbol)
        if not isinstance(given, Symbol):
            return dist.Delta(given)
        kinds = {type(self.about[variable]) for variable in given.terms}
        if kinds == {Normal}:
            mean, variance = self.gaussian.moments(given.terms)
            return dist.Normal(mean + given.constant, variance**0.5)
        if len(given.terms) == 1:
            ((variable, coefficient),) = given.terms.items()
            found = _scaled(self.about[variable], coefficient, given.constant)
            if found is not None:
                return found
        raise SymbolicValueError(
            f"{symbol!r} has no distribution in closed form. Ask for the posterior of each value "
            f"in it by itself, or take its number: `x = yield poutine.realize(x)`."
        )


def _scaled(belief: Belief, coefficient: Any, constant: Any) -> Any:
    """The distribution of `coefficient * variable + constant`, or None."""
    if is_tensor(coefficient) or is_tensor(constant):
        return None
    if isinstance(belief, Beta):
        if (coefficient, constant) == (-1.0, 1.0):
            return dist.Beta(belief.zeros, belief.ones)
        if is_one(coefficient) and is_zero(constant):
            return dist.Beta(belief.ones, belief.zeros)
    if isinstance(belief, Gamma) and coefficient > 0.0 and is_zero(constant):
        return dist.Gamma(belief.shape, belief.rate / coefficient)
    if isinstance(belief, Dirichlet) and is_one(coefficient) and is_zero(constant):
        return dist.Dirichlet(stacked(belief.counts))
    return None


def stacked(numbers: tuple[Any, ...]) -> Any:
    """Numbers as one tensor, with their gradients; plain ones in torch's default dtype."""
    import torch

    if any(is_tensor(number) for number in numbers):
        return torch.stack([torch.as_tensor(number) for number in numbers])
    return torch.tensor(numbers)


NOTHING = Beliefs({}, Gaussian({}, {}))
