"""The posterior that an enumeration gives: the finished executions and their weights.

Every question is a sweep over the columns of the execution tree, and nothing walks a path from the
root for each execution. Weights are kept relative to the heaviest one, and sums that decide an
answer are exact (`math.fsum`).

A partial result, of an enumeration that a budget stopped, answers for the executions that it
finished: its probabilities are conditional on them, its `log_evidence` is a lower bound. It is
never passed off as the whole: every repr says how much of the prior mass was explored, and `bounds`
holds for the exact answer.
"""

from __future__ import annotations

import difflib
import heapq
import math
import operator
import random
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from contpoutine.core.native import native
from contpoutine.distributions.content import is_tensor
from contpoutine.distributions.exact import log_sum_exp
from contpoutine.errors import (
    AmbiguousSiteError,
    MissingDependencyError,
    UnknownSiteError,
    ZeroEvidenceError,
)
from contpoutine.infer import showing
from contpoutine.infer.marginal import Marginal, entry_key
from contpoutine.infer.tree import Tree

if TYPE_CHECKING:
    import pandas

_PLAIN_TYPES = frozenset({int, bool, float, str, bytes, type(None)})
_NUMBER_TYPES = frozenset({int, bool, float})
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Execution:
    """One finished execution.

    Attributes:
        value: what the model returned.
        choices: (site name, value) of each choice and deterministic site, first one first.
        probability: its posterior probability.
        log_weight: its joint log-weight, prior times likelihood.
    """

    value: Any
    choices: tuple[tuple[str, Any], ...]
    probability: float
    log_weight: float

    def __getitem__(self, site: str) -> Any:
        """The value of a site.

        Raises:
            UnknownSiteError: the site is not on this execution.
            AmbiguousSiteError: it is there more than once; look into `choices`.
        """
        found = [value for name, value in self.choices if name == site]
        if len(found) == 1:
            return found[0]
        if not found:
            known = dict.fromkeys(name for name, _ in self.choices)
            raise UnknownSiteError(_unknown(site, known, "this execution"))
        raise AmbiguousSiteError(
            f"site {site!r} occurs {len(found)} times in this execution, with the values "
            f"{found}; they are in `execution.choices`."
        )

    def __repr__(self) -> str:
        choices = ", ".join([f"{name}={showing.value(value)}" for name, value in self.choices])
        return (
            f"Execution({showing.value(self.value)}, probability "
            f"{showing.number(self.probability)}: {choices or 'no choices'})"
        )


class Posterior:
    """What an enumeration found out; `infer.enumerate(model)(*args)` makes it.

    Attributes:
        tree: the execution tree, in columns.
        complete: whether every execution was explored. If not, every answer is about the explored
            executions only, and conditional on them.
        exact: False where some site was drawn at random instead of enumerated. Every answer, bounds
            included, is then one given what was drawn, and another run gives another.
        explored_mass: the prior probability of the executions that were finished, or given up at
            weight zero.
        frontier_mass: the prior probability of what was left out.
        branches: how many choice-value edges were followed.
        notes: what a reader should know, such as why a capture fell back on replay.

    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> def burglar():
    ...     alarm_cause = yield cp.sample("cause", dist.Finite({"cat": 0.5, "wind": 0.5}))
    ...     yield cp.observe("alarm", dist.Flip(0.75 if alarm_cause == "cat" else 0.25), True)
    ...     return alarm_cause
    >>> posterior = cp.infer.enumerate(burglar)()
    >>> round(posterior.marginal("cause")["cat"], 4)
    0.75
    """

    def __init__(
        self,
        tree: Tree,
        *,
        complete: bool,
        explored_mass: float,
        frontier_log_priors: Sequence[float],
        frontier_log_weights: Sequence[float],
        likelihood_bounded: bool,
        branches: int,
        notes: Sequence[str] = (),
        exact: bool = True,
    ) -> None:
        self.tree, self.complete, self.branches = tree, complete, branches
        self.exact = exact
        self.explored_mass = explored_mass
        self.frontier_mass = math.fsum([math.exp(x) for x in frontier_log_priors])
        self.notes = tuple(notes)
        self._frontier_log_weight = log_sum_exp(frontier_log_weights)
        self._likelihood_bounded = likelihood_bounded
        self._top = max(tree.leaf_log_weights, default=-math.inf)

    # --- evidence -------------------------------------------------------------------------------

    @property
    def executions(self) -> int:
        """How many executions were finished."""
        return len(self.tree.leaf_nodes)

    @cached_property
    def log_evidence(self) -> float:
        """The natural logarithm of the probability of what was observed.

        Of a partial result: of the part that was explored, which is a lower bound. Minus infinity
        where no execution has a positive weight.
        """
        if self._top == -math.inf:
            return -math.inf
        return self._top + math.log(self._total) + 0.0  # which makes 0.0 of -0.0

    @property
    def log_evidence_bounds(self) -> tuple[float, float]:
        """Lower and upper bound on the exact log-evidence; equal if `complete`.

        The upper bound holds if no likelihood above 1 is met in what was left out. It is plus
        infinity where one was met already.
        """
        low = self.log_evidence
        if self.complete:
            return low, low
        if not self._likelihood_bounded:
            return low, math.inf
        return low, log_sum_exp([low, self._frontier_log_weight])

    @cached_property
    def _known(self) -> float:
        """A lower bound on the share of the evidence that was explored."""
        low, high = self.log_evidence_bounds
        return 1.0 if low == high else math.exp(low - high)

    # --- questions ------------------------------------------------------------------------------

    def marginal(self, site: str | None = None, occurrence: int | None = None) -> Marginal:
        """The posterior distribution of a site's value, or of the return value.

        A site that occurs on some executions only has probabilities that add up to the
        probability that it occurs, which is the marginal's `presence`.

        Args:
            site: the name of an unobserved or deterministic site; None for the return value.
            occurrence: for a site that one execution visits more than once, which visit: 0 is the
                first, -1 the last.

        Raises:
            UnknownSiteError: no explored execution has that site.
            AmbiguousSiteError: one execution has it more than once, and no occurrence is given.
            ZeroEvidenceError: no execution has a positive weight.
            TypeError: `site` is no name, or `occurrence` no whole number.
        """
        occurrence = _check_question(site, occurrence)
        self._need_evidence("a marginal")
        if site is None:
            groups: Iterable[tuple[Any, float]] = self._by_return_value()
        else:
            groups = self._site_groups(site, occurrence)
        total = self._total
        pairs = [(value, mass / total) for value, mass in groups]
        presence = 1.0 if site is None else min(1.0, math.fsum([p for _, p in pairs]))
        return Marginal(
            pairs,
            name=site,
            occurrence=occurrence,
            presence=presence,
            complete=self.complete,
            explored_mass=self.explored_mass,
            known=self._known,
            exact=self.exact,
        )

    def bounds(
        self, site: str | None = None, occurrence: int | None = None
    ) -> list[tuple[Any, float, float]]:
        """(value, lower bound, upper bound) for each value that was seen, most probable first.

        `marginal(site).bounds(value)` gives those of one value, also of one that was never seen,
        and says when they hold.
        """
        marginal = self.marginal(site, occurrence)
        return [(value, *marginal.bounds(value)) for value in marginal]

    def expectation(self, f: Callable[[Any], Any]) -> Any:
        """The posterior mean of `f(value)`, where `value` is what the model returned.

        `f` is called once for each distinct value, and gives a number (or a truth value, for a
        probability), a tensor or an array.

        Raises:
            ZeroEvidenceError: no execution has a positive weight.
            TypeError: `f` cannot be called.
        """
        _check_function(f)
        terms = [p * f(value) for value, p in self.marginal()._pairs]
        if all(isinstance(x, int | float) for x in terms):
            return math.fsum(terms)
        return sum(terms[1:], start=terms[0])

    def sample(self, n: int | None = None) -> Any:
        """One execution, or a list of `n`, drawn from the posterior with Python's `random`.

        `posterior.marginal().sample(n)` draws return values only.
        """
        self._need_evidence("a sample")
        leaves = range(self.executions)
        drawn = random.choices(leaves, self._weights, k=1 if n is None else n)
        return self._execution(drawn[0]) if n is None else [self._execution(i) for i in drawn]

    def most_probable(self, n: int = 1) -> list[Execution]:
        """The `n` executions of the highest posterior probability, highest first."""
        self._need_evidence("the most probable execution")
        weights = self.tree.leaf_log_weights
        best = heapq.nlargest(n, range(len(weights)), key=weights.__getitem__)
        return [self._execution(i) for i in best]

    def to_dataframe(self) -> pandas.DataFrame:
        """One row an execution, as a pandas DataFrame.

        A column for each site, None where it does not occur, then `value`, `log_weight` and
        `probability`. A 0-dim tensor becomes the number that it holds. A site that some execution
        visits more than once has a column for each visit, `x#0`, `x#1`, ..., with the number that
        `marginal("x", occurrence=...)` takes.

        Raises:
            MissingDependencyError: pandas is not installed.
            ZeroEvidenceError: no execution has a positive weight.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingDependencyError(
                "Posterior.to_dataframe() needs pandas, which is not installed: "
                "`pip install pandas`. Without it, `posterior.most_probable(n)` lists executions."
            ) from error
        self._need_evidence("a table of probabilities")
        rows = [self.tree.path(node) for node in self.tree.leaf_nodes]
        table = _site_columns(rows)
        for name, column in (
            ("value", list(self.tree.leaf_values)),
            ("log_weight", list(self.tree.leaf_log_weights)),
            ("probability", [w / self._total for w in self._weights]),
        ):
            while name in table:  # a site of that name keeps it
                name += "_"
            table[name] = column
        return pandas.DataFrame({name: _objects(pandas, col) for name, col in table.items()})

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites that some execution chose a value for, or named a value of."""
        return tuple(dict.fromkeys(self.tree.site_names))

    # --- the sweeps -----------------------------------------------------------------------------

    @cached_property
    def _weights(self) -> list[float]:
        """Weights of the executions, relative to the heaviest."""
        top, exp = self._top, math.exp
        if top == -math.inf:
            return [0.0] * self.executions
        return [exp(x - top) for x in self.tree.leaf_log_weights]

    @cached_property
    def _tally(self) -> tuple[list[tuple[Any, float]] | None, float] | None:
        """The return values with their weights, and the total, where C has made the columns."""
        weights = self.tree.leaf_log_weights
        if native is None or not isinstance(weights, array) or self._top == -math.inf:
            return None
        counted: tuple[list[tuple[Any, float]] | None, float] = native.tally(
            self.tree.leaf_values, weights, self._top
        )
        return counted

    @cached_property
    def _total(self) -> float:
        return math.fsum(self._weights) if self._tally is None else self._tally[1]

    def _by_return_value(self) -> Iterable[tuple[Any, float]]:
        if self._tally is not None and self._tally[0] is not None:
            return self._tally[0]
        return _grouped(self.tree.leaf_values, self._weights)

    @cached_property
    def _mass(self) -> list[float]:
        """For each node, the weight of the executions below it."""
        parents = self.tree.parents
        mass = [0.0] * len(parents)
        for node, weight in zip(self.tree.leaf_nodes, self._weights, strict=True):
            mass[node] += weight
        for node in range(len(parents) - 1, 0, -1):
            mass[parents[node]] += mass[node]
        return mass

    @cached_property
    def _nodes_of(self) -> dict[str, list[int]]:
        """For each site, its nodes that lead to an execution of positive weight."""
        nodes: defaultdict[str, list[int]] = defaultdict(list)
        names, mass = self.tree.site_names, self._mass
        for node, visit in enumerate(self.tree.visits):
            if visit >= 0 and mass[node] > 0.0:
                nodes[names[visit]].append(node)
        return nodes

    def _site_groups(self, site: str, occurrence: int | None) -> Iterable[tuple[Any, float]]:
        nodes = self._nodes_of.get(site)
        if nodes is None:
            raise UnknownSiteError(_unknown(site, self.sites, "any explored execution"))
        picked, masses = nodes, [self._mass[node] for node in nodes]
        if occurrence is not None or self._repeats(nodes):
            last, count = self._visits_on_path(nodes)
            most = max([count[node] for node in nodes])
            if occurrence is None:
                raise AmbiguousSiteError(_ambiguous(site, most))
            if occurrence >= 0:
                picked = [node for node in nodes if count[node] == occurrence + 1]
                masses = [self._mass[node] for node in picked]
            else:
                picked, masses = self._from_the_end(last, -occurrence)
            if not picked:
                raise UnknownSiteError(
                    f"site {site!r} occurs at most {most} times in one execution, so it has no "
                    f"occurrence {occurrence}."
                )
        visits, picks, values = self.tree.visits, self.tree.picks, self.tree.site_values
        return _grouped([values[visits[node]][picks[node]] for node in picked], masses)

    def _repeats(self, nodes: list[int]) -> bool:
        """Whether one of `nodes` lies below another."""
        parents = self.tree.parents
        inside = bytearray(len(parents))
        mine = bytearray(len(parents))
        for node in nodes:
            mine[node] = 1
        for node in range(nodes[0], len(parents)):
            if inside[parents[node]]:
                if mine[node]:
                    return True
                inside[node] = 1
            elif mine[node]:
                inside[node] = 1
        return False

    def _visits_on_path(self, nodes: list[int]) -> tuple[list[int], list[int]]:
        """For each tree node, the last of `nodes` on the path to it, and how many there are.

        0 stands for none, since the root is no choice.
        """
        parents = self.tree.parents
        last = [0] * len(parents)
        count = [0] * len(parents)
        mine = bytearray(len(parents))
        for node in nodes:
            mine[node] = 1
        for node in range(1, len(parents)):
            parent = parents[node]
            if mine[node]:
                last[node] = node
                count[node] = count[parent] + 1
            else:
                last[node] = last[parent]
                count[node] = count[parent]
        return last, count

    def _from_the_end(self, last: list[int], back: int) -> tuple[list[int], list[float]]:
        """The site's nodes that are the `back`-th last of an execution, and those weights."""
        parents = self.tree.parents
        masses: defaultdict[int, float] = defaultdict(float)
        for leaf, weight in zip(self.tree.leaf_nodes, self._weights, strict=True):
            node = last[leaf]
            for _ in range(back - 1):
                node = last[parents[node]] if node else 0
            if node and weight > 0.0:
                masses[node] += weight
        return list(masses), list(masses.values())

    def _execution(self, leaf: int) -> Execution:
        tree = self.tree
        return Execution(
            tree.leaf_values[leaf],
            tuple(tree.path(tree.leaf_nodes[leaf])),
            self._weights[leaf] / self._total,
            tree.leaf_log_weights[leaf],
        )

    def _need_evidence(self, what: str) -> None:
        if self._top > -math.inf:
            return
        if self.complete:
            why = (
                "every execution of the model has weight zero: no choice of values agrees with "
                "what is observed. Look for an observation or a factor that is impossible on "
                "every path"
            )
        else:
            why = (
                f"no execution of positive weight was finished within the budget "
                f"({self._explored} of the prior mass was explored). Give "
                f'it a larger budget, or `order="likely_first"`'
            )
        raise ZeroEvidenceError(f"there is no posterior to take {what} from: {why}.")

    # --- how it looks ---------------------------------------------------------------------------

    def _summary(self) -> list[tuple[str, str]]:
        lines = []
        if not self.complete:
            lines.append(
                (
                    "partial",
                    f"{self._explored} of the prior mass explored, {self._left_out} left out; "
                    f"answers are about the explored executions only",
                )
            )
        evidence = showing.log_number(self.log_evidence)
        if not self.complete:
            high = self.log_evidence_bounds[1]
            limit = (
                f"at most {showing.log_number(high)} in all, if no likelihood above 1 is left"
                if high < math.inf
                else "no upper bound"
            )
            evidence += f" explored, {limit}"
        lines.append(("log evidence", evidence))
        if self.sites:
            lines.append(("sites", _some(_without_elements(self.sites), 8)))
        lines.extend([("note", note) for note in self.notes])
        return lines

    @property
    def _explored(self) -> str:
        none = self.explored_mass == 0.0 and not self.executions
        return "0%" if none else showing.part(self.explored_mass)

    @property
    def _left_out(self) -> str:
        return "100%" if self._explored == "0%" else showing.part(self.frontier_mass)

    @property
    def _nothing(self) -> str:
        """Why there is no table of return values."""
        if self.complete:
            return "every execution has weight zero"
        if self.executions:
            return "every execution that was finished has weight zero"
        return "no execution was finished"

    def _title(self) -> str:
        kinds = [*([] if self.complete else ["partial"]), *([] if self.exact else ["not exact"])]
        kind = ", ".join(kinds) or "exact"
        return (
            f"Posterior ({kind}): {_count(self.executions, 'execution')}, "
            f"{_count(self.branches, 'branch', 'branches')}"
        )

    def __repr__(self) -> str:
        rows = [[f"  {what}", shown] for what, shown in self._summary()]
        lines = [self._title(), *showing.columns(rows)]
        if self._top > -math.inf:
            marginal = self.marginal()
            bounds = not self.complete and marginal.known > 0.0
            lines.append(f"  return value{', bounds on the same condition' if bounds else ''}")
            lines += [f"    {line}" for line in showing.columns(marginal._rows()[:_SHOWN])]
            more = len(marginal) - _SHOWN
            lines += [f"    and {_count(more, 'more value')}"] if more > 0 else []
        else:
            lines.append(f"  {self._nothing}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        import html

        cell = "<tr><td><b>{}</b></td><td style='text-align:left'>{}</td></tr>"
        rows = [cell.format(html.escape(a), html.escape(b)) for a, b in self._summary()]
        table = f"<p>{html.escape(self._title())}</p><table>{''.join(rows)}</table>"
        if self._top == -math.inf:
            return table + f"<p>{self._nothing}</p>"
        return table + self.marginal()._repr_html_()


def _grouped(values: Sequence[Any], weights: Sequence[float]) -> list[tuple[Any, float]]:
    """Each distinct value with its total weight, in the order of first appearance."""
    groups: defaultdict[Hashable, list[float]] = defaultdict(list)
    kinds = set(map(type, values))
    own_keys = kinds <= _PLAIN_TYPES and len(kinds & _NUMBER_TYPES) <= 1
    if own_keys and not (float in kinds and any(map(operator.ne, values, values))):
        for value, weight in zip(values, weights, strict=True):
            groups[value].append(weight)
        return [(value, mass) for value, mass in _sums(groups) if mass > 0.0]
    first: dict[Hashable, Any] = {}
    keys: dict[int, Hashable] = {}  # by identity: `values` holds every object alive meanwhile
    for value, weight in zip(values, weights, strict=True):
        key = keys.get(id(value))
        if key is None:
            key = keys[id(value)] = entry_key(value)
            first.setdefault(key, value)
        groups[key].append(weight)
    return [(first[key], mass) for key, mass in _sums(groups) if mass > 0.0]


def _sums(groups: dict[Hashable, list[float]]) -> Iterable[tuple[Hashable, float]]:
    for key, weights in groups.items():
        yield key, math.fsum(weights)


def _site_columns(rows: list[list[tuple[str, Any]]]) -> dict[str, list[Any]]:
    """Columns by site name; a site that repeats in some row gets a numbered column a visit."""
    repeated: set[str] = set()
    for row in rows:
        if len({name for name, _ in row}) < len(row):
            repeated.update([name for name, n in Counter(n for n, _ in row).items() if n > 1])
    columns: defaultdict[str, list[Any]] = defaultdict(lambda: [None] * len(rows))
    for i, row in enumerate(rows):
        seen: Counter[str] = Counter()
        for name, value in row:
            if name in repeated:
                seen[name] += 1
                name = f"{name}#{seen[name] - 1}"
            columns[name][i] = value
    return columns


def _objects(pandas: Any, column: list[Any]) -> Any:
    """A column that keeps its objects: pandas would take tensors and lists apart."""
    column = [x.item() if is_tensor(x) and x.dim() == 0 else x for x in column]
    kinds = set(map(type, column))
    if len(kinds) == 1 and kinds <= {int, float, bool, str}:
        return pandas.Series(column)
    series = pandas.Series([None] * len(column), dtype=object)
    for i, value in enumerate(column):
        series.iat[i] = value
    return series


def _check_question(site: Any, occurrence: Any) -> int | None:
    """The occurrence as an int. Raises `TypeError` where the two ask for no one thing."""
    if site is not None and not isinstance(site, str):
        raise TypeError(
            f"marginal takes the name of one site, not {site!r}. For several sites together, let "
            f'the model return them (`return a, b`) and ask for `marginal()`; `marginal("a")` is '
            f"that of one."
        )
    if occurrence is None:
        return None
    if site is None:
        raise TypeError("occurrence is for a site: `marginal('x', occurrence=0)`")
    try:
        return operator.index(occurrence)
    except TypeError:
        raise TypeError(
            f'occurrence says which visit of one site is meant, `marginal("x", occurrence=0)`, '
            f"and is a whole number, not {occurrence!r}. For several sites together, let the model "
            f"return them (`return a, b`) and ask for `marginal()`."
        ) from None


def _check_function(f: Any) -> None:
    if callable(f):
        return
    advice = f"marginal({f!r}).mean" if isinstance(f, str) else "marginal(site).mean"
    raise TypeError(
        f"expectation takes a function of what the model returned, such as "
        f"`expectation(lambda value: value ** 2)`, not {f!r}. The mean of a site is `{advice}`."
    )


def _ambiguous(site: str, most: int) -> str:
    return (
        f"site {site!r} occurs up to {most} times in one execution, so it has no one marginal. Ask "
        f"for one visit, `marginal({site!r}, occurrence=0)` for the first or -1 for the last; or "
        f'give the sites different names in the model, such as f"{site}{{i}}".'
    )


def _unknown(site: str, known: Iterable[str], where: str) -> str:
    names = list(known)
    near = difflib.get_close_matches(str(site), names, n=1)
    advice = f" Did you mean {near[0]!r}?" if near else ""
    listing = f" The sites are {_some(names, 10)}." if names else " It has no choices at all."
    return (
        f"site {site!r} does not occur in {where}.{advice}{listing} An observed site has one "
        f"value only, and is not among them."
    )


def _without_elements(names: Sequence[str]) -> list[str]:
    """The names, without `x[0]`, `x[1]`, ... where the batched site `x` is there itself."""
    known = set(names)
    return [n for n in names if (m := re.fullmatch(r"(.+)\[\d+\]", n)) is None or m[1] not in known]


def _some(names: Sequence[str], limit: int) -> str:
    more = f", ... ({len(names)} sites)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"
