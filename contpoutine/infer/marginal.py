"""The distribution of one thing: of a site's value, or of what the model returns.

A `Marginal` is a mapping from value to probability. Values are compared by content, so two tensors
that hold the same are one value; numbers are compared by type as well, so `True`, `1` and `1.0` are
three (`dict(marginal)` would join them, `marginal.items()` does not).

The probabilities of a site that occurs on some executions only add up to the probability that it
occurs, `presence`: they are the probabilities of "the site occurs, and has this value". Where an
enumeration stopped early, they are conditional on the executions that were finished; the marginal
says so, and `bounds` holds whatever the rest may do.
"""

from __future__ import annotations

import copy
import math
import random
import textwrap
from collections.abc import Callable, Hashable, ItemsView, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from contpoutine.distributions.choices import Choices
from contpoutine.distributions.content import ContentKey, content_key, is_array, is_tensor
from contpoutine.errors import DistributionError, MissingDependencyError
from contpoutine.infer import showing
from contpoutine.infer.nested import is_frozen

if TYPE_CHECKING:
    from contpoutine.distributions.empirical import Empirical

_SHOWN = 10
_NEVER_SEEN = object()  # the key of such a value; None is a value like any other


class _Items(ItemsView[Any, float]):
    """The pairs as they are kept: the view of the base class would look each value up again."""

    def __iter__(self) -> Iterator[tuple[Any, float]]:
        marginal: Any = self._mapping  # type: ignore[attr-defined]
        return iter(list(marginal._ordered()))


def entry_key(value: Any) -> Hashable:
    """The key of a value in a histogram: by content, and of plain numbers by type as well.

    >>> entry_key(1) == entry_key(True), entry_key([1]) == entry_key([1])
    (False, True)
    """
    if type(value) in (bool, float):
        return ContentKey(type(value).__name__, content_key(value))
    return content_key(value)


def _by_probability(pairs: list[tuple[Any, float]]) -> list[tuple[Any, float]]:
    """The pairs, most probable first. What is equal to twelve digits keeps the order in which it
    was found: a tie must not be broken by the last bit of a sum."""
    probabilities = [p for _, p in pairs]
    order = sorted(range(len(pairs)), key=probabilities.__getitem__, reverse=True)
    begin = 0
    for end in range(1, len(order) + 1):
        last = probabilities[order[end - 1]]
        if end == len(order) or last - probabilities[order[end]] > 1e-12 * last:
            if end - begin > 1:
                order[begin:end] = sorted(order[begin:end])
            begin = end
    return [pairs[i] for i in order]


class Marginal(Mapping[Any, float]):
    """A mapping from value to probability, most probable value first.

    A value that was never seen has probability 0, and is not `in` the mapping. A number that is not
    there in its own type finds the first entry that equals it, be that of another type or a 0-dim
    tensor: `marginal[1]` finds True where no 1 was seen.

    Attributes:
        name: the site, or None for the return value.
        occurrence: which visit of the site it is about, where one execution has several.
        presence: the probability that the site occurs at all.
        complete: whether the enumeration finished. If not, every probability here is conditional
            on the executions that it finished.
        explored_mass: how much of the prior probability they cover.
        known: a lower bound on the share of the evidence that was explored: 1 if `complete`, and 0
            where no bound can be given, because a likelihood above 1 was met.
        exact: False where some site was drawn at random instead of enumerated: the numbers are then
            those given what was drawn.

    >>> weather = Marginal([("sun", 0.75), ("rain", 0.25)], name="weather")
    >>> weather["sun"], weather["snow"], weather.mode
    (0.75, 0.0, 'sun')
    >>> weather
    Marginal of site 'weather'
      'sun'   0.7500  ████████████████████████
      'rain'  0.2500  ████████
    """

    def __init__(
        self,
        pairs: Iterable[tuple[Any, float]],
        *,
        name: str | None = None,
        occurrence: int | None = None,
        presence: float = 1.0,
        complete: bool = True,
        explored_mass: float = 1.0,
        known: float = 1.0,
        exact: bool = True,
    ) -> None:
        self.name, self.occurrence, self.presence = name, occurrence, presence
        self.complete, self.explored_mass, self.known = complete, explored_mass, known
        self.exact = exact
        self._pairs = list(pairs)  # of distinct values
        self._in_order: list[tuple[Any, float]] | None = None
        self._by_number: dict[Any, Hashable] | None = None
        self._offered: Choices | None = None

    # --- the mapping ----------------------------------------------------------------------------

    @cached_property
    def _entries(self) -> dict[Hashable, tuple[Any, float]]:
        """The pairs by content, made when somebody looks a value up."""
        return {self._key_of(value): (value, p) for value, p in self._pairs}

    @staticmethod
    def _key_of(value: Any) -> Hashable:
        return entry_key(value)

    def __getitem__(self, value: Any) -> float:
        key = self._key(value)
        return 0.0 if key is _NEVER_SEEN else self._entries[key][1]

    def get(self, value: Any, default: Any = None) -> Any:
        """The probability of `value`, or `default` if it was never seen."""
        key = self._key(value)
        return default if key is _NEVER_SEEN else self._entries[key][1]

    def __contains__(self, value: object) -> bool:
        return self._key(value) is not _NEVER_SEEN

    def __len__(self) -> int:
        return len(self._pairs)

    def items(self) -> ItemsView[Any, float]:
        """(value, probability), most probable value first."""
        return _Items(self)

    def __iter__(self) -> Iterator[Any]:
        return iter([value for value, _ in self._ordered()])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        mine = {key: p for key, (_, p) in self._entries.items()}
        found = {self._key(value): p for value, p in other.items()}
        return len(self) == len(other) and mine == found

    __hash__ = None  # type: ignore[assignment]

    def _key(self, value: Any) -> Hashable:
        key = self._key_of(value)
        if key in self._entries:
            return key
        number = _plain(value)
        if number is None:
            return _NEVER_SEEN
        if self._by_number is None:
            self._by_number = {}
            for known, (seen, _) in self._entries.items():
                plain = _plain(seen)
                if plain is not None:
                    self._by_number.setdefault(plain, known)
        return self._by_number.get(number, _NEVER_SEEN)

    def _ordered(self) -> list[tuple[Any, float]]:
        if self._in_order is None:
            self._in_order = _by_probability(self._pairs)
        return self._in_order

    # --- a distribution to sample from ----------------------------------------------------------

    has_enumerate_support = True

    def enumerate_support(self) -> list[Any]:
        """The values, most probable first."""
        return [value for value, _ in self._ordered()]

    def _choices(self, name: str) -> Choices:
        """What a choice from this marginal offers, where it is a site's distribution itself."""
        self._need_whole(name)
        if self._offered is None:
            values, probs = zip(*self._pairs, strict=True)
            log_probs = tuple([math.log(p) if p > 0.0 else -math.inf for p in probs])
            self._offered = Choices(values, log_probs)
        return self._offered

    def _log_weight(self, value: Any, name: str) -> float:
        self._need_whole(name)
        return self.log_prob(value)

    def _need_whole(self, name: str) -> None:
        if self.complete and self.presence > 1.0 - 1e-9:
            return
        why = (
            f"occurs on some executions only (presence {self.presence:.4g})"
            if self.complete
            else f"is that of an enumeration which a budget stopped (explored mass "
            f"{self.explored_mass:.4g})"
        )
        raise DistributionError(
            f"site {name!r}: {self._title().lower()} {why}, so it is no distribution. To use its "
            f"probabilities relative to each other, write "
            f"`Finite.from_weights(marginal.items())`."
        )

    # --- in a model that forks ------------------------------------------------------------------

    @cached_property
    def frozen(self) -> bool:
        """Whether no value of it can be changed: then branches of a model share it."""
        return all(is_frozen(value) for value, _ in self._pairs)

    def __fork__(self, memo: Callable[[Any], Any]) -> Marginal:
        if self.frozen:
            return self
        fresh = copy.copy(self)
        for name in ("_entries", "frozen"):
            vars(fresh).pop(name, None)
        fresh._pairs = memo(self._pairs)
        fresh._in_order = fresh._by_number = fresh._offered = None
        return fresh

    def __state_key__(self) -> tuple[Any, ...]:
        about = self.name, self.occurrence, self.presence, self.complete, self.known, self.exact
        return *about, *self._pairs

    # --- what one asks of a distribution --------------------------------------------------------

    def log_prob(self, value: Any) -> float:
        """The natural logarithm of the probability of `value`; minus infinity if never seen."""
        p = self[value]
        return math.log(p) if p > 0.0 else -math.inf

    def bounds(self, value: Any) -> tuple[float, float]:
        """Lower and upper bound on the exact probability of `value`, seen or not.

        They are equal where the enumeration is complete. Otherwise they hold if no likelihood
        above 1 is met in what was left out: the unexplored rest weighs at most what its prefixes
        weigh, so at worst all of it, or nothing of it, is for `value`. Where such a likelihood was
        met already, the bounds are 0 and 1.
        """
        p = self[value]
        if self.complete:
            return p, p
        low = p * self.known
        return low, min(1.0, low + (1.0 - self.known))

    @property
    def mode(self) -> Any:
        """The most probable value; of several, the one that was found first."""
        return self._ordered()[0][0]

    @property
    def mean(self) -> Any:
        """The mean, given that the site occurs: a float for numbers, otherwise a tensor or array.

        Raises:
            TypeError: the values are no numbers.
        """
        return self._average(lambda x: x, "mean")

    @property
    def variance(self) -> Any:
        """The variance, given that the site occurs, element by element; see `mean`."""
        center = self.mean
        return self._average(lambda x: (x - center) ** 2, "variance")

    def _average(self, f: Any, what: str) -> Any:
        pairs = []
        for value, p in self._pairs:
            x = _arithmetic(value)
            if x is None:
                raise TypeError(
                    f"{self._title()} has no {what}: the value {showing.value(value)} is no "
                    f"number. Give numbers to the values with "
                    f"`posterior.expectation(lambda value: ...)`."
                )
            pairs.append((p / self.presence, f(x)))
        terms = [p * x for p, x in pairs]
        if all(isinstance(x, float) for x in terms):
            return math.fsum(terms)
        return sum(terms[1:], start=terms[0])

    def sample(self, n: int | None = None) -> Any:
        """One value, or a list of `n`, drawn with Python's `random`, given that the site occurs."""
        values = [value for value, _ in self._pairs]
        weights = [p for _, p in self._pairs]
        drawn = random.choices(values, weights, k=1 if n is None else n)
        return drawn[0] if n is None else drawn

    def to_torch(self) -> Empirical:
        """An `Empirical` distribution over the values as tensors, given that the site occurs.

        Raises:
            TypeError: the values are no numbers, or tensors of different shapes.
        """
        import torch

        from contpoutine.distributions.empirical import Empirical

        pairs = self._ordered()
        try:
            samples = torch.stack([torch.as_tensor(value) for value, _ in pairs])
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"{self._title()} cannot become tensors: its values are {self._listing()}, and "
                f"must be numbers, or tensors of one shape."
            ) from error
        probs = torch.tensor([p / self.presence for _, p in pairs], dtype=torch.float64)
        return Empirical(samples, probs.log())

    # --- how it looks ---------------------------------------------------------------------------

    def plot(self, ax: Any = None, *, limit: int = 30) -> Any:
        """A bar chart of the `limit` most probable values, on `ax` or on axes of its own.

        Numbers are drawn in their order, anything else by probability. Whiskers show the bounds of
        an incomplete enumeration. Gives the axes.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise MissingDependencyError(
                "Marginal.plot() needs matplotlib, which is not installed: "
                "`pip install matplotlib`. Without it, `print(marginal)` draws bars of text."
            ) from error
        pairs = self._ordered()[:limit]
        if all(_plain(value) is not None for value, _ in pairs):
            pairs = sorted(pairs, key=lambda pair: _plain(pair[0]))
        if ax is None:
            _, ax = pyplot.subplots(figsize=(min(12.0, 2.5 + 0.45 * len(pairs)), 3.2))
        places = range(len(pairs))
        heights = [p for _, p in pairs]
        ax.bar(places, heights, color="#4c72b0", width=0.8)
        if not self.complete:
            bounds = [self.bounds(value) for value, _ in pairs]
            whiskers = (
                [max(0.0, p - low) for p, (low, _) in zip(heights, bounds, strict=True)],
                [max(0.0, high - p) for p, (_, high) in zip(heights, bounds, strict=True)],
            )
            ax.errorbar(places, heights, yerr=whiskers, fmt="none", ecolor="#333333", capsize=3)
        labels = [_label(value) for value, _ in pairs]
        steep = max(map(len, labels), default=0) * len(labels) > 60
        turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if steep else {}
        ax.set_xticks(places, labels, **turn)
        left = len(self) - len(pairs)
        notes = [*self._warnings("whiskers"), *([f"{left} more values"] if left else [])]
        ax.set_xlabel("\n".join(textwrap.wrap("; ".join(notes), 50)), fontsize=8, color="#555555")
        ax.set_ylim(bottom=0.0)
        ax.set_ylabel("probability")
        ax.set_title(self._about(), fontsize=11)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        ax.figure.tight_layout()
        return ax

    def __repr__(self) -> str:
        head = [self._title(), *[f"  {line}" for line in self._warnings()]]
        rows = self._rows()
        lines = showing.columns([[what, *shown] for what, *shown in rows])
        return "\n".join([*head, *[f"  {line}" for line in lines], *self._rest()])

    def _repr_html_(self) -> str:
        top = max((p for _, p in self._ordered()[:1]), default=1.0) or 1.0
        rows = [
            (showing.value(value), self._shown(value, p), p / top)
            for value, p in self._ordered()[:_SHOWN]
        ]
        note = "; ".join([*self._warnings(), *[line.strip() for line in self._rest()]])
        return showing.html_table(self._title(), rows, note)

    def _title(self) -> str:
        return f"Marginal of {self._about()}"

    def _about(self) -> str:
        site = "the return value" if self.name is None else f"site {self.name!r}"
        return site if self.occurrence is None else f"{site}, occurrence {self.occurrence}"

    def _warnings(self, bounds: str = "brackets") -> list[str]:
        lines = []
        if not self.complete:
            lines.append(
                f"over the explored executions only ({showing.part(self.explored_mass)} of the "
                f"prior mass), " + (f"bounds in {bounds}" if self.known > 0.0 else "no bounds")
            )
            if self.known > 0.0:
                lines.append("the bounds hold if no likelihood above 1 is left")
        if not self.exact:
            lines.append("not exact: given the values that some sites drew at random")
        if self.presence < 1.0 - 1e-12:
            lines.append(f"the site occurs with probability {showing.number(self.presence)}")
        return lines

    def _rows(self) -> list[list[str]]:
        pairs = self._ordered()[:_SHOWN]
        top = max((p for _, p in pairs), default=1.0) or 1.0
        return [[showing.value(v), self._shown(v, p), showing.bar(p / top)] for v, p in pairs]

    def _shown(self, value: Any, p: float) -> str:
        if self.complete or self.known == 0.0:
            return showing.number(p)
        low, high = self.bounds(value)
        return f"{showing.number(p)} [{showing.number(low)}, {showing.number(high)}]"

    def _rest(self) -> list[str]:
        left = self._ordered()[_SHOWN:]
        if not left:
            return []
        mass = math.fsum([p for _, p in left])
        return [f"  and {len(left)} more values, {showing.number(mass)} together"]

    def _listing(self) -> str:
        shown = [showing.value(value) for value, _ in self._ordered()[:4]]
        return ", ".join(shown) + (", ..." if len(self) > 4 else "")


class JointMarginal(Marginal):
    """The distribution of several sites together, over tuples of their values.

    A tuple whose numbers are there in other types only finds the first entry that equals it.
    """

    @staticmethod
    def _key_of(value: Any) -> Hashable:
        return tuple(map(entry_key, value)) if isinstance(value, tuple) else entry_key(value)

    def _key(self, value: Any) -> Hashable:
        key = super()._key(value)
        if key is _NEVER_SEEN and isinstance(value, tuple):
            for known, (seen, _) in self._entries.items():
                if len(seen) == len(value) and all(map(_is_same, seen, value)):
                    return known
        return key

    def _about(self) -> str:
        return f"sites {self.name}"


def _is_same(seen: Any, asked: Any) -> bool:
    a, b = _plain(seen), _plain(asked)
    return entry_key(seen) == entry_key(asked) if a is None or b is None else bool(a == b)


def _plain(value: Any) -> Any:
    """The number that a number or a 0-dim tensor or array is; None for anything else."""
    if isinstance(value, int | float):
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        item = value.item()
        return item if isinstance(item, int | float) else None
    return None


def _arithmetic(value: Any) -> Any:
    """A value in a form that can be averaged: a float, a float64 tensor or an array."""
    number = _plain(value)
    if number is not None:
        return float(number)
    if is_tensor(value):
        return value.detach().double()
    if is_array(value) and value.dtype.kind in "biufc":
        return value.astype("float64" if value.dtype.kind != "c" else value.dtype)
    return None


def _label(value: Any) -> str:
    number = _plain(value)
    if number is not None:
        return str(number) if isinstance(number, bool) else f"{number:g}"
    if isinstance(value, str):
        return value
    return showing.value(value.tolist() if is_tensor(value) or is_array(value) else value)
