"""Finite distributions over any Python values: Flip, Finite, UniformDraw, RandInt, Delta, Unit.

No torch anywhere: a model built from these runs at the speed of the engine. Constructors that a
model calls at every visit with the same few numbers (`Flip(0.3)`, `RandInt(1, 7)`) hand out the
same immutable object again, from a bounded table.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, SupportsFloat, TypeVar, cast, final

from contpoutine.distributions.content import content_key, hold_tensor_type, is_tensor
from contpoutine.distributions.numbers import plain_number, probability, refuse_request
from contpoutine.distributions.symbolic import SymbolicDistribution, defer
from contpoutine.distributions.table import Columns, FiniteDistribution, build, seal
from contpoutine.errors import (
    BadWeightError,
    DistributionError,
    EmptySupportError,
    SymbolicValueError,
    UnperformedEffectError,
)

if TYPE_CHECKING:
    import torch

__all__ = ["Delta", "Finite", "FiniteDistribution", "Flip", "RandInt", "UniformDraw", "Unit"]

V = TypeVar("V")

_INTERNED_MAX = 4096
_INTERNED_VALUES_MAX = 1024  # a wider RandInt is built anew, so that the table stays small
_UNIT_VALUES: tuple[tuple[()], ...] = ((),)
_flips: dict[Any, Flip] = {}
_rand_ints: dict[tuple[int, int], RandInt] = {}

_ONLY_FLOATS = {float}
_SUM_TOLERANCE = 1e-9


def _intern(table: dict[Any, Any], key: Hashable, made: Any) -> None:
    if len(table) >= _INTERNED_MAX:
        table.clear()
    table[key] = made


@final
class Flip(FiniteDistribution[bool]):
    """True with probability `p`, otherwise False. The support is `(True, False)`.

    `p` is a number in [0, 1], a NumPy scalar or a 0-dim tensor without gradient; with 0 or 1 only
    one value is left.

    Raises:
        DistributionError: `p` is no number, NaN, outside [0, 1], or a tensor that requires grad.

    >>> Flip(0.3).values
    (True, False)
    >>> round(Flip(0.3).log_weight(False), 6)
    -0.356675
    """

    __slots__ = ()
    fork_shared = True  # nothing in it can change

    def __new__(cls, p: SupportsFloat) -> Flip:
        try:
            return _flips[p]
        except UnperformedEffectError:
            raise
        except (KeyError, TypeError):
            return _make_flip(p)

    @property
    def p(self) -> float:
        """The probability of True."""
        return cast(float, self.parameters[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return Flip, self.parameters

    def __repr__(self) -> str:
        return f"Flip({self.p!r})"


def _make_flip(p: SupportsFloat) -> Flip:
    try:
        number = probability(p, "Flip(p)")
    except SymbolicValueError:
        return cast(Flip, defer(SymbolicDistribution(), Flip, p=p))
    if number == 1.0:
        flip = build(Flip, (True,), (0.0,), (False,), (number,))
    elif number == 0.0:
        flip = build(Flip, (False,), (0.0,), (True,), (number,))
    else:
        log_probs = (math.log(number), math.log1p(-number))
        flip = build(Flip, (True, False), log_probs, (), (number,))
    if type(p) in (float, int, bool):  # the hash of a tensor is its identity, not its content
        _intern(_flips, number, flip)
    return flip


class Finite(FiniteDistribution[V]):
    """The distribution that gives each value the probability beside it.

    `probabilities` is a mapping, or an iterable of (value, probability) pairs, which also takes
    values that do not hash; pairs with equal values add up. The probabilities must sum to 1 within
    1e-9; `Finite.from_weights` takes any non-negative weights and normalises. A value of
    probability zero is never enumerated, and an observation of it weighs minus infinity.

    Raises:
        DistributionError: a probability is no number, negative or NaN, or they do not sum to 1.
        EmptySupportError: there is no value, or none with positive probability.

    >>> weather = Finite({"sun": 0.5, "rain": 0.25, "snow": 0.25})
    >>> weather.values
    ('sun', 'rain', 'snow')
    >>> weather
    Finite({'sun': 0.5, 'rain': 0.25, 'snow': 0.25})
    """

    __slots__ = ()

    def __new__(
        cls,
        probabilities: Mapping[Any, SupportsFloat] | Iterable[tuple[Any, SupportsFloat]],
    ) -> Finite[V]:
        if type(probabilities) is dict:
            columns = _plain_columns(probabilities)
            if columns is not None:
                return seal(columns, cls)
        values, weights = _read_weights(probabilities, "Finite")
        total = math.fsum(weights)
        if abs(total - 1.0) > _SUM_TOLERANCE and total > 0.0:
            raise DistributionError(
                f"the probabilities given to Finite sum to {total:.12g}, not to 1. If they are "
                f"weights, write `Finite.from_weights({{...}})`, which normalises them."
            )
        return _weighted(cls, values, weights, _log(total), "Finite")

    @classmethod
    def from_weights(
        cls, weights: Mapping[Any, SupportsFloat] | Iterable[tuple[Any, SupportsFloat]]
    ) -> Finite[V]:
        """The distribution proportional to these non-negative weights.

        >>> Finite.from_weights({"a": 3, "b": 1})
        Finite({'a': 0.75, 'b': 0.25})
        """
        values, numbers = _read_weights(weights, "Finite.from_weights")
        top = max(numbers, default=0.0)
        log_total = -math.inf
        if top > 0.0:  # divided by the largest, so that the sum of huge weights does not overflow
            log_total = math.log(top) + math.log(math.fsum([x / top for x in numbers]))
        return _weighted(cls, values, numbers, log_total, "Finite.from_weights")


def _plain_columns(probabilities: dict[Any, Any]) -> Columns | None:
    """The columns for positive float probabilities that sum to 1; None asks for the long way.

    A model may build a `Finite` at every visit, so this way is short.
    """
    weights = probabilities.values()
    kinds = set(map(type, probabilities))
    if set(map(type, weights)) != _ONLY_FLOATS or hold_tensor_type(kinds):
        return None
    total = math.fsum(weights)
    if not (min(weights) > 0.0 and abs(total - 1.0) <= _SUM_TOLERANCE):
        return None
    columns = Columns()
    columns.values = values = tuple(probabilities)
    columns.log_probs = log_probs = tuple(map(math.log, weights))
    if total != 1.0:
        shift = math.log(total)
        columns.log_probs = log_probs = tuple([x - shift for x in log_probs])
    columns.impossible = columns.parameters = ()
    columns.table = dict(zip(values, log_probs, strict=True))
    return columns


def _read_weights(
    weights: Mapping[Any, SupportsFloat] | Iterable[tuple[Any, SupportsFloat]], what: str
) -> tuple[list[Any], list[float]]:
    try:
        pairs = list(weights.items()) if isinstance(weights, Mapping) else list(weights)
        values = [value for value, _ in pairs]
    except (TypeError, ValueError):
        raise DistributionError(
            f"{what} takes a mapping from value to probability or a list of (value, probability) "
            f"pairs, and was given {weights!r}. For equally likely values, write "
            f"`UniformDraw([...])`."
        ) from None
    numbers = []
    for value, weight in pairs:
        number = weight if type(weight) is float else plain_number(weight, f"{what}: {value!r}")
        if not 0.0 <= number < math.inf:
            flaw = "NaN" if math.isnan(number) else repr(number)
            raise DistributionError(
                f"{what} gives the value {value!r} the weight {flaw}; a weight is a finite "
                f"number, zero or more."
            )
        numbers.append(number)
    if not isinstance(weights, Mapping) or any(is_tensor(value) for value in values):
        values, numbers = _add_up(values, numbers)
    return values, numbers


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf


def _add_up(values: list[Any], weights: list[float]) -> tuple[list[Any], list[float]]:
    """Join values that hold the same, in the order of their first appearance."""
    slots: dict[Hashable, int] = {}
    joined: list[Any] = []
    parts: list[list[float]] = []
    for value, weight in zip(values, weights, strict=True):
        slot = slots.setdefault(content_key(value), len(joined))
        if slot == len(joined):
            joined.append(value)
            parts.append([])
        parts[slot].append(weight)
    return joined, [math.fsum(part) for part in parts]


def _weighted(
    cls: type[Finite[V]], values: list[Any], weights: list[float], log_total: float, what: str
) -> Finite[V]:
    if log_total == -math.inf:
        found = "every weight is zero" if values else "there is no value at all"
        raise EmptySupportError(
            f"{what} needs at least one value with positive probability, and {found}. A branch "
            f"that cannot happen is written `yield factor(name, -math.inf)`."
        )
    kept = [(value, math.log(w) - log_total) for value, w in zip(values, weights, strict=True) if w]
    impossible = tuple([value for value, w in zip(values, weights, strict=True) if not w])
    return build(cls, [v for v, _ in kept], [x for _, x in kept], impossible)


class UniformDraw(FiniteDistribution[V]):
    """Each of `values` with equal probability; a value that is given twice counts twice.

    `values` is any iterable: a list, a string (its characters), a range.

    Raises:
        EmptySupportError: there are no values.

    >>> UniformDraw("aab").table["a"] == math.log(2 / 3)
    True
    """

    __slots__ = ()

    def __new__(cls, values: Iterable[V]) -> UniformDraw[V]:
        refuse_request(values)
        try:
            drawn = list(values)
        except TypeError:
            raise DistributionError(
                f"UniformDraw takes the values to draw from, and was given {values!r}. For the "
                f"integers below n, write `UniformDraw(range(n))` or `RandInt(0, n)`."
            ) from None
        if not drawn:
            raise EmptySupportError(
                "UniformDraw was given no values; it needs at least one to draw from."
            )
        distinct, counts = _add_up(drawn, [1.0] * len(drawn))
        return build(cls, distinct, [math.log(count / len(drawn)) for count in counts])


@final
class RandInt(FiniteDistribution[int]):
    """An integer with `low <= x < high`, each with equal probability: Python's range convention.

    A die is `RandInt(1, 7)`. With one argument, `RandInt(n)` is one of 0 ... n - 1.

    Raises:
        DistributionError: a bound is no integer.
        EmptySupportError: no integer lies in the range.

    >>> RandInt(1, 7).values
    (1, 2, 3, 4, 5, 6)
    """

    __slots__ = ()
    fork_shared = True  # nothing in it can change

    def __new__(cls, low: int, high: int | None = None) -> RandInt:
        if high is None:
            low, high = 0, low
        key = (low, high)
        if type(low) is int and type(high) is int and key in _rand_ints:
            return _rand_ints[key]
        return _make_rand_int(low, high)

    def __reduce__(self) -> tuple[Any, ...]:
        return RandInt, self.parameters

    def __repr__(self) -> str:
        low, high = self.parameters
        return f"RandInt({low}, {high})"


def _make_rand_int(low: Any, high: Any) -> RandInt:
    bounds = []
    for bound in (low, high):
        try:
            bounds.append(operator.index(bound))
        except UnperformedEffectError:
            raise
        except TypeError:
            raise DistributionError(
                f"RandInt(low, high) takes two integers, and was given {bound!r} of type "
                f"{type(bound).__name__}."
            ) from None
    low, high = bounds
    if low >= high:
        raise EmptySupportError(
            f"RandInt({low}, {high}) is empty: it draws integers with low <= x < high. The upper "
            f"bound is not included; a die is `RandInt(1, 7)`."
        )
    log_prob = -math.log(high - low)
    made = build(RandInt, range(low, high), [log_prob] * (high - low), (), (low, high))
    if high - low <= _INTERNED_VALUES_MAX:
        _intern(_rand_ints, (low, high), made)
    return made


class Delta(FiniteDistribution[V]):
    """The one value `value`, with probability 1.

    >>> Delta("x").values
    ('x',)
    """

    __slots__ = ()

    def __new__(cls, value: V) -> Delta[V]:
        # spelled out, not built by `build`: a deterministic site makes one at every visit
        columns = Columns()
        columns.values = (value,)
        columns.log_probs = (0.0,)
        columns.impossible = ()
        columns.parameters = ()
        try:
            columns.table = {value: 0.0}
        except TypeError:
            columns.table = None
        return seal(columns, cls)

    def __repr__(self) -> str:
        return f"Delta({self.values[0]!r})"


class Unit(FiniteDistribution[tuple[()]]):
    """No choice at all, only a weight: the one value `()`, with log-weight `log_factor`.

    It is what a `factor` site observes, and the one distribution here that is not normalised.
    `log_factor` is a number, or a tensor, whose elements add up; the tensor itself is what
    `log_prob` gives, so gradients flow. Minus infinity rules an execution out.

    Raises:
        BadWeightError: the log-factor is NaN or plus infinity.
        DistributionError: it is no number.

    >>> Unit(-1.5).log_weight(())
    -1.5
    """

    __slots__ = ()
    fork_shared = True  # nothing in it can change

    def __new__(cls, log_factor: SupportsFloat | torch.Tensor) -> Self:
        if log_factor is True or log_factor is False:
            raise DistributionError(
                f"a log-factor is a number, and this one is {log_factor}. A condition is written "
                f"`yield factor(name, 0.0 if condition else -math.inf)`."
            )
        weight = log_factor if type(log_factor) is float else _total(log_factor)
        if not weight < math.inf:
            raise BadWeightError(
                f"a log-factor must be a finite number or minus infinity, and this one is "
                f"{weight!r}. If it was computed as a log, look for log of a negative number "
                f"or inf - inf."
            )
        columns = Columns()
        columns.values = _UNIT_VALUES
        columns.log_probs = (weight,)
        columns.impossible = ()
        columns.parameters = (log_factor,)
        columns.table = {(): weight}
        return seal(columns, cls)

    def log_prob(self, value: Any) -> torch.Tensor:
        """The log-factor: the tensor that it came from, or its number as a 0-dim tensor."""
        import torch

        self.log_weight(value)
        log_factor = self.parameters[0]
        if isinstance(log_factor, torch.Tensor):
            return log_factor
        return torch.tensor(self.log_probs[0], dtype=torch.float64)

    def __repr__(self) -> str:
        return f"Unit({self.log_probs[0]:.6g})"


def _total(log_factor: Any) -> float:
    if is_tensor(log_factor):
        return float(log_factor.detach().double().sum())
    return plain_number(log_factor, "factor(name, log_factor)")
