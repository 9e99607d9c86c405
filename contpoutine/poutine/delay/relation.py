"""The closed forms: how a site hangs on delayed variables, and what its value says about them.

A *relation* is one site's: its marginal distribution (its parameters integrated out, given all that
is known), and the beliefs after its value is known. Normal sites can be delayed themselves; coins,
categories and counts are drawn, or enumerated, from their marginal, as models branch on them.

    site                      parameter                  marginal            learned
    Normal(e, s)              e affine in normals        Normal              one factor of the joint
    Flip(p), Bernoulli(p)     p or 1 - p, p a Beta       a coin              a count
    Poisson(c g)              g a Gamma, c > 0           negative binomial   shape + x, rate + c
    Categorical(t)            t a Dirichlet              Categorical         a count
"""

from __future__ import annotations

from typing import Any, NoReturn

import contpoutine.distributions as dist
from contpoutine.distributions.content import is_tensor
from contpoutine.errors import OutsideSupportError
from contpoutine.poutine.delay import beliefs as known
from contpoutine.poutine.delay.beliefs import Beliefs
from contpoutine.poutine.delay.symbol import Variable, as_number


class Relation:
    """What one site has to do with the variables; `marginal` is its distribution by itself."""

    fork_shared = True
    can_be_delayed = False
    hangs = True  # on variables; False where the parameters are numbers
    marginal: Any

    def delayed(self, beliefs: Beliefs, variable: Variable) -> Beliefs:
        """The beliefs when the site's value is this new variable."""
        raise NotImplementedError

    def learned(self, beliefs: Beliefs, value: Any) -> Beliefs:
        """The beliefs when the site's value is known. Raises `OutsideSupportError`."""
        return beliefs

    def outside(self, value: Any, support: str) -> NoReturn:
        """Refuse a value that the site cannot have."""
        raise OutsideSupportError(f"{value!r} is no value of {self.marginal!r}, but {support} is")


class Root(Relation):
    """A site with numbers for parameters, which begins a family."""

    can_be_delayed = True
    hangs = False

    def __init__(self, marginal: Any, belief: known.Belief) -> None:
        self.marginal, self.belief = marginal, belief

    def delayed(self, beliefs: Beliefs, variable: Variable) -> Beliefs:
        return beliefs.having(variable, self.belief)


class Settled(Relation):
    """A site with numbers for parameters that begins nothing."""

    hangs = False

    def __init__(self, marginal: Any) -> None:
        self.marginal = marginal


class Around(Relation):
    """A normal site around an affine expression of normal variables, or around a number."""

    can_be_delayed = True

    def __init__(self, marginal: Any, terms: dict[Variable, Any], constant: Any, scale: Any):
        self.marginal, self.terms, self.constant = marginal, terms, constant
        self.variance = scale * scale
        self.hangs = bool(terms)

    def delayed(self, beliefs: Beliefs, variable: Variable) -> Beliefs:
        terms = {v: -coefficient for v, coefficient in self.terms.items()}
        terms[variable] = 1.0
        joint = beliefs.gaussian.with_factor(terms, self.constant, self.variance)
        return beliefs.having(variable, known.Normal()).with_gaussian(joint)

    def learned(self, beliefs: Beliefs, value: Any) -> Beliefs:
        if not self.terms:
            return beliefs
        number = as_number(value)
        if number is None:
            self.outside(value, "one real number")
        joint = beliefs.gaussian.with_factor(self.terms, number - self.constant, self.variance)
        return beliefs.with_gaussian(joint)


class Coin(Relation):
    """A coin whose probability is a Beta variable, or one minus it."""

    def __init__(self, cls: Any, variable: Variable, belief: known.Beta, turned: bool) -> None:
        self.variable, self.turned = variable, turned
        ones, zeros = belief[::-1] if turned else belief
        self.marginal = cls(ones / (ones + zeros))

    def learned(self, beliefs: Beliefs, value: Any) -> Beliefs:
        ones, zeros = beliefs.about[self.variable]  # type: ignore[misc]
        if value not in (0, 1):
            self.outside(value, "one of 0 and 1")
        one = float(value) if not self.turned else 1.0 - float(value)
        return beliefs.having(self.variable, known.Beta(ones + one, zeros + 1.0 - one))


class Count(Relation):
    """A Poisson count whose rate is a Gamma variable times a number."""

    def __init__(self, variable: Variable, belief: known.Gamma, factor: Any) -> None:
        self.variable, self.factor = variable, factor
        self.marginal = _negative_binomial(belief.shape, factor / (belief.rate + factor))

    def learned(self, beliefs: Beliefs, value: Any) -> Beliefs:
        shape, rate = beliefs.about[self.variable]  # type: ignore[misc]
        if not (value >= 0 and value == int(value)):
            self.outside(value, "each of 0, 1, 2, ...")
        belief = known.Gamma(shape + float(value), rate + self.factor)
        return beliefs.having(self.variable, belief)


class Category(Relation):
    """A category whose probabilities are a Dirichlet variable."""

    def __init__(self, variable: Variable, belief: known.Dirichlet) -> None:
        self.variable = variable
        counts = belief.counts
        plain = not any(is_tensor(count) for count in counts)
        probs: Any = list(counts) if plain else known.stacked(counts)
        self.marginal = dist.Categorical(probs)

    def learned(self, beliefs: Beliefs, value: Any) -> Beliefs:
        (counts,) = beliefs.about[self.variable]  # type: ignore[misc]
        at = int(value)
        if not (at == value and 0 <= at < len(counts)):
            self.outside(value, f"each of 0 ... {len(counts) - 1}")
        more = (*counts[:at], counts[at] + 1.0, *counts[at + 1 :])
        return beliefs.having(self.variable, known.Dirichlet(more))


class Taking(Relation):
    """The site at which a variable's number is taken."""

    def __init__(self, variable: Variable, marginal: Any) -> None:
        self.variable, self.marginal = variable, marginal

    def learned(self, beliefs: Beliefs, value: Any) -> Beliefs:
        return beliefs.knowing(self.variable, value)


def _negative_binomial(shape: Any, probs: Any) -> Any:
    """The marginal of a count. In float64: torch would round the parameters to its default."""
    import torch

    shape, probs = (
        x if is_tensor(x) else torch.tensor(x, dtype=torch.float64) for x in (shape, probs)
    )
    return dist.NegativeBinomial(shape, probs)
