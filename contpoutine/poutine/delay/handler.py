"""`delayed`, in Pyro's manner, and `posterior`, which asks it what is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contpoutine.core.effectful import effectful
from contpoutine.distributions import Delta
from contpoutine.poutine.delay.delayed_messenger import DelayedMessenger, not_ours
from contpoutine.poutine.delay.symbol import Symbol
from contpoutine.poutine.handlers import _apply


def delayed(fn: Callable[..., Any] | None = None) -> Any:
    """Keep what the model draws symbolic while there is a closed form: Rao-Blackwellisation.

    A scalar Normal, Beta, Gamma or Dirichlet site is not drawn: the model gets a symbolic value. It
    may add it to others, multiply it by numbers, and give it to further distributions. Sites that
    hang on it are weighed, drawn and enumerated by their marginal distribution: Normal around
    normal values, Flip and Bernoulli of Beta values, Poisson of Gamma values, Categorical of
    Dirichlet values. What is observed updates everything that it says something about.

    `yield poutine.posterior(x)` gives a value's distribution so far, `yield poutine.realize(x)` its
    number; a symbolic value that `delayed(model)` returns is realised. What has no closed form is
    refused by name. `infer={"delayed": False}` at a site has it drawn as usual, and so is every
    site of another kind.

    Raises:
        SymbolicValueError: in the model, where a symbolic value is used as a number, or given to a
            distribution with which it has no closed form.

    Source: Murray et al., "Delayed Sampling and Automatic Rao-Blackwellization of Probabilistic
    Programs", AISTATS 2018. Their graph keeps one path of marginalised variables and samples the
    others; here normal variables are one joint, and nothing is sampled to make room.

    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> def model():
    ...     x = yield cp.sample("x", dist.Normal(0.0, 1.0))
    ...     y = yield cp.sample("y", dist.Normal(2 * x + 1, 1.0))
    ...     yield cp.sample("z", dist.Normal(x + y, 1.0), obs=5.0)
    ...     return (yield cp.poutine.posterior(x))
    >>> cp.run(delayed(model))
    Normal(loc: 1.0909..., scale: 0.4264...)
    """
    return _apply("delayed", fn, DelayedMessenger())


def _default_posterior(value: Any) -> Any:
    if isinstance(value, Symbol):
        not_ours(value)
    return Delta(value)


_posterior = effectful(_default_posterior, type="posterior")


def posterior(value: Any) -> Any:
    """The distribution of a delayed value, given everything observed so far: `yield posterior(x)`.

    It is a Normal, Beta, Gamma or Dirichlet, and a `Delta` for a value that is not symbolic.

    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> from contpoutine import poutine
    >>> def model(falls):
    ...     p = yield cp.sample("p", dist.Beta(1.0, 1.0))
    ...     for i, heads in enumerate(falls):
    ...         yield cp.sample(f"fall{i}", dist.Flip(p), obs=heads)
    ...     return (yield poutine.posterior(p))
    >>> p = cp.run(poutine.delayed(model), [True, True, False])
    >>> p.concentration1, p.concentration0
    (tensor(3.), tensor(2.))
    """
    return _posterior(value).born_in_caller()
