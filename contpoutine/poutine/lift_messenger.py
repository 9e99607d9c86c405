"""lift: parameters that are drawn from a prior.

A parameter that is lifted is a sample site to everybody further out. What was drawn is remembered,
because a model may read a parameter twice; the memory is an immutable list, so that each branch has
its own at no cost. On its way down the message is a parameter again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from contpoutine.core.messenger import Messenger
from contpoutine.errors import NotAModelError
from contpoutine.poutine.names_met import NamesMet
from contpoutine.poutine.substitute_messenger import user_param_name
from contpoutine.poutine.three_ways import Model, apply
from contpoutine.poutine.trace_messenger import Record, fork_record

__all__ = ["LiftMessenger", "lift"]


class LiftMessenger(Messenger):
    """Draws parameters from `prior` in place of reading them from the parameter store.

    Args:
        prior: a distribution for all parameters, or a mapping from parameter name to distribution.
            In place of a distribution, a function that draws a value: it gets the arguments of
            `param` after the name, and the sites that it draws are hidden.

    Raises:
        NotAModelError: a prior is a generator function.

    Warns:
        UnmetNameWarning: the model never reads a parameter that is named.
    """

    def __init__(self, prior: Any) -> None:
        priors = prior.values() if isinstance(prior, Mapping) else [prior]
        for given in priors:
            _check_prior(given)
        self.prior = prior
        named = prior if isinstance(prior, Mapping) else ()
        self._met = NamesMet("lift", "param", named)
        self._drawn: Record | None = None

    def __enter__(self) -> Self:
        self._drawn = None
        return super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        done = super().__exit__(exc_type, exc_value, traceback)
        self._met.leave(exc_type)
        return done

    def _pyro_param(self, msg: Any) -> None:
        name = user_param_name(msg["name"])
        if isinstance(self.prior, Mapping):
            self._met.meet(name, name in self.prior)
            if name not in self.prior:
                return
            prior = self.prior[name]
        else:
            prior = self.prior
        msg["type"], msg["fn"], msg["_lifted"] = "sample", prior, True
        if hasattr(prior, "log_prob"):
            msg["args"], msg["kwargs"], msg["infer"] = (), {}, {}
        else:
            msg["args"] = msg["args"][1:]
            msg["stop"] = msg["stop"] or not isinstance(self.prior, Mapping)
        drawn = self._find(msg["name"])
        if drawn is not None:
            msg["value"], msg["is_observed"], msg["stop"] = drawn.site["value"], True, True

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg.get("_lifted"):
            if self._find(msg["name"]) is None:
                self._drawn = Record(self._drawn, {"name": msg["name"], "value": msg["value"]})
            msg["type"] = "param"
            del msg["_lifted"]

    def _find(self, name: str) -> Record | None:
        drawn = self._drawn
        while drawn is not None and drawn.site["name"] != name:
            drawn = drawn.earlier
        return drawn

    def __fork__(self, memo: Callable[[Any], Any]) -> Self:
        fresh = type(self).__new__(type(self))
        memo.record(self, fresh)  # type: ignore[attr-defined]
        fresh.__dict__.update({k: memo(v) for k, v in self.__dict__.items() if k != "_drawn"})
        fresh._drawn = self._drawn and fork_record(self._drawn, memo)
        return fresh


def _check_prior(prior: Any) -> None:
    if isinstance(prior, type) or not (hasattr(prior, "log_prob") or callable(prior)):
        raise TypeError(f"lift needs a distribution as prior, or one for each name, not {prior!r}")
    if inspect.isgeneratorfunction(prior):
        raise NotAModelError(
            f"lift was given the generator function {prior.__name__!r} as a prior; it takes "
            f"distributions, or functions that draw by themselves. Draw in the model, and use the "
            f"value there: `w = yield from {prior.__name__}(...)`."
        )


def lift(fn: Model | None = None, prior: Any = None) -> Any:
    """Draw parameters from a prior.

    >>> import contpoutine as cp
    >>> def model():
    ...     p = yield cp.param("p", 0.5)
    ...     yield cp.sample("x", cp.distributions.Flip(p), obs=True)
    ...     return p
    >>> lifted = lift(model, prior={"p": cp.distributions.UniformDraw([0.25, 0.75])})
    >>> round(cp.infer.enumerate(lifted)().marginal()[0.75], 4)
    0.75
    """
    return apply("lift", fn, LiftMessenger(prior))
