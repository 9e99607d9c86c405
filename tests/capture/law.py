"""The law of resumption, as a check: whatever is resumed, in whatever order, equals a run by hand.

A model asks `choose(a, b, ...)`. The reference runs its generators by hand, once for each path of
answers, and knows nothing of handlers and continuations. The check runs the model once up to its
first question, keeps every continuation it is given, and resumes them again and again in a drawn
order. Each path must end as the reference says, every time it is taken, and what it returned must
still be the same when everything else has run.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import GeneratorType
from typing import Any

import contpoutine as cp
from contpoutine.core.capture import STRATEGY, provider
from contpoutine.core.native import native

NATIVE = native is not None
WORKING = ("clone", "auto", "replay") if NATIVE else ("auto", "replay")

ABANDONED: list[Any] = []

choose = cp.operation("choose")

Path = tuple[int, ...]


class Raised:
    """The path ended by an exception."""

    def __init__(self, error: BaseException) -> None:
        self.kind, self.text = type(error), str(error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Raised) and (self.kind, self.text) == (other.kind, other.text)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"raised {self.kind.__name__}({self.text})"


class Asked:
    """The computation waits for an answer to `choose`."""

    def __init__(self, options: tuple[Any, ...], k: Any = None) -> None:
        self.options, self.k = options, k


# --- the reference: generators run by hand ----------------------------------------------------


def by_hand(model: Callable[..., Any], args: tuple[Any, ...], answers: list[Any]) -> Any:
    """What the model does when it gets these answers: an outcome, or the next question."""
    stack = [model(*args)]
    answers = list(answers)
    value, error = None, None
    while stack:
        try:
            if error is not None:
                problem, error = error, None
                request = stack[-1].throw(problem)
            else:
                request = stack[-1].send(value)
        except StopIteration as stop:
            stack.pop()
            value = stop.value
            continue
        except BaseException as raised:
            stack.pop()
            error = raised
            continue
        if isinstance(request, GeneratorType):
            stack.append(request)
            value = None
            continue
        request.perform()
        if not answers:
            if NATIVE:  # what is abandoned runs nothing
                provider().discard(stack)
            else:
                ABANDONED.append(stack)
            return Asked(request["args"])
        value = answers.pop(0)
    return Raised(error) if error is not None else value


class _Answers(cp.Messenger):
    """Answers from a list, without ever capturing anything."""

    class Out(BaseException):
        pass

    def __init__(self, answers: list[Any]) -> None:
        self.answers = list(answers)
        self.asked: Asked | None = None

    def _pyro_choose(self, msg: Any) -> None:
        if not self.answers:
            # on its way out, the model may ask again in a `finally`
            self.asked = self.asked or Asked(msg["args"])
            raise self.Out
        msg["value"], msg["stop"], msg["done"] = self.answers.pop(0), True, True


def by_machine(model: Callable[..., Any], args: tuple[Any, ...], answers: list[Any]) -> Any:
    """The same for a model that needs the machine (handlers inside): one run, no capture."""
    handler = _Answers(answers)
    outcome: Any = None
    try:
        with handler:
            outcome = cp.run(model, *args)
    except _Answers.Out:
        pass
    except Exception as error:
        outcome = Raised(error)
    # A `finally` of the model may have raised or returned something else on the way out.
    return handler.asked or outcome


def all_paths(
    model: Callable[..., Any], args: Callable[[], tuple[Any, ...]], run: Any, limit: int
) -> dict[Path, Any]:
    """Path -> outcome, for every path of the model."""
    found: dict[Path, Any] = {}
    todo: list[tuple[Path, list[Any]]] = [((), [])]
    while todo:
        path, answers = todo.pop()
        outcome = run(model, args(), answers)
        if isinstance(outcome, Asked):
            for i, option in enumerate(outcome.options):
                todo.append(((*path, i), [*answers, option]))
        else:
            found[path] = outcome
        assert len(found) + len(todo) <= limit, "the model has too many paths for this check"
    return found


# --- the subject: continuations ---------------------------------------------------------------


class Keeping(cp.Handler):
    """Gives the continuation away instead of resuming it; clauses are generators."""

    def on_choose(self, msg: Any, k: Any) -> Any:
        return Asked(msg["args"], k)
        yield

    @staticmethod
    def resume(k: Any, value: Any) -> Any:
        return cp.run(k(value))


class KeepingPlainly(cp.Handler):
    """The same with a plain clause, whose `k(value)` runs the rest at once."""

    def on_choose(self, msg: Any, k: Any) -> Any:
        return Asked(msg["args"], k)

    @staticmethod
    def resume(k: Any, value: Any) -> Any:
        return k(value)


def outcome_of(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return Raised(error)


@contextmanager
def strategy(name: str) -> Iterator[None]:
    token = STRATEGY.set(name)  # type: ignore[arg-type]
    try:
        yield
    finally:
        STRATEGY.reset(token)


def explore(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    rng: random.Random,
    handler: type[Any] = Keeping,
    times: int = 2,
) -> Iterator[tuple[Path, Any]]:
    """Resume every continuation `times` times with each answer, in an order that `rng` draws."""
    first = outcome_of(lambda: cp.run(cp.handle(handler(), model), *args))
    waiting: list[tuple[Path, Any, int, Any]] = []

    def arrived(path: Path, outcome: Any) -> Iterator[tuple[Path, Any]]:
        if not isinstance(outcome, Asked):
            yield path, outcome
            return
        repeats = times if len(path) < 3 else 1
        for i, option in enumerate(outcome.options):
            waiting.extend([(path, outcome.k, i, option)] * repeats)

    yield from arrived((), first)
    while waiting:
        at = rng.choice((0, -1, rng.randrange(len(waiting))))
        path, k, i, option = waiting.pop(at)
        yield from arrived((*path, i), outcome_of(lambda k=k, v=option: handler.resume(k, v)))


def assert_law(
    model: Callable[..., Any],
    *args: Any,
    fresh: Callable[[], tuple[Any, ...]] | None = None,
    strategies: tuple[str, ...] = WORKING,
    reference: Any = by_hand,
    seeds: int = 3,
    limit: int = 400,
) -> dict[Path, Any]:
    """The law holds for the model, under each strategy, in several orders of resumption."""
    make = fresh if fresh is not None else lambda: args
    expected = all_paths(model, make, reference, limit)
    for name in strategies:
        for handler in (Keeping, KeepingPlainly):
            for seed in range(seeds):
                with strategy(name):
                    ended = []
                    for path, outcome in explore(model, make(), random.Random(seed), handler):
                        assert path in expected and outcome == expected[path], (
                            f"{name}, {handler.__name__}, seed {seed}: path {path} ended in "
                            f"{outcome!r}, but a run by hand ends in {expected.get(path)!r}"
                        )
                        ended.append((path, outcome))
                    for path, outcome in ended:
                        assert outcome == expected[path], (
                            f"{name}: what path {path} returned was changed by another branch"
                        )
                    assert {path for path, _ in ended} == set(expected)
    return expected


def assert_refused(model: Callable[..., Any], *args: Any, because: str, **options: Any) -> None:
    """`capture="clone"` says by name what it cannot copy; replay keeps the law."""
    import pytest

    from contpoutine.errors import CaptureError

    if NATIVE:
        with strategy("clone"), pytest.raises(CaptureError, match=because):
            asked = cp.run(cp.handle(Keeping(), model), *args)
            while isinstance(asked, Asked):
                asked = cp.run(asked.k(asked.options[0]))
    assert_law(model, *args, strategies=("auto", "replay"), **options)


def snapshot(value: Any) -> Any:
    """A model returns this to say what it saw, safe from later changes."""
    return copy.deepcopy(value)
