"""reparam: a site written as others and a computation from them.

A reparameteriser is asked for the site's message; it may perform auxiliary sites, and gives the
distribution and the value that the site has instead. Its auxiliary sites are performed at once, as
Pyro does it, and pass all the handlers around the model. So they cannot be choices of an
enumeration, nor be resumed twice; there, they are refused by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping
from types import GeneratorType
from typing import Any, Protocol

from contpoutine.core.ambient import DRIVEN
from contpoutine.core.message import Message
from contpoutine.core.messenger import Messenger
from contpoutine.core.model import is_generator_model
from contpoutine.errors import BadYieldError, BarrierError
from contpoutine.poutine.at_once import perform_at_once
from contpoutine.poutine.three_ways import Model, apply

__all__ = ["Reparam", "ReparamMessenger", "reparam"]


class Reparam(Protocol):
    """What is asked of a reparameteriser."""

    def apply(self, msg: dict[str, Any]) -> Any:
        """Rewrite a site.

        Args:
            msg: `name`, `fn`, `value` and `is_observed` of the site.

        Returns:
            The same four keys, for the site as it is to be; or a generator that yields auxiliary
            sites (`sample`, `param`) and returns them.
        """


class ReparamMessenger(Messenger):
    """Rewrites the sites that `config` has a reparameteriser for.

    Args:
        config: a mapping from site name to reparameteriser, or a function from message to
            reparameteriser or None.
    """

    def __init__(self, config: Any) -> None:
        if not isinstance(config, Mapping) and not callable(config):
            raise TypeError(
                f"reparam needs config={{site name: reparameteriser}} or a function that gives one "
                f"for a message, or None, not {config!r}"
            )
        self.config = config
        self._args_kwargs: Any = None

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The model, reparameterised; reparameterisers can look at its arguments."""
        if not is_generator_model(fn):
            return super().__call__(fn)

        @functools.wraps(fn)
        def model(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            handler = type(self)(self.config)
            handler._args_kwargs = args, kwargs
            with handler:
                return (yield from fn(*args, **kwargs))

        return model

    def _pyro_sample(self, msg: Any) -> None:
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        config = self.config
        by = config.get(msg["name"]) if isinstance(config, Mapping) else config(msg)
        if by is None:
            return
        site = {key: msg[key] for key in ("name", "fn", "value", "is_observed")}
        by.args_kwargs = self._args_kwargs
        try:
            new = by.apply(site)
            if isinstance(new, GeneratorType):
                new = _performed(new, msg)
        finally:
            by.args_kwargs = None
        msg["fn"], msg["value"], msg["is_observed"] = new["fn"], new["value"], new["is_observed"]


def _performed(body: Generator[Any, Any, Any], site: Any) -> Any:
    """Run a reparameteriser, each of whose effects is performed at once."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            request = body.send(value) if error is None else body.throw(error)
        except StopIteration as stop:
            return stop.value
        value, error = None, None
        try:
            value = _auxiliary(request, site)
        except Exception as raised:
            error = raised


def _auxiliary(request: Any, site: Any) -> Any:
    if type(request) is not Message:
        raise BadYieldError(
            f"the reparameteriser of site {site['name']!r} yielded {request!r}; it yields effects, "
            f"such as sample(...), and calls sub-models with `yield from`"
        )
    what = f"the auxiliary site {request['name']!r} of {site['name']!r}"
    if request["type"] == "sample" and DRIVEN.get():
        request.perform()
        raise BarrierError(
            f"{what} would be performed out of reach of whoever makes the choices of this model, "
            f"such as infer.enumerate. Write the reparameterised sites in the model itself."
        )
    return perform_at_once(
        request, what, "Write the reparameterised sites in the model itself.", place=False
    )


def reparam(fn: Model | None = None, config: Any = None) -> Any:
    """Write sites as others and a computation from them.

    >>> import torch
    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> class Standardised:
    ...     def apply(self, msg):
    ...         fn = msg["fn"]
    ...         z = yield cp.sample(msg["name"] + "_std", dist.Normal(0.0, 1.0))
    ...         value = fn.loc + fn.scale * z
    ...         return {"fn": dist.Delta(value), "value": value, "is_observed": True}
    >>> def model():
    ...     return (yield cp.sample("x", dist.Normal(5.0, 0.1)))
    >>> trace = cp.poutine.trace(reparam(model, config={"x": Standardised()})).get_trace()
    >>> trace.stochastic_nodes, trace.observation_nodes
    (['x_std'], ['x'])
    """
    return apply("reparam", fn, ReparamMessenger(config))
