"""`assert_fork_law`: is a resumption what a run from the start would be?

The design's law: resuming a captured continuation with an answer behaves exactly as if the model
had been run again from its start, given the answers up to the capture and then that one, whatever
other resumptions did before, in whatever order. The check holds a model against it by brute force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, product
from typing import Any

from contpoutine.core.capture import STRATEGIES, STRATEGY
from contpoutine.core.model import describe
from contpoutine.core.native import native
from contpoutine.distributions.choices import ElementChoices, choices
from contpoutine.errors import CaptureError
from contpoutine.testing.reference import Outcome, Questions, Reference
from contpoutine.testing.resumption import Order, Path, Step, explore, in_orders

MOST_ELEMENTS = 64  # answers that are tried of a batched site


def support(msg: Any) -> tuple[Any, ...]:
    """The values that a `sample` site can take, those of probability zero left out."""
    offered = choices(msg["fn"], msg["name"])
    if isinstance(offered, ElementChoices):
        columns = [element.values for element in offered.elements]
        return tuple(offered.assemble(row) for row in islice(product(*columns), MOST_ELEMENTS))
    weighed = zip(offered.values, offered.log_probs, strict=True)
    return tuple(value for value, log_prob in weighed if log_prob > float("-inf"))


def arguments(msg: Any) -> tuple[Any, ...]:
    return tuple(msg["args"])


def assert_fork_law(
    model: Callable[..., Any],
    *args: Any,
    effect: str = "sample",
    answers: Callable[[Any], Iterable[Any]] | None = None,
    throws: Sequence[type[BaseException]] = (),
    capture: str | Sequence[str] = ("auto", "replay"),
    orders: int = 4,
    times: int = 2,
    max_resumptions: int = 2000,
) -> dict[Path, Outcome]:
    """Check that every continuation of a model, resumed again and again, keeps the law.

    The model is run once under a handler that keeps the continuation of each site. Each of them is
    resumed with every answer, several times, in several orders, by clones and by replay; each
    outcome (what is returned or raised, or the next question) must be the one of a run from the
    start with the same answers, aliases included, and must still be the same at the end, when every
    other branch has run. Use it on a model of your own whose objects you are not sure about.

    Args:
        model: a generator model. It must be deterministic given its answers, and change nothing
            that it did not make itself.
        args: its arguments, shared by all runs.
        effect: the type of the sites that are answered. Others get their default.
        answers: message -> the answers to try. Left out: the support of a `sample` site, or the
            arguments of a site of another type. Answers should be plain values or tensors.
        throws: exception classes; each site is also answered by raising each of them.
        capture: the strategies to check, of "auto", "clone" and "replay".
        orders: how many orders of resumption are tried.
        times: how often each continuation near the root is resumed with the same answer.
        max_resumptions: where to stop in each order. A model with more branches, or with endlessly
            many, is checked on those that come first.

    Returns:
        The runs from the start that ended: places of the answers -> outcome.

    Raises:
        AssertionError: the law does not hold, or the model breaks its contract. The message says on
            which answers, and what differs.

    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> def model(n):
    ...     seen = []
    ...     for i in range(n):
    ...         seen.append((yield cp.sample("x", dist.Flip(0.5))))
    ...     return seen
    >>> len(assert_fork_law(model, 3))
    8
    """
    names = _strategies(capture)
    reference = Reference(model, args, _questions(effect, answers, throws))
    for name in names:
        for order in in_orders(orders):
            hold(reference, name, order, times=times, max_resumptions=max_resumptions)
    return reference.ended()


def hold(
    reference: Reference, capture: str, order: Order, *, times: int = 2, max_resumptions: int = 2000
) -> None:
    """Check one order of resumption under one strategy, against runs from the start."""
    model, args, questions = reference.model, reference.args, reference.questions
    with strategy(capture):
        branches = explore(model, args, questions, order, times=times, limit=max_resumptions)
        steps = list(branches)
    complaint = _Complaint(model, reference, capture, order)
    for step in steps:
        if step.outcome.ended:
            now = step.outcome.as_it_is_now()
            if now != step.outcome.text:
                raise AssertionError(complaint.changed(step, now))
    for step in steps:
        if step.outcome != reference[step.path]:
            raise AssertionError(complaint.different(step))


def _strategies(capture: str | Sequence[str]) -> tuple[str, ...]:
    names = (capture,) if isinstance(capture, str) else tuple(capture)
    for name in names:
        if name not in STRATEGIES:
            raise ValueError(f"capture is auto, clone or replay, not {name!r}")
    return names


def _questions(
    effect: str,
    answers: Callable[[Any], Iterable[Any]] | None,
    throws: Sequence[type[BaseException]],
) -> Questions:
    if not str(effect).isidentifier():
        raise ValueError(f"effect is the type of a site, such as 'sample', not {effect!r}")
    offer = answers if answers is not None else support if effect == "sample" else arguments
    return Questions(effect, offer, tuple(throws))


@contextmanager
def strategy(name: str) -> Iterator[None]:
    """Capture by this strategy inside the block."""
    token = STRATEGY.set(name)  # type: ignore[arg-type]
    try:
        yield
    finally:
        STRATEGY.reset(token)


class _Complaint:
    """What is said to the user when the law does not hold."""

    def __init__(
        self, model: Callable[..., Any], reference: Reference, capture: str, order: Order
    ) -> None:
        self.model, self.reference = model, reference
        self.capture, self.order = capture, order

    def different(self, step: Step) -> str:
        expected = self.reference[step.path]
        again = self.reference.again(step.path)
        if again != expected:
            return self.own_fault(step, expected, again)
        mine, right = around_difference(str(step.outcome), str(expected))
        return "\n".join(
            [
                f"resuming {describe(self.model)} does not give what a run from its start gives,",
                *self.circumstances(step),
                f"  the resumed branch   {mine}",
                f"  a run from the start {right}",
                *self.hint(step),
            ]
        )

    def changed(self, step: Step, now: str) -> str:
        one, two = self.reference.again(step.path), self.reference.again(step.path)
        if one != two:
            return self.own_fault(step, one, two)
        then, later = around_difference(step.outcome.text, now)
        return "\n".join(
            [
                f"what one branch of {describe(self.model)} {step.outcome.kind} was changed by "
                f"another branch,",
                *self.circumstances(step),
                f"  when it ended        {then}",
                f"  when all had ended   {later}",
                *self.hint(step),
            ]
        )

    def own_fault(self, step: Step, one: Outcome, two: Outcome) -> str:
        first, second = around_difference(str(one), str(two))
        return "\n".join(
            [
                f"{describe(self.model)} breaks the contract of resumption: run twice from its "
                f"start, it does two different things,",
                *self.path(step.path),
                f"  one run              {first}",
                f"  another run          {second}",
                "A model must be deterministic given its answers and must change only what it has "
                "made itself. Is there an unnamed random number, a counter or a list from outside, "
                "an argument that is changed?",
            ]
        )

    def circumstances(self, step: Step) -> list[str]:
        by = "a plain clause" if self.order.plain else "a generator clause"
        return [
            f'under capture="{self.capture}", resumed by {by}, {self.order.name}, as number '
            f"{step.number},",
            *self.path(step.path),
        ]

    def path(self, path: Path) -> list[str]:
        if not path:
            return ["before the first answer:"]
        lines = ["given these answers:"]
        for i, place in enumerate(path):
            outcome = self.reference[path[:i]]
            answer = outcome.answers[place] if place < len(outcome.answers) else "?"
            lines.append(f"    {outcome.site}: {answer!r}")
        return lines

    def hint(self, step: Step) -> list[str]:
        why = getattr(step.parent, "why_replayed", None)
        if isinstance(step.outcome.value, CaptureError):
            return ['capture="clone" falls back on nothing; capture="auto" replays here instead.']
        if why is not None or self.capture == "replay" or native is None:
            return [
                f"The branch was made by replay ({why or 'as asked for'}): something that is no "
                f"recorded answer differs between two runs of the model."
            ]
        return [
            "The branch was made by a clone: an object that one branch changes is shared by "
            "another. If its class is your own, say how it is copied by a method "
            "`__fork__(self, memo)`; otherwise this is a fault of contpoutine, please report it."
        ]


def around_difference(one: str, two: str, width: int = 160) -> tuple[str, str]:
    """Both texts, cut to where they begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), 0)
    start = max(0, at - width // 2)
    return _cut(one, start, width), _cut(two, start, width)


def _cut(text: str, start: int, width: int) -> str:
    before = "..." if start else ""
    after = "..." if len(text) > start + width else ""
    return f"{before}{text[start : start + width]}{after}"
