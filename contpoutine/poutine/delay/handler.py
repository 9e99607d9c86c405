"""`delayed`, in Pyro's manner, and `posterior`, which asks it what is known.

What `delayed()` gives has no state of its own: each block and each call installs a messenger that
begins with knowing nothing. So it can be made anywhere, and used again, also by a model that calls
itself, and in every branch of an enumeration.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from types import GeneratorType, TracebackType
from typing import Any

from contpoutine.core.ambient import AMBIENT
from contpoutine.core.effectful import effectful
from contpoutine.core.messenger import Messenger
from contpoutine.core.model import is_generator_model
from contpoutine.distributions import Delta
from contpoutine.errors import SymbolicValueError
from contpoutine.poutine.delay.delayed_messenger import DelayedMessenger, not_ours
from contpoutine.poutine.delay.symbol import Symbol
from contpoutine.poutine.delay.take_number import numbers_of
from contpoutine.poutine.three_ways import apply


class Delayed(Messenger):
    """Installs a `DelayedMessenger` for each block and each call."""

    fork_constant = True

    def __enter__(self) -> DelayedMessenger:  # type: ignore[override]
        return DelayedMessenger(self).__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        installed = self._installed()
        leave = super().__exit__ if installed is None else installed.__exit__
        return leave(exc_type, exc_value, traceback)

    def _installed(self) -> DelayedMessenger | None:
        """The innermost of those that it has installed here."""
        for entry in reversed(AMBIENT.get()):
            if isinstance(entry, DelayedMessenger) and entry.made_by is self:
                return entry
        return None

    def posterior(self, value: Any) -> Any:
        """The distribution of a delayed value, inside of a block of this handler."""
        installed = self._installed()
        if installed is None:
            raise SymbolicValueError(
                "this `poutine.delayed` handler is not installed here. What is known in a block "
                "stays with it: `with poutine.delayed() as known: ...`, `known.posterior(x)`."
            )
        return installed.posterior(value)

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        if is_generator_model(fn):

            @functools.wraps(fn)
            def model(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                return (yield from self._follow(fn(*args, **kwargs)))

            return model

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                result = fn(*args, **kwargs)
            return self._follow(result) if isinstance(result, GeneratorType) else result

        return call

    def _follow(self, body: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        with self:
            return (yield from numbers_of((yield from body)))


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
    site of another kind. `with delayed() as known:` gives `known.posterior(x)` as well.

    A handler that runs on more than once, such as an enumeration or a search, belongs outside:
    `infer.enumerate(delayed(model))`, `handle(Search(), delayed(model))`.

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
    return apply("delayed", fn, Delayed())


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
