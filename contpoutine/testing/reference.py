"""Brute force: what a model does when it is run from its start with given answers.

This is the law itself. Nothing here knows of continuations, captures or clones. A model's
generators are run by hand, one `send` after the other; only a model that brings handlers of its own
is given to the machine, in one run that nothing is captured in, with a Messenger that answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass, field
from types import GeneratorType
from typing import Any

from contpoutine.core.ambient import AMBIENT
from contpoutine.core.capture import provider
from contpoutine.core.machine import default_value, is_decided, run
from contpoutine.core.message import Message
from contpoutine.core.messenger import Messenger
from contpoutine.core.model import start
from contpoutine.testing.likeness import likeness

ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")  # in the text of an error, it is no difference

ENDS = (Exception, GeneratorExit)
"""What a run may end with: an interrupt or an exit is no outcome of a model's."""

Offer = Callable[[Any], Iterable[Any]]
"""What a site can be answered with: message -> answers."""


@dataclass(frozen=True)
class Throw:
    """An answer that raises, at the line of the site."""

    kind: type[BaseException]

    def error(self) -> BaseException:
        return self.kind("thrown by the test")

    def __repr__(self) -> str:
        return f"raise {self.kind.__name__}"


@dataclass
class Outcome:
    """What came of a run: `returned`, `raised`, or `asks` (with the answers that it can be given).

    Two outcomes are equal where their texts are.
    """

    kind: str
    text: str
    value: Any = field(default=None, compare=False, repr=False)
    answers: tuple[Any, ...] = field(default=(), compare=False, repr=False)
    site: str = field(default="", compare=False, repr=False)

    @property
    def ended(self) -> bool:
        return self.kind != "asks"

    def as_it_is_now(self) -> str:
        """The text, taken again."""
        return text_of(self.value)

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


def text_of(value: Any) -> str:
    text = likeness(value)
    return ADDRESS.sub("0x...", text) if "0x" in text else text


def returned(value: Any) -> Outcome:
    return Outcome("returned", text_of(value), value)


def raised(error: BaseException) -> Outcome:
    return Outcome("raised", text_of(error), error)


def asks(msg: Any, answers: tuple[Any, ...], continuation: Any = None) -> Outcome:
    name = f" {msg['name']!r}" if msg["name"] is not None else ""
    site = f"{msg['type']}{name} at {msg.where}"
    return Outcome("asks", f"{site}: {likeness(answers)}", continuation, answers, site)


class Questions:
    """Which effects are the test's to answer, and with what."""

    def __init__(self, effect: str, offer: Offer, throws: tuple[type[BaseException], ...]) -> None:
        self.effect, self.offer = effect, offer
        self.throws = tuple(Throw(kind) for kind in throws)

    def asked(self, msg: Any) -> bool:
        return msg["type"] == self.effect and not is_decided(msg)

    def answers(self, msg: Any) -> tuple[Any, ...]:
        return (*self.offer(msg), *self.throws)


class NeedsTheMachine(Exception):
    """The model uses handlers, which a run by hand knows nothing of."""


def by_hand(
    model: Callable[..., Any], args: tuple[Any, ...], path: tuple[int, ...], questions: Questions
) -> Outcome:
    """Run with the answers at these places; gives how it ends, or the first unanswered question.

    Raises:
        NeedsTheMachine: the model enters a handler.
    """
    return copy_context().run(_by_hand, model, args, list(path), questions)


def _by_hand(
    model: Callable[..., Any], args: tuple[Any, ...], path: list[int], questions: Questions
) -> Outcome:
    ambient = AMBIENT.get()
    stack: list[Any] = [start(model, args, {})]
    value: Any = None
    error: BaseException | None = None
    while stack:
        thrown, error = error, None
        try:
            request = stack[-1].send(value) if thrown is None else stack[-1].throw(thrown)
        except StopIteration as stop:
            stack.pop()
            value = stop.value
            continue
        except BaseException as problem:
            stack.pop()
            error = problem
            continue
        finally:
            thrown = None
        if isinstance(request, GeneratorType):
            stack.append(request)
            value = request = None  # only the stack holds on to a frame: see `discard`
            continue
        if AMBIENT.get() is not ambient or not isinstance(request, Message):
            if isinstance(request, Message):
                request.perform()
            provider().discard(stack)
            raise NeedsTheMachine
        request.perform()
        if not questions.asked(request):
            try:
                value = request["value"] if is_decided(request) else default_value(request)
            except Exception as problem:
                error = problem
            continue
        answers = questions.answers(request)
        if not path:
            provider().discard(stack)  # what is abandoned runs nothing
            return asks(request, answers)
        answer = answers[path.pop(0)]
        if isinstance(answer, Throw):
            error = answer.error()
        else:
            value = provider().keep(answer)
    if error is not None and not isinstance(error, ENDS):
        raise error
    return raised(error) if error is not None else returned(value)


class _Answering(Messenger):
    """Answers from a path, without ever capturing anything."""

    class Out(BaseException):
        pass

    def __init__(self, path: tuple[int, ...], questions: Questions) -> None:
        self.path, self.questions = list(path), questions
        self.asked: Outcome | None = None

    def _process_message(self, msg: Any) -> None:
        if not self.questions.asked(msg):
            return
        answers = self.questions.answers(msg)
        if not self.path:
            # on its way out, the model may ask again in a `finally`
            self.asked = self.asked or asks(msg, answers)
            raise self.Out
        answer = answers[self.path.pop(0)]
        if isinstance(answer, Throw):
            raise answer.error()
        msg["value"], msg["stop"], msg["done"] = provider().keep(answer), True, True


def by_machine(
    model: Callable[..., Any], args: tuple[Any, ...], path: tuple[int, ...], questions: Questions
) -> Outcome:
    """The same for a model with handlers of its own: one run, and no capture."""
    handler = _Answering(path, questions)
    outcome: Outcome | None = None
    try:
        with handler:
            outcome = returned(run(model, *args))
    except _Answering.Out:
        pass
    except ENDS as error:
        outcome = raised(error)
    # A `finally` of the model may have raised or returned something else on the way out.
    ended = handler.asked or outcome
    if ended is None:  # the model caught what should have ended it, and raised it again later
        raise NeedsTheMachine
    return ended


class Reference:
    """Runs of one model from its start, each made when it is first asked for."""

    def __init__(
        self, model: Callable[..., Any], args: tuple[Any, ...], questions: Questions
    ) -> None:
        self.model, self.args, self.questions = model, args, questions
        self.known: dict[tuple[int, ...], Outcome] = {}
        self.by_hand = True

    def __getitem__(self, path: tuple[int, ...]) -> Outcome:
        if path not in self.known:
            self.known[path] = self.again(path)
        return self.known[path]

    def again(self, path: tuple[int, ...]) -> Outcome:
        """One more run with these answers."""
        if self.by_hand:
            try:
                return by_hand(self.model, self.args, path, self.questions)
            except NeedsTheMachine:
                self.by_hand = False
        return by_machine(self.model, self.args, path, self.questions)

    def ended(self) -> dict[tuple[int, ...], Outcome]:
        """The runs that came to an end."""
        return {path: outcome for path, outcome in self.known.items() if outcome.ended}
