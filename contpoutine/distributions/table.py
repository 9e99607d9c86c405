"""What every finite distribution is: a tuple of values and a tuple of their log-probabilities.

The invariant: an instance never changes after construction, `log_probs` is in natural logarithms in
float64, normalised, finite, and in step with `values`; a declared value of probability zero is in
neither, but an observation of it weighs minus infinity. `table` maps each hashable value to its
log-probability; it is None where some value does not hash. The engine reads these three slots
directly, so they are always there and always plain.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

from contpoutine.distributions.content import content_key
from contpoutine.errors import OutsideSupportError

if TYPE_CHECKING:
    import torch

V = TypeVar("V")

_SHOWN = 6  # how many values a repr spells out


class Columns:
    """The slots, open: an instance is filled as this class and then becomes its final one.

    Four plain stores and one change of class are the cheapest way to an immutable object; going
    through `object.__setattr__` for each slot costs half as much again.
    """

    __slots__ = ("impossible", "log_probs", "parameters", "table", "values")

    values: tuple[Any, ...]
    log_probs: tuple[float, ...]
    table: dict[Any, float] | None
    impossible: tuple[Any, ...]
    parameters: tuple[Any, ...]


class FiniteDistribution(Columns, Generic[V]):
    """A distribution over finitely many Python values, with float probabilities and no torch.

    Attributes:
        values: the values of positive probability, in the order in which they are enumerated.
        log_probs: their log-probabilities (natural logarithm, float64).
        table: value to log-probability, None where some value is unhashable.
        impossible: values that were declared with probability zero.
        parameters: what a parametric family was built from, such as `(0.3,)` for `Flip(0.3)`.
    """

    __slots__ = ()

    has_enumerate_support: ClassVar[bool] = True

    values: tuple[V, ...]

    def enumerate_support(self) -> tuple[V, ...]:
        """The values of positive probability."""
        return self.values

    @property
    def probs(self) -> tuple[float, ...]:
        """The probabilities, in step with `values`."""
        return tuple([math.exp(x) for x in self.log_probs])

    def sample(self) -> V:
        """One value, drawn with Python's `random` module: seed it with `random.seed`."""
        left = random.random()
        for value, log_prob in zip(self.values, self.log_probs, strict=True):
            left -= math.exp(log_prob)
            if left < 0.0:
                return value
        return self.values[-1]  # the probabilities add up to a hair less than 1

    __call__ = sample

    def log_weight(self, value: Any) -> float:
        """The log-probability of `value`, as a float.

        It is minus infinity for a value that was declared with probability zero. Values are
        compared by content, so a tensor or a list finds its equal, and a 0-dim tensor finds the
        number that it holds.

        Raises:
            OutsideSupportError: the distribution was never told of this value.
        """
        table = self.table
        if table is not None:
            try:
                return table[value]
            except (KeyError, TypeError):
                pass
        return self._search(value)

    def log_prob(self, value: Any) -> torch.Tensor:
        """The log-probability of `value` as a 0-dim float64 tensor; see `log_weight`."""
        import torch

        return torch.tensor(self.log_weight(value), dtype=torch.float64)

    def _search(self, value: Any) -> float:
        keys = [content_key(value)]
        if getattr(value, "shape", None) == () and hasattr(value, "item"):
            keys.append(content_key(value.item()))
        for candidate, log_prob in zip(self.values, self.log_probs, strict=True):
            if content_key(candidate) in keys:
                return log_prob
        for candidate in self.impossible:
            if content_key(candidate) in keys:
                return -math.inf
        raise OutsideSupportError(
            f"{value!r} is no value of {self!r}. Its values are {_listing(self.values)}."
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"{self!r} cannot be changed, because branches share it: build another distribution "
            f"instead of setting {name!r}."
        )

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __fork__(self, memo: Callable[[Any], Any]) -> FiniteDistribution[V]:
        """What a forked computation that made this distribution holds in its place."""
        values = tuple([memo(value) for value in self.values])
        if all(new is old for new, old in zip(values, self.values, strict=True)):
            return self
        return build(type(self), values, self.log_probs, self.impossible, self.parameters)

    def __copy__(self) -> FiniteDistribution[V]:
        return self

    def __state_key__(self) -> tuple[Any, ...]:
        return self.values, self.log_probs, self.impossible, self.parameters

    def __reduce__(self) -> tuple[Any, ...]:
        return build, (type(self), self.values, self.log_probs, self.impossible, self.parameters)

    def __repr__(self) -> str:
        pairs = zip(self.values, self.probs, strict=True)
        return f"{type(self).__name__}({{{_some([f'{v!r}: {p:.6g}' for v, p in pairs])}}})"


D = TypeVar("D", bound=FiniteDistribution[Any])


def build(
    cls: type[D],
    values: Iterable[Any],
    log_probs: Iterable[float],
    impossible: tuple[Any, ...] = (),
    parameters: tuple[Any, ...] = (),
) -> D:
    """An instance of `cls` with these columns; the caller answers for the invariant."""
    columns = Columns()
    columns.values = tuple(values)
    columns.log_probs = tuple(log_probs)
    columns.impossible = impossible
    columns.parameters = parameters
    try:
        columns.table = table = dict(zip(columns.values, columns.log_probs, strict=True))
        for value in impossible:
            table.setdefault(value, -math.inf)
    except TypeError:
        columns.table = None
    return seal(columns, cls)


def seal(columns: Columns, cls: type[D]) -> D:
    """Turn filled columns into an instance of `cls`, which cannot be changed any more."""
    columns.__class__ = cls  # the layouts agree: neither class adds a slot
    return columns  # type: ignore[return-value]


def _listing(values: tuple[Any, ...]) -> str:
    return _some([repr(value) for value in values])


def _some(items: list[str]) -> str:
    if len(items) <= _SHOWN:
        return ", ".join(items)
    return ", ".join(items[: _SHOWN - 1]) + f", ... ({len(items)} values)"
