"""The effects that a probabilistic model performs. Each gives a request, to be yielded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from contpoutine.core.message import Message, Request, build_sample
from contpoutine.distributions import Delta, FiniteDistribution, Unit
from contpoutine.params.modules import module as module
from contpoutine.params.site import param as param

T = TypeVar("T")

if TYPE_CHECKING:
    import torch

    @overload
    def sample(
        name: str,
        fn: FiniteDistribution[T],
        *args: Any,
        obs: T | None = None,
        infer: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Request[T]: ...
    @overload
    def sample(
        name: str,
        fn: torch.distributions.Distribution,
        *args: Any,
        obs: Any = None,
        infer: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Request[torch.Tensor]: ...
    def sample(name: str, fn: Any, *args: Any, **kwargs: Any) -> Request[Any]: ...
else:
    sample = build_sample


def observe(name: str, fn: Any, value: T) -> Request[T]:
    """Condition on `value` having been drawn from `fn`: the same as `sample(..., obs=value)`.

    Unlike `obs=None`, an observed `None` is an observation.

    >>> import contpoutine as cp
    >>> def model():
    ...     yield cp.observe("coin", cp.distributions.Flip(0.25), True)
    >>> round(cp.infer.enumerate(model)().log_evidence, 4)
    -1.3863
    """
    request: Request[T] = _decided(build_sample(name, fn), value).born_in_caller()
    return request


def factor(name: str, log_factor: Any) -> Request[tuple[()]]:
    """Multiply the weight of the execution by `exp(log_factor)`.

    >>> import contpoutine as cp
    >>> def model():
    ...     x = yield cp.sample("x", cp.distributions.Flip(0.5))
    ...     yield cp.factor("prefer", 1.0 if x else 0.0)
    ...     return x
    >>> round(cp.infer.enumerate(model)().marginal()[True], 4)
    0.7311
    """
    request: Request[tuple[()]] = _decided(
        build_sample(name, Unit(log_factor)), ()
    ).born_in_caller()
    return request


def deterministic(name: str, value: T) -> Request[T]:
    """Give a computed value a name, so that traces and posteriors know it.

    >>> import contpoutine as cp
    >>> def model():
    ...     a = yield cp.sample("a", cp.distributions.RandInt(1, 7))
    ...     b = yield cp.sample("b", cp.distributions.RandInt(1, 7))
    ...     yield cp.deterministic("sum", a + b)
    >>> round(cp.infer.enumerate(model)().marginal("sum")[7], 4)
    0.1667
    """
    msg = build_sample(name, Delta(value), infer={"_deterministic": True})
    request: Request[T] = _decided(msg, value).born_in_caller()
    return request


def subsample(data: Any, event_dim: int) -> Request[Any]:
    """The entries of `data` that belong to the subsamples of the plates around it.

    Args:
        data: a tensor with one entry for each element of a plate, at the plate's dim.
        event_dim: how many dimensions at the right belong to one entry.

    Raises:
        ValueError: `event_dim` is no number of dimensions.
        PlateError: in the model, where the tensor has another number of entries than the plate.

    >>> import torch
    >>> import contpoutine as cp
    >>> def model(data):
    ...     with cp.plate("data", 5, subsample=[3, 0]):
    ...         return (yield cp.subsample(data, event_dim=0))
    >>> cp.run(model, torch.arange(5) * 10)
    tensor([30,  0])
    """
    if type(event_dim) is not int or event_dim < 0:
        raise ValueError(f"event_dim is a number of dimensions, zero or more, not {event_dim!r}")
    request: Request[Any] = Message(
        type="subsample", fn=_as_it_is, args=(data,), kwargs={"event_dim": event_dim}
    ).born_in_caller()
    return request


def _as_it_is(data: Any, event_dim: int) -> Any:
    return data


def _decided(msg: Any, value: Any) -> Any:
    msg["value"], msg["is_observed"] = value, True
    return msg
