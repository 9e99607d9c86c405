"""The driver: takes one execution of a model from one choice to the next, weighing on the way.

An explorer decides which choice to follow next; the driver knows how to follow it. It answers a
suspended computation, weighs what is observed, applies defaults to effects that are no sample
sites, and stops at the next site that has to be enumerated. It also knows how to get a second
computation in the same state: by a clone, or by a replay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from contpoutine.core.ambient import AMBIENT, BRANCHING
from contpoutine.core.bridge import Feed, as_generator
from contpoutine.core.capture import Strategy, provider
from contpoutine.core.checkpoint import Checkpoint
from contpoutine.core.continuation import Origin
from contpoutine.core.handler import Mark
from contpoutine.core.machine import (
    Computation,
    Finished,
    check_not_iterators,
    default_value,
    is_decided,
    rerun,
)
from contpoutine.core.model import describe, start
from contpoutine.core.record import Answer
from contpoutine.distributions import Delta
from contpoutine.distributions.choices import Choices, ElementChoices, choices
from contpoutine.distributions.content import is_tensor
from contpoutine.distributions.scaling import element_scales, scaled_log_weight
from contpoutine.errors import (
    BadWeightError,
    BarrierError,
)


class Leaf:
    """The execution has returned `value`."""

    __slots__ = ("named", "value", "weight")

    def __init__(self, value: Any, weight: float, named: list[tuple[str, Any]]) -> None:
        self.value, self.weight, self.named = value, weight, named


class Pruned:
    """The execution has met an observation of weight zero."""

    __slots__ = ()


class Batch:
    """A batched site, some of whose elements have been chosen."""

    __slots__ = ("elements", "picked", "place", "scales")

    def __init__(
        self,
        place: Checkpoint,
        elements: ElementChoices,
        picked: tuple[Any, ...],
        scales: list[float],
    ) -> None:
        self.place, self.elements, self.picked, self.scales = place, elements, picked, scales

    def choice(self, weight: float = 0.0, named: list[tuple[str, Any]] | None = None) -> Choice:
        """The choice of the next element."""
        at = len(self.picked)
        name = f"{self.place.msg['name']}[{at}]"
        offered = self.elements.elements[at]
        return Choice(self, name, offered, weight, named or [], self.scales[at])


class Choice:
    """The execution waits at a choice.

    Attributes:
        state: the `Checkpoint`, or the rest of a batched site.
        weight: the log-weight met since the last choice.
        named: the deterministic sites met since the last choice.
        scale: what each log-probability is multiplied by.
        recorded: the values as the tree keeps them, which no model can change.
    """

    __slots__ = ("log_probs", "name", "named", "recorded", "scale", "state", "values", "weight")

    def __init__(
        self,
        state: Checkpoint | Batch,
        name: str,
        offered: Choices,
        weight: float,
        named: list[tuple[str, Any]],
        scale: float,
    ) -> None:
        self.state, self.name = state, name
        self.values, self.log_probs = offered
        self.recorded = recorded(offered.values)
        self.weight, self.named, self.scale = weight, named, scale


# What handlers further out have said of a site that waits for a choice.
_SAID_OUTSIDE = ("scale", "mask", "cond_indep_stack", "stop", "stopped_at")


class Driver:
    """Follows executions of one model with one set of arguments."""

    def __init__(
        self,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        capture: Strategy,
    ) -> None:
        self.model, self.capture = model, capture
        self.origin = Origin(model, args, kwargs)
        self.origin.value_at = value_at
        BRANCHING.set(self.origin.entered)
        self.outer = AMBIENT.get()
        self.reasons: dict[str, int] = {}
        self.bounded = True  # no likelihood above one has been met
        self.restarts = 0
        self._after_first: Any = None  # the random number generators, where they have moved

    def begin(self) -> Leaf | Pruned | Choice:
        """Run to the first choice."""
        computation = Computation([self.body()], (), self.origin)
        return self._follow(computation, computation.resume())

    def body(self) -> Any:
        """The model, called: a generator that has not begun."""
        return start(self.model, self.origin.args, self.origin.kwargs)

    # --- a second computation in the same state -----------------------------------------------

    def branch(self, state: Checkpoint | Batch, last: bool) -> Computation | Batch:
        """Something to answer: the waiting computation on its last use, otherwise one like it."""
        return state if isinstance(state, Batch) else self._second(state, last)

    def _second(self, place: Checkpoint, last: bool) -> Computation:
        known = place.why_replayed
        computation = place.resume(last)
        if place.why_replayed is not None and place.why_replayed != known:
            self.note(place.why_replayed)
        if self.outer:  # what was replayed is not sent up again
            for key in _SAID_OUTSIDE:
                if key in place.msg:
                    computation.pending[key] = place.msg[key]
        return computation

    def note(self, reason: str) -> None:
        """Remember why a choice was not cloned."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    @property
    def drawn(self) -> list[str]:
        """The sites that were drawn at random, because a handler hid them."""
        return sorted({str(name) for kind, name in self.origin.hidden if kind == "sample"})

    def notes(self) -> list[str]:
        """What the reader of the result has to know: replays, and sites drawn at random."""
        lines = [
            f"site {name!r} was hidden from the enumeration by a handler that stops it (such as "
            f"block) and drawn at random: the result is not exact"
            for name in self.drawn
        ]
        if self.restarts:
            lines.append(
                f"{describe(self.model)} is an ordinary function: {self.restarts} of the "
                f"resumptions ran it again from its start (a generator is cloned)"
            )
        if self.capture != "replay":
            reasons = sorted(self.reasons.items(), key=lambda item: -item[1])
            lines += [
                f"{count} {'choice' if count == 1 else 'choices'} resumed by replay: {why}"
                for why, count in reasons[:3]
            ]
            if len(reasons) > 3:
                lines.append(f"... and {len(reasons) - 3} more reasons for replay")
        return lines

    def keep(self, value: Any) -> Any:
        """A value as it is now, for the record: the model may go on to change it."""
        return provider().keep(value)

    def own(self, value: Any) -> Any:
        """A value as the model may have it: its own object, or a copy of one from outside."""
        return own(self.origin, value)

    def blame(self, msg: Any, error: BaseException) -> None:
        """Say in an error about a site where the site is."""
        error.add_note(f"site {msg['name']!r} was performed at {msg.where}")

    # --- one step -------------------------------------------------------------------------------

    def step(self, state: Computation | Batch, value: Any, pick: int) -> Leaf | Pruned | Choice:
        """Answer a state and run to the next choice, or to the end.

        `pick` says which of the state's values `value` is.
        """
        if isinstance(state, Batch):
            picked = (*state.picked, value)
            if len(picked) < len(state.elements.elements):
                return Batch(state.place, state.elements, picked, state.scales).choice()
            whole = state.elements.assemble(picked)
            computation = self._second(state.place, last=False)
            return self._answer(computation, whole, [(state.place.msg["name"], whole)])
        if is_plain(value):
            return self._answer(state, value, [])
        if is_tensor(value):  # the tree keeps the value; the model gets one that it may change
            return self._answer(state, provider().keep(value), [])
        return self._answer(state, value_at(self.origin, state.pending, pick), [], pick)

    def _answer(
        self,
        computation: Computation,
        value: Any,
        named: list[tuple[str, Any]],
        pick: int | None = None,
    ) -> Leaf | Pruned | Choice:
        msg = computation.pending
        msg["value"], msg["done"] = value, True
        if self.outer:
            self._pass_down(msg)
        return self._follow(computation, computation.answer(msg["value"], pick), named)

    def _follow(
        self,
        computation: Computation,
        event: Any,
        named: list[tuple[str, Any]] | None = None,
        weight: float = 0.0,
    ) -> Leaf | Pruned | Choice:
        named = [] if named is None else named
        while type(event) is not Finished:
            msg = event
            if self.outer:
                # A handler further out may overrule what the model decided: every answer counts.
                computation.undecided = True
                try:
                    self._pass_up(msg)
                except BarrierError:
                    raise
                except Exception as error:
                    event = computation.answer_by_error(error)
                    continue
            if msg["type"] == "sample" and not isinstance(msg["name"], str):
                raise TypeError(f"a sample site needs a string as its name, not {msg['name']!r}")
            if msg["type"] != "sample":
                try:
                    value = msg["value"] if is_decided(msg) else default_value(msg)
                except Exception as error:
                    event = computation.answer_by_error(error)
                    continue
            elif is_decided(msg):
                value = msg["value"]
                if type(msg["fn"]) is Delta and msg["fn"].values[0] is value:
                    named.append((msg["name"], self.keep(value)))
                try:
                    weight += self.weigh(msg) if value is not None or msg["is_observed"] else 0.0
                except Exception as error:
                    self.blame(msg, error)
                    raise
                if weight == -math.inf:
                    provider().discard(computation.frames)
                    return Pruned()
            else:
                return self._choose(computation, msg, named, weight)
            msg["value"], msg["done"] = value, True
            if self.outer:
                self._pass_down(msg)
            event = computation.answer(msg["value"])
        return Leaf(event.value, weight, named)

    def _choose(
        self, computation: Computation, msg: Any, named: list[tuple[str, Any]], weight: float
    ) -> Choice:
        try:
            return self._offer(computation, msg, choices(msg["fn"], msg["name"]), named, weight)
        except Exception as error:
            self.blame(msg, error)
            raise

    def _offer(
        self,
        computation: Computation,
        msg: Any,
        offered: Choices | ElementChoices,
        named: list[tuple[str, Any]],
        weight: float,
    ) -> Choice:
        scales = element_scales(msg)
        if min(scales, default=1.0) < 1.0:
            self.bounded = False  # the weights of the choices add up to more than one
        place = Checkpoint(computation, self.capture, complete=bool(self.outer))
        if isinstance(offered, ElementChoices):
            # an event has elements of its own, and counts as the element of the batch that it is
            each = len(offered.elements) // max(len(scales), 1)
            scales = [scale for scale in scales for _ in range(each)]
            return Batch(place, offered, (), scales).choice(weight, named)
        return Choice(place, msg["name"], offered, weight, named, scales[0])

    # --- weights --------------------------------------------------------------------------------

    def scale_of(self, msg: Any) -> float:
        """What the log-probabilities of an undecided site are multiplied by: the least of them
        where the elements of its batch have each their own."""
        return min(element_scales(msg), default=1.0)

    def weigh(self, msg: Any) -> float:
        """The log-weight of a site whose value is decided."""
        weight = scaled_log_weight(msg)
        if math.isnan(weight):
            raise BadWeightError(
                f"the log-weight of site {msg['name']!r}, performed at {msg.where}, is NaN; its "
                f"distribution is {msg['fn']!r} and its value {msg['value']!r}"
            )
        if weight > 0.0:
            self.bounded = False
        return weight

    # --- handlers further out -------------------------------------------------------------------

    def _pass_up(self, msg: Any) -> None:
        was_open = not is_decided(msg)
        for depth in range(len(self.outer) - 1, -1, -1):
            entry = self.outer[depth]
            if type(entry) is Mark:
                if msg["type"] != "sample" and msg["type"] in entry.clauses:
                    raise BarrierError(
                        f"{entry!r} takes {msg['type']} effects, and one was performed at "
                        f"{msg.where} inside of infer.enumerate(...), which it cannot capture. "
                        f"Install it inside the model: "
                        f"infer.enumerate(handle(handler, {describe(self.model)}))."
                    )
                continue
            entry._process_message(msg)
            if msg["stop"]:
                msg["stopped_at"] = depth
                break
        if was_open and is_decided(msg):
            msg["decided_outside"] = True

    def _pass_down(self, msg: Any) -> None:
        """Tell the handlers further out that have seen the message what its value is."""
        first = msg["stopped_at"] if msg["stop"] and "stopped_at" in msg else 0
        for entry in self.outer[first:]:
            if type(entry) is not Mark:
                entry._postprocess_message(msg)

    # --- for the native explorer ----------------------------------------------------------------

    def adopt(
        self,
        frames: list[Any],
        answers: list[tuple[str, Any, int]],
        request: Any,
        error: BaseException | None = None,
    ) -> Leaf | Pruned | Choice:
        """Go on with bare frames that did something which needs the whole machine.

        `request` is what the top frame has just yielded (or, with `error`, nothing: the error is
        to be thrown into the top frame). The ambient stack is the frames' own at this point.
        """
        computation = self._take_over(frames, answers)
        return self._follow(computation, computation.go_on(request, error, self.outer))

    def hidden(
        self, frames: list[Any], answers: list[tuple[str, Any, int]], msg: Any, depth: int
    ) -> Leaf | Pruned | Choice:
        """Go on with bare frames one of whose handlers has stopped `msg` on its way up."""
        computation = self._take_over(frames, answers)
        return self._follow(computation, computation.go_on_hidden(msg, depth, self.outer))

    def wait(
        self,
        frames: list[Any],
        answers: list[tuple[str, Any, int]],
        msg: Any,
        offered: ElementChoices,
    ) -> Choice:
        """The choices of a batched site at which bare frames wait."""
        computation = self._take_over(frames, answers)
        computation.wait_at(msg, self.outer)
        return self._offer(computation, msg, offered, [], 0.0)

    def _take_over(self, frames: list[Any], answers: list[tuple[str, Any, int]]) -> Computation:
        computation = Computation(frames, (), self.origin)
        computation.log = _log(answers)
        return computation

    def repair(self, answers: list[tuple[str, Any, int]], msg: Any, reason: str) -> Any:
        """The same, as bare frames, their handlers and the message at which they wait, where that
        is all there is to it."""
        computation = self.replay(answers, msg, reason)
        if computation.installed:
            return computation
        frames, computation.frames = computation.frames, []
        return frames, computation.segment, computation.pending

    def replay(
        self, answers: list[tuple[str, Any, int]], msg: Any, reason: str | None
    ) -> Computation:
        """The computation that has been given `answers` and waits at `msg`."""
        if reason is not None:
            self.note(reason)
        return rerun(self.origin, _log(answers), msg, complete=False)

    def restart(self, answers: list[tuple[str, Any, int]], msg: Any) -> Any:
        """An ordinary function as a generator that has been given `answers`, but has not begun.

        It is given them when it begins, and performs nothing else on the way.
        """
        origin = self.origin
        return as_generator(self.model, origin.args, origin.kwargs, False, self.feed(answers))

    def feed(self, answers: list[tuple[str, Any, int]]) -> Feed:
        """What a function is given that runs again with `answers`. The run begins right now."""
        origin = self.origin
        if not self.restarts:
            check_not_iterators(origin)
        self.restarts += 1
        # An execution that runs from its start sees the unnamed random numbers of the first one.
        now = provider().randomness()
        if now != origin.randomness:
            self._after_first = self._after_first or now
            provider().restore_randomness(origin.randomness)
        answers.reverse()
        return Feed(answers, self._given)

    def close(self) -> None:
        """The end: the global random number generators are where the first execution left them."""
        if self._after_first is not None:
            provider().restore_randomness(self._after_first)

    def _given(self, msg: Any, value: Any, pick: int) -> Any:
        """A recorded answer, as the model may have it."""
        if is_plain(value):
            return value
        return provider().keep(value) if is_tensor(value) else value_at(self.origin, msg, pick)


def _log(answers: list[tuple[str, Any, int]]) -> Answer | None:
    log: Answer | None = None
    for name, value, pick in answers:
        again = None if is_plain(value) or is_tensor(value) else pick
        log = Answer(log, "sample", name, value, pick=again)
    return log


_PLAIN_TYPES = frozenset({bool, int, float, str, bytes, complex, type(None)})


def is_plain(value: Any) -> bool:
    """Can nothing in the value be changed?"""
    kind = type(value)
    if kind is tuple:
        return all(map(is_plain, value))
    return kind in _PLAIN_TYPES


def recorded(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values of a site as the tree keeps them. A model never sees a tensor of the tree's."""
    if all(is_plain(value) or is_tensor(value) for value in values):
        return values
    kept: tuple[Any, ...] = provider().keep(values)
    return kept


def own(origin: Origin, value: Any) -> Any:
    """A value as the model may have it: its own object, or a copy of one from outside."""
    outside = origin.outside
    return provider().keep(value) if outside is not None and value in outside else value


def value_at(origin: Origin, msg: Any, pick: int) -> Any:
    """The value at one place of what a waiting site offers."""
    offered = choices(msg["fn"], msg["name"])
    return own(origin, offered.values[pick])  # type: ignore[union-attr]
