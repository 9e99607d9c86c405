"""The posterior that an enumeration gives, and every question that it answers.

What was explored is an execution tree or, where equal states were merged, a state graph. The
questions are the same, and so are the answers; how they are computed is `infer.tree_answers` and
`infer.graph_answers`.

A partial result, of an enumeration that a budget stopped, answers for the executions that it
finished: its probabilities are conditional on them, its `log_evidence` is a lower bound. It is
never passed off as the whole: every repr says how much of the prior mass was explored, and `bounds`
holds for the exact answer.
"""

from __future__ import annotations

import math
import operator
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from contpoutine.distributions.content import is_tensor
from contpoutine.distributions.exact import log_sum_exp
from contpoutine.errors import MissingDependencyError, ZeroEvidenceError
from contpoutine.infer import showing
from contpoutine.infer.answers import Answers, grouped_tuples
from contpoutine.infer.cycles import Limit
from contpoutine.infer.execution import Execution, some
from contpoutine.infer.graph_answers import GraphAnswers
from contpoutine.infer.marginal import JointMarginal, Marginal
from contpoutine.infer.nested import is_frozen
from contpoutine.infer.state_graph import StateGraph
from contpoutine.infer.tree import Tree
from contpoutine.infer.tree_answers import TreeAnswers

if TYPE_CHECKING:
    import pandas
    import torch

_SHOWN = 5
_LARGEST = 10**15  # of the numbers that are written out


class Posterior:
    """What an enumeration found out; `infer.enumerate(model)(*args)` makes it.

    Attributes:
        complete: whether every execution was explored. If not, every answer is about the explored
            executions only, and conditional on them.
        exact: False where some site was drawn at random instead of enumerated. Every answer, bounds
            included, is then one given what was drawn, and another run gives another.
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

    _search: Any = None  # what `infer.refine` goes on with

    def __init__(
        self,
        explored: Tree | StateGraph,
        *,
        complete: bool,
        explored_mass: float | None = None,
        frontier_log_priors: Sequence[float] = (),
        frontier_log_weights: Sequence[float] = (),
        likelihood_bounded: bool,
        branches: int,
        notes: Sequence[str] = (),
        exact: bool = True,
        tolerance: float = 1e-12,
    ) -> None:
        """Made by `infer.enumerate`.

        Args:
            explored: what was explored. A graph knows its frontier itself, so that the next three
                are for a tree.
            explored_mass: the prior mass of the executions that were finished or given up.
            frontier_log_priors: the log-prior of each execution that was left out.
            frontier_log_weights: its log-weight.
            likelihood_bounded: whether no likelihood above 1 was met.
            tolerance: how well sums over loops are solved.
        """
        self._graph = self._tree = None
        if isinstance(explored, StateGraph):
            self._graph = explored
            self._answers: Answers = GraphAnswers(explored, tolerance)
        else:
            self._tree = explored
            self._answers = TreeAnswers(explored)
        self.complete, self.branches = complete, branches
        self.exact = exact
        self.notes = tuple(notes)
        self._explored_mass = explored_mass
        self._frontier = frontier_log_priors, frontier_log_weights
        self._likelihood_bounded = likelihood_bounded

    def __getstate__(self) -> dict[str, Any]:
        """Everything but an unfinished search, which holds suspended executions."""
        return {key: value for key, value in self.__dict__.items() if key != "_search"}

    # --- in a model that forks: the answer to a query inside of it ------------------------------

    @cached_property
    def frozen(self) -> bool:
        """Whether nothing in it can be changed: then branches of a model share it."""
        if self._search is not None:
            return False  # it can go on
        if self._tree is not None:
            offered = [value for values in self._tree.site_values for value in values]
            return all(map(is_frozen, offered)) and all(map(is_frozen, self._tree.leaf_values))
        return all(map(is_frozen, (*self.graph.value, *self.graph.outcome)))

    @cached_property
    def _token(self) -> object:
        return object()  # what a state key knows it by

    def __fork__(self, memo: Callable[[Any], Any]) -> Posterior:
        if self.frozen:
            return self
        fresh = Posterior.__new__(Posterior)
        vars(fresh).update(memo(dict(vars(self))))
        return fresh

    def __state_key__(self) -> tuple[Any, ...]:
        return (self._token,) if self.frozen else tuple(vars(self).items())

    # --- what was explored ----------------------------------------------------------------------

    @property
    def tree(self) -> Tree:
        """The execution tree, in columns; of an enumeration without merging."""
        if self._tree is None:
            raise AttributeError(
                "equal states were merged: there is no tree, but `posterior.graph`"
            )
        return self._tree

    @property
    def graph(self) -> StateGraph:
        """The state graph, in columns; of an enumeration with merging."""
        if self._graph is None:
            raise AttributeError(
                "states were not merged, so there is no graph, but `posterior.tree`; "
                "`infer.enumerate(model, merge=True)` makes one"
            )
        return self._graph

    @property
    def limit(self) -> Limit | None:
        """Where a program loops or calls itself without bound: how well its sums are solved.

        None where nothing does, and every sum has finitely many terms.
        """
        answers = self._answers
        return answers.sums.limit if isinstance(answers, GraphAnswers) else None

    @property
    def executions(self) -> float:
        """How many executions were finished; infinity where a program loops without bound."""
        return self._answers.executions

    @property
    def explored_mass(self) -> float:
        """The prior probability of the executions that ended, or were given up at weight zero."""
        if isinstance(self._answers, GraphAnswers):
            if self.complete and self.limit is None:
                return 1.0
            return min(1.0, self._answers.sums.mass.explored)
        return 0.0 if self._explored_mass is None else self._explored_mass

    @cached_property
    def frontier_mass(self) -> float:
        """The prior probability of what was left out."""
        if isinstance(self._answers, GraphAnswers):
            return 0.0 if self.complete else self._answers.sums.mass.frontier
        return math.fsum([math.exp(x) for x in self._frontier[0]])

    @property
    def endless_mass(self) -> float:
        """The prior probability of executions that never come to an end. They weigh nothing.

        It is known where loops are explored as such, that is, where equal states are merged.
        """
        if not isinstance(self._answers, GraphAnswers) or self.limit is None:
            return 0.0
        return self._answers.sums.mass.lost

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites that some execution chose a value for, or named a value of."""
        return self._answers.sites

    # --- evidence -------------------------------------------------------------------------------

    @property
    def log_evidence(self) -> float:
        """The natural logarithm of the probability of what was observed.

        Of a partial result: of the part that was explored, which is a lower bound. Minus infinity
        where no execution has a positive weight.
        """
        return self._answers.log_evidence

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
    def _frontier_log_weight(self) -> float:
        if isinstance(self._answers, GraphAnswers):
            return self._answers.sums.frontier_log_weight
        return log_sum_exp(self._frontier[1])

    @cached_property
    def _known(self) -> float:
        """A lower bound on the share of the evidence that was explored."""
        low, high = self.log_evidence_bounds
        return 1.0 if low == high else math.exp(low - high)

    def log_evidence_tensor(self) -> torch.Tensor:
        """The log-evidence as a tensor that gradients flow through.

        A 0-dim float64 tensor, of a graph whose weights hold tensors that require gradients: those
        of probabilities, logits and other parameters. It can be differentiated once.

        Raises:
            TypeError: states were not merged; write `infer.enumerate(model, merge=True)`.
            ZeroEvidenceError: no execution has a positive weight.
        """
        if not isinstance(self._answers, GraphAnswers):
            raise TypeError(
                "gradients are computed on the state graph, and states were not merged: write "
                "infer.enumerate(model, merge=True)"
            )
        self._need_evidence("a gradient")
        from contpoutine.infer.gradient import differentiable

        return differentiable(self.log_evidence, self._answers.tensors())

    @property
    def entropy(self) -> float:
        """The entropy of the posterior over executions, in nats.

        Raises:
            ZeroEvidenceError: no execution has a positive weight.
        """
        self._need_evidence("an entropy")
        return self._answers.entropy

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
            groups = self._answers.returned()
        else:
            groups = self._answers.visited(site, occurrence)
        total = self._answers.total
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

    def joint(self, *sites: str | tuple[str, int]) -> Marginal:
        """The posterior distribution of several sites together, over tuples of their values.

        It is about the executions that visit all of them, and its `presence` is their probability.

        Args:
            sites: the name of each, or `(name, occurrence)` for a site that one execution visits
                more than once.

        Raises:
            UnknownSiteError: no explored execution has that site.
            AmbiguousSiteError: one execution has it more than once, and no occurrence is given.
            ZeroEvidenceError: no execution has a positive weight.
            TypeError: no sites are named, or not by names.

        >>> import contpoutine as cp
        >>> import contpoutine.distributions as dist
        >>> def two():
        ...     a = yield cp.sample("a", dist.Flip(0.5))
        ...     b = yield cp.sample("b", dist.Flip(0.9 if a else 0.1))
        >>> round(cp.infer.enumerate(two)().joint("a", "b")[True, False], 3)
        0.05
        """
        asked = [_check_site(site) for site in sites]
        if not asked:
            raise TypeError('joint takes the names of sites: `joint("a", "b")`')
        self._need_evidence("a marginal")
        groups = grouped_tuples(self._answers.together(asked))
        total = self._answers.total
        return JointMarginal(
            [(values, mass / total) for values, mass in groups],
            name=", ".join([_shown_site(*site) for site in asked]),
            presence=min(1.0, math.fsum([mass / total for _, mass in groups])),
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
        drawn = self._answers.draw(1 if n is None else n)
        return drawn[0] if n is None else drawn

    def most_probable(self, n: int = 1) -> list[Execution]:
        """The `n` executions of the highest posterior probability, highest first."""
        self._need_evidence("the most probable execution")
        return self._answers.heaviest(n)

    def to_dataframe(self) -> pandas.DataFrame:
        """One row an execution, as a pandas DataFrame.

        A column for each site, None where it does not occur, then `value`, `log_weight` and
        `probability`. A 0-dim tensor becomes the number that it holds. A site that some execution
        visits more than once has a column for each visit, `x#0`, `x#1`, ..., with the number that
        `marginal("x", occurrence=...)` takes.

        Raises:
            MissingDependencyError: pandas is not installed.
            ZeroEvidenceError: no execution has a positive weight.
            ValueError: there are more than a million executions.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingDependencyError(
                "Posterior.to_dataframe() needs pandas, which is not installed: "
                "`pip install pandas`. Without it, `posterior.most_probable(n)` lists executions."
            ) from error
        self._need_evidence("a table of probabilities")
        executions = self._answers.all()
        table = _site_columns([list(execution.choices) for execution in executions])
        for name, column in (
            ("value", [execution.value for execution in executions]),
            ("log_weight", [execution.log_weight for execution in executions]),
            ("probability", [execution.probability for execution in executions]),
        ):
            while name in table:  # a site of that name keeps it
                name += "_"
            table[name] = column
        return pandas.DataFrame({name: _objects(pandas, col) for name, col in table.items()})

    def _need_evidence(self, what: str) -> None:
        if self.log_evidence > -math.inf:
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
            lines.append(("sites", some(_without_elements(self.sites), 8)))
        solved = self.limit
        if solved is not None:
            lines.append(("limit", f"of endless sums, known to about {solved.error:.1g} of itself"))
        if self.endless_mass > 0.0:
            share = showing.percent(self.endless_mass)
            lines.append(("endless", f"{share} of the prior mass never comes to an end"))
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
        kind = ", ".join(kinds) or ("exact" if self.limit is None else "exact in the limit")
        states = "" if self._graph is None else f" in {_count(len(self._graph), 'state')}"
        return (
            f"Posterior ({kind}): {_count(self.executions, 'execution')}{states}, "
            f"{_count(self.branches, 'branch', 'branches')}"
        )

    def __repr__(self) -> str:
        rows = [[f"  {what}", shown] for what, shown in self._summary()]
        lines = [self._title(), *showing.columns(rows)]
        if self.log_evidence > -math.inf:
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
        if self.log_evidence == -math.inf:
            return table + f"<p>{self._nothing}</p>"
        return table + self.marginal()._repr_html_()


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
            f"marginal takes the name of one site, not {site!r}. For several sites together ask "
            f'for `joint("a", "b")`; `marginal("a")` is that of one.'
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
            f"and is a whole number, not {occurrence!r}. For several sites together ask for "
            f'`joint("a", "b")`.'
        ) from None


def _check_site(site: Any) -> tuple[str, int | None]:
    """A site that is asked for together with others: its name and which visit."""
    name, occurrence = site if isinstance(site, tuple) and len(site) == 2 else (site, None)
    if not isinstance(name, str):
        raise TypeError(
            f'joint takes the names of sites, `joint("a", "b")`, or `("a", 0)` for one visit of a '
            f"site, not {site!r}"
        )
    return name, _check_question(name, occurrence)


def _shown_site(name: str, occurrence: int | None) -> str:
    return name if occurrence is None else f"{name}#{occurrence}"


def _check_function(f: Any) -> None:
    if callable(f):
        return
    advice = f"marginal({f!r}).mean" if isinstance(f, str) else "marginal(site).mean"
    raise TypeError(
        f"expectation takes a function of what the model returned, such as "
        f"`expectation(lambda value: value ** 2)`, not {f!r}. The mean of a site is `{advice}`."
    )


def _without_elements(names: Sequence[str]) -> list[str]:
    """The names, without `x[0]`, `x[1]`, ... where the batched site `x` is there itself."""
    known = set(names)
    return [n for n in names if (m := re.fullmatch(r"(.+)\[\d+\]", n)) is None or m[1] not in known]


def _count(n: float, one: str, many: str | None = None) -> str:
    what = one if n == 1 else many or one + "s"
    if n == math.inf:
        return f"endlessly many {what}"
    if n > _LARGEST:
        return f"about 10^{math.log10(n):.0f} {what}"
    return f"{n:,} {what}"
