"""Which relation a site has to the variables: read off its distribution, or refused by name.

A scalar site with numbers for parameters may begin a family (`root`). A site with a symbol for a
parameter hangs on the symbol's variables (`relation`); what is known of them by now decides how.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import contpoutine.distributions as dist
from contpoutine.distributions import Flip
from contpoutine.distributions.content import is_tensor
from contpoutine.distributions.symbolic import Symbolic, SymbolicDistribution
from contpoutine.errors import SymbolicValueError
from contpoutine.poutine.delay import beliefs as known
from contpoutine.poutine.delay.beliefs import Beliefs
from contpoutine.poutine.delay.relation import (
    Around,
    Category,
    Coin,
    Count,
    Relation,
    Root,
    Settled,
)
from contpoutine.poutine.delay.symbol import Owner, Symbol, Variable, as_number, is_one, is_zero

# --- sites with numbers for parameters --------------------------------------------------------


def root(fn: Any) -> Relation | None:
    """The relation of a scalar site that can begin a family; None for any other site."""
    name = _family(fn)
    if name == "Normal":
        given = fn.__dict__.get("_arguments") or {"loc": fn.loc, "scale": fn.scale}
        loc, scale = as_number(given["loc"]), as_number(given["scale"])
        return None if loc is None or scale is None else Around(fn, {}, loc, scale)
    if name is None or fn.batch_shape:
        return None
    if name == "Beta":
        belief: known.Belief = known.Beta(
            as_number(fn.concentration1), as_number(fn.concentration0)
        )
    elif name == "Gamma":
        belief = known.Gamma(as_number(fn.concentration), as_number(fn.rate))
    else:
        belief = known.Dirichlet(tuple(map(as_number, fn.concentration.unbind(0))))
    return Root(fn, belief)


def _family(fn: Any) -> str | None:
    """The name of a family that can be delayed, for torch's classes and ours, not subclasses."""
    cls = type(fn)
    name = cls.__name__
    if name not in ("Normal", "Beta", "Gamma", "Dirichlet"):
        return None
    import torch

    ours = getattr(dist, name)
    return name if cls is ours or cls is getattr(torch.distributions, name) else None


# --- sites with symbols for parameters --------------------------------------------------------


def relation(fn: SymbolicDistribution, beliefs: Beliefs, owner: Owner) -> Relation | None:
    """How the site hangs on the variables; None where they are another handler's.

    Raises:
        SymbolicValueError: there is no closed form.
    """
    symbols = [x for x in fn.parameters.values() if isinstance(x, Symbolic)]
    if not all(isinstance(x, Symbol) and x.owner is owner for x in symbols):
        return None
    given = {
        name: beliefs.simplified(x) if isinstance(x, Symbol) else x
        for name, x in fn.parameters.items()
    }
    symbolic = [name for name, x in given.items() if isinstance(x, Symbol)]
    if not symbolic:
        numbers = fn.cls(**given)
        if fn.batch_shape:
            numbers = numbers.expand(fn.batch_shape)
        return root(numbers) or Settled(numbers)
    family = _CHILDREN.get(fn.cls.__name__)
    if family is None or fn.cls is not getattr(dist, fn.cls.__name__, None):
        _refuse(fn, f"{fn.cls.__name__} is in none of the families that are")
    parameter, make = family
    if symbolic != [parameter]:
        _refuse(fn, f"only the parameter {parameter!r} of {fn.cls.__name__} may be")
    made = make(fn, given, given[parameter], beliefs)
    if made is None:
        _refuse(fn, f"{given[parameter]!r} as {parameter!r} of {fn.cls.__name__} is not")
    return made


def _normal(fn: Any, given: dict[str, Any], loc: Symbol, beliefs: Beliefs) -> Relation | None:
    scale = as_number(given["scale"])
    if scale is None or any(type(beliefs.about[v]) is not known.Normal for v in loc.terms):
        return None
    mean, variance = beliefs.gaussian.moments(loc.terms)
    marginal = dist.Normal(mean + loc.constant, (variance + scale * scale) ** 0.5)
    return Around(marginal, loc.terms, loc.constant, scale)


def _coin(fn: Any, given: dict[str, Any], p: Symbol, beliefs: Beliefs) -> Relation | None:
    variable, coefficient = _only(p)
    belief = None if variable is None else beliefs.about[variable]
    if variable is None or not isinstance(belief, known.Beta) or is_tensor(p.constant):
        return None
    if (coefficient, p.constant) not in ((1.0, 0.0), (-1.0, 1.0)):
        return None
    return Coin(fn.cls, variable, belief, turned=coefficient < 0.0)


def _poisson(fn: Any, given: dict[str, Any], rate: Symbol, beliefs: Beliefs) -> Relation | None:
    variable, coefficient = _only(rate)
    belief = None if variable is None else beliefs.about[variable]
    if variable is None or not isinstance(belief, known.Gamma) or not is_zero(rate.constant):
        return None
    return Count(variable, belief, coefficient) if coefficient > 0.0 else None


def _category(fn: Any, given: dict[str, Any], probs: Symbol, beliefs: Beliefs) -> Relation | None:
    variable, coefficient = _only(probs)
    belief = None if variable is None else beliefs.about[variable]
    if variable is None or not isinstance(belief, known.Dirichlet):
        return None
    return Category(variable, belief) if is_one(coefficient) and is_zero(probs.constant) else None


def _only(symbol: Symbol) -> tuple[Variable | None, Any]:
    """The one variable of an expression and its coefficient."""
    if len(symbol.terms) != 1:
        return None, None
    return next(iter(symbol.terms.items()))


_Make = Callable[[Any, dict[str, Any], Symbol, Beliefs], Relation | None]
_CHILDREN: dict[str, tuple[str, _Make]] = {
    "Normal": ("loc", _normal),
    Flip.__name__: ("p", _coin),
    "Bernoulli": ("probs", _coin),
    "Poisson": ("rate", _poisson),
    "Categorical": ("probs", _category),
}


def _refuse(fn: SymbolicDistribution, why: str) -> NoReturn:
    raise SymbolicValueError(
        f"the site's distribution {fn!r} cannot be carried along in closed form: {why} kept "
        f"symbolic by poutine.delayed. It knows Normal around sums and multiples of normal values, "
        f"Flip and Bernoulli of a Beta value, Poisson of a Gamma value, and Categorical of a "
        f"Dirichlet value. Take the number first: `x = yield poutine.realize(x)`."
    )
