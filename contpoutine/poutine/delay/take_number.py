"""Taking the number of a delayed value: an effect of its own, which a model performs.

The site at which a variable's number is taken is a sample site like any other. Its distribution is
put in by the handler that delayed the variable, so handlers further out may observe, replay or
enumerate it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from contpoutine.core.message import Message
from contpoutine.distributions.symbolic import SymbolicDistribution
from contpoutine.poutine.delay.symbol import Owner, Symbol, Variable


class TakeNumber(SymbolicDistribution):
    """The distribution of a site at which a delayed variable's number is taken."""

    def __init__(self, owner: Owner, variable: Variable, symbol: Symbol) -> None:
        self.owner, self.variable = owner, variable
        self.cls, self.parameters = type(self), {"of": symbol}


def realize(value: Any, name: str | None = None) -> Generator[Any, Any, Any]:
    """Take the number of a value that `delayed` keeps symbolic: `x = yield realize(x)`.

    Each variable in it is drawn from its posterior, given everything observed so far, at a sample
    site named `<site>.value`; handlers further out see that site, and may decide its value. A
    value that is not symbolic is given back as it is, so a model runs with and without `delayed`.

    Args:
        value: anything; a symbolic value inside a container is not looked for.
        name: the name of the new site, where the value is a single variable.

    >>> import torch
    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> from contpoutine import poutine
    >>> def model():
    ...     mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
    ...     yield cp.sample("y", dist.Normal(mu, 1.0), obs=2.0)
    ...     mu = yield poutine.realize(mu)
    ...     return mu > 0
    >>> trace = poutine.trace(poutine.delayed(model)).get_trace()
    >>> list(trace), trace.nodes["mu.value"]["fn"].loc
    (['_INPUT', 'mu', 'y', 'mu.value', '_RETURN'], tensor(1.))
    """
    requests = []
    if isinstance(value, Symbol):
        for variable in value.terms:
            site = name if name is not None and len(value.terms) == 1 else f"{variable.name}.value"
            alone = Symbol(value.owner, value.where, {variable: 1.0})
            fn = TakeNumber(value.owner, variable, alone)
            requests.append(Message(type="sample", name=site, fn=fn).born_in_caller())
    return _taken(value, requests)


def _taken(value: Any, requests: list[Any]) -> Generator[Any, Any, Any]:
    if not isinstance(value, Symbol):
        return value
    if value.variable is not None:
        return (yield requests[0])
    total = value.constant
    for request, coefficient in zip(requests, value.terms.values(), strict=True):
        total = total + coefficient * (yield request)
    return total


def numbers_of(value: Any) -> Generator[Any, Any, Any]:
    """A returned value with the symbolic values in it taken."""
    if isinstance(value, Symbol):
        return (yield from realize(value))
    if type(value) in (list, tuple):
        items = []
        for item in value:
            items.append((yield from numbers_of(item)))
        return type(value)(items)
    if type(value) is dict:
        made = {}
        for key, item in value.items():
            made[key] = yield from numbers_of(item)
        return made
    return value
