"""What the engine asks of a distribution, in one call a visit.

`choices(fn, name)` is the whole support with its log-probabilities; `log_weight(fn, value, name)`
is the weight of an observation. Answers are plain floats in natural logarithms; a finite
distribution gives them from its columns, a torch distribution is asked once, for its whole support
together. Every refusal names the site. Torch is not imported here: a torch distribution brings it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from contpoutine.distributions.content import is_tensor
from contpoutine.distributions.table import FiniteDistribution
from contpoutine.errors import (
    BadWeightError,
    DistributionError,
    EmptySupportError,
    NotEnumerableError,
    OutsideSupportError,
)

__all__ = [
    "Choices",
    "ElementChoices",
    "check_distribution",
    "choices",
    "draw",
    "has_finite_support",
    "log_weight",
]


class Choices(NamedTuple):
    """The values that one choice may take, and their log-probabilities (minus infinity stays)."""

    values: tuple[Any, ...]
    log_probs: tuple[float, ...]


class ElementChoices(NamedTuple):
    """A batched site: one choice for each element, in row-major order.

    `assemble` takes one value for each element, in the same order, and gives the tensor that the
    model receives.
    """

    elements: list[Choices]
    assemble: Callable[[Sequence[Any]], Any]


def choices(fn: Any, name: str) -> Choices | ElementChoices:
    """Every value that `fn` can take at site `name`, with its log-probability.

    Raises:
        NotEnumerableError: `fn` has no finite support.
        EmptySupportError: its support is empty, or has no value of positive probability.
        BadWeightError: a log-probability is NaN or plus infinity.
        DistributionError: `fn` is no distribution.

    >>> from contpoutine.distributions import Finite
    >>> choices(Finite({"a": 0.5, "b": 0.5}), "letter").values
    ('a', 'b')
    """
    if isinstance(fn, FiniteDistribution):
        return Choices(fn.values, fn.log_probs)
    try:
        ask = fn._choices
    except AttributeError:
        return _foreign_choices(fn, name)
    answer: Choices | ElementChoices = ask(name)
    return answer


def log_weight(fn: Any, value: Any, name: str) -> float:
    """The log-probability of the observation `value` at site `name`, summed over its elements.

    Raises:
        OutsideSupportError: `value` is outside the support of `fn`.
        BadWeightError: the log-probability is NaN or plus infinity.
        DistributionError: `fn` is no distribution.

    >>> from contpoutine.distributions import Flip
    >>> log_weight(Flip(0.5), True, "coin") == math.log(0.5)
    True
    """
    if isinstance(fn, FiniteDistribution):
        try:
            return fn.log_weight(value)
        except OutsideSupportError as error:
            raise OutsideSupportError(f"site {name!r}: {error}") from None
    try:
        weigh = fn._log_weight
    except AttributeError:
        return _foreign_log_weight(fn, value, name)
    weight: float = weigh(value, name)
    return weight


def draw(fn: Any) -> Any:
    """One value of `fn`: differentiable in its parameters where `fn` can do that."""
    if callable(fn):
        return fn()
    return fn.rsample() if getattr(fn, "has_rsample", False) else fn.sample()


def has_finite_support(fn: Any) -> bool:
    """Whether `choices` can enumerate `fn`. A batch counts: its elements are enumerated."""
    while _is_independent(fn):
        fn = fn.base_dist
    return bool(getattr(fn, "has_enumerate_support", False))


def check_distribution(fn: Any, name: str) -> None:
    """Refuse what is no distribution.

    Raises:
        DistributionError: `fn` has no `log_prob`, or is a class instead of an instance.
    """
    if hasattr(fn, "log_prob") and not isinstance(fn, type):
        return
    if isinstance(fn, type):
        got = f"the class {fn.__name__} itself"
        advice = f"Call it with its parameters, such as `{fn.__name__}(...)`."
    elif isinstance(fn, int | float):
        got = f"the number {fn!r}"
        advice = (
            f"A coin with that probability is `dist.Flip({fn!r})`; a fixed value is recorded "
            f"with `yield deterministic({name!r}, {fn!r})`."
        )
    elif callable(fn):
        called = getattr(fn, "__name__", "the function")
        got = f"{fn!r}"
        advice = (
            f"Call a function that builds a distribution (`{called}(...)`), and run a sub-model "
            f"with `x = yield from {called}(...)`."
        )
    else:
        got = f"{fn!r} of type {type(fn).__name__}"
        advice = (
            "A distribution has a `sample` and a `log_prob` method, such as `dist.Flip(0.3)`, "
            "`dist.Finite({...})` or one of torch.distributions."
        )
    raise DistributionError(
        f"site {name!r}: the second argument of `sample` must be a distribution, and is {got}. "
        f"{advice}"
    )


def not_enumerable(fn: Any, name: str, why: str = "") -> NotEnumerableError:
    """The error for a site that has no finite support to go through."""
    reason = why or f"{type(fn).__name__} has no finite support"
    return NotEnumerableError(
        f"site {name!r} cannot be enumerated: {reason}. Observe it (`obs=...`), or draw it from a "
        f"finite distribution, such as `dist.Finite.from_weights({{...}})` over a grid of values."
    )


def outside_support(fn: Any, name: str, value: Any, support: str) -> OutsideSupportError:
    """The error for an observation that the distribution does not know."""
    return OutsideSupportError(
        f"site {name!r}: the observed value {value!r} is outside the support of {fn!r}, which is "
        f"{support}."
    )


def checked_weight(weight: float, fn: Any, name: str, value: Any) -> float:
    """`weight`, refused where no posterior could be computed from it."""
    if weight < math.inf:
        return weight
    flaw = "NaN" if math.isnan(weight) else "plus infinity"
    raise BadWeightError(
        f"site {name!r}: the log-probability of {value!r} under {fn!r} is {flaw}. Look at its "
        f"parameters: a NaN comes from 0/0, inf - inf or the log of a negative number."
    )


def checked_choices(
    values: tuple[Any, ...], log_probs: Sequence[float], fn: Any, name: str
) -> Choices:
    """The two columns as `Choices`, refused where they are no distribution."""
    possible = False
    for value, log_prob in zip(values, log_probs, strict=True):
        if checked_weight(log_prob, fn, name, value) > -math.inf:
            possible = True
    if not possible:
        found = "gives every value probability zero" if values else "has an empty support"
        raise EmptySupportError(
            f"site {name!r}: {fn!r} {found}, so the model cannot go on. A branch that cannot "
            f"happen is written `yield factor(name, -math.inf)`."
        )
    return Choices(values, tuple(log_probs))


def _is_torch_distribution(fn: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(fn, torch.distributions.Distribution)


def _is_independent(fn: Any) -> bool:
    held = getattr(fn, "__dict__", ())  # not hasattr, which would wake a light instance
    return "reinterpreted_batch_ndims" in held and "base_dist" in held


def _foreign_choices(fn: Any, name: str) -> Choices | ElementChoices:
    """A distribution of torch's, Pyro's or the user's own."""
    check_distribution(fn, name)
    if _is_torch_distribution(fn):
        from contpoutine.distributions.ask_torch import torch_choices

        return torch_choices(fn, name)
    if not getattr(fn, "has_enumerate_support", False):
        raise not_enumerable(fn, name)
    values = tuple(fn.enumerate_support())
    return checked_choices(values, [_number(fn.log_prob(v)) for v in values], fn, name)


def _foreign_log_weight(fn: Any, value: Any, name: str) -> float:
    check_distribution(fn, name)
    if _is_torch_distribution(fn):
        from contpoutine.distributions.ask_torch import torch_log_weight

        return torch_log_weight(fn, value, name)
    return checked_weight(_number(fn.log_prob(value)), fn, name, value)


def _number(log_prob: Any) -> float:
    return float(log_prob.detach().double().sum()) if is_tensor(log_prob) else float(log_prob)
