"""The machine: one loop over an explicit stack of frames runs every model.

A *computation* is a list of frames. Most frames are suspended generators; a frame of another kind,
the `Activation`, stands where a control handler is installed. The top frame runs until it yields,
and what it yields says what happens next:

    a message       goes up the handler stack: Messengers see it pass, and the first control handler
                    with a clause for its type takes the frames above its activation away, as a
                    continuation, and its clause runs in their place
    a generator     is pushed: the same call as `yield from`, without Python's recursion
    an Install      pushes an activation and the model that it handles
    a Resumption    puts a continuation's frames back and answers the effect at their top

The loop never calls itself, so neither the number of effects nor the depth of calls or of pending
clauses meets Python's recursion limit. What a frame returns or raises is sent or thrown into the
frame below.

The handler stack is part of the computation. While it runs, the ambient stack is what was ambient
where it was resumed (the *base*) plus the computation's own *segment*; when it stops, the segment
is put away with the frames and the base is ambient again.

A message that leaves the segment without being handled suspends the whole computation and is
given to whoever drives it: `run` asks the handlers further out and then the effect's default, the
enumeration forks.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from types import GeneratorType
from typing import Any

from contpoutine.core.ambient import AMBIENT, BRIDGE, DRIVEN, SEEDED
from contpoutine.core.bridge import Plain, plainly
from contpoutine.core.capture import Frames, Segment, provider
from contpoutine.core.continuation import (
    Activation,
    Continuation,
    Origin,
    Resumption,
    Snapshot,
    finished,
)
from contpoutine.core.handler import Clause, Handler, Install, Mark
from contpoutine.core.message import Message, check_dropped, machine_runs
from contpoutine.core.messenger import Messenger
from contpoutine.core.model import describe, is_generator_model, no_model, start, where
from contpoutine.core.record import STREAM, Answer, in_order, site
from contpoutine.errors import (
    BadYieldError,
    BarrierError,
    ContpoutineError,
    ReplayDiverged,
    SharedIteratorError,
    UnhandledEffectError,
)

# What a Messenger does unless its class says otherwise: the loop does it without calling.
_PROCESS, _POSTPROCESS = Messenger._process_message, Messenger._postprocess_message

Outcome = tuple[Any, BaseException | None]
"""What a frame gets next: a value that is sent, or an exception that is thrown."""


Way = tuple[
    tuple[Any, ...],
    list[tuple[int, Any, Clause | None]],
    list[tuple[int, Any]],
]
"""The handler stack; who sees an effect on its way up, innermost first: place on the stack, and
what is called or the clause that takes it; and who sees it on its way down, outermost first, where
None stands for a control handler."""


def _find_way(effect: str, ambient: tuple[Any, ...]) -> Way:
    ups: list[tuple[int, Any, Clause | None]] = []
    downs: list[tuple[int, Any]] = []
    for place, entry in enumerate(ambient):
        kind = type(entry)
        if kind is Mark:
            clause = entry.clauses.get(effect)
            if clause is not None:
                ups.append((place, None, clause))
            downs.append((place, None))
            continue
        process, postprocess = entry._process_message, entry._postprocess_message
        if kind._process_message is _PROCESS:  # it would look for the hook
            process = getattr(entry, f"_pyro_{effect}", None)
        if kind._postprocess_message is _POSTPROCESS:
            postprocess = getattr(entry, f"_pyro_post_{effect}", None)
        if process is not None:
            ups.append((place, process, None))
        if postprocess is not None:
            downs.append((place, postprocess))
    ups.reverse()
    return ambient, ups, downs


class Finished:
    """What `Computation.resume` gives when the computation has returned."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Computation:
    """A running or suspended computation.

    A *driven* computation runs, by `resume` and `answer`, until a message leaves its own segment
    (they return the message) or until it returns (`Finished`). One that is not driven asks the
    handlers further out itself, and the default where they do not decide; it runs to its end. An
    exception that leaves the computation is raised.
    """

    __slots__ = (
        "barrier",
        "base",
        "complete",
        "driven",
        "feed",
        "frames",
        "installed",
        "log",
        "origin",
        "parent",
        "pending",
        "segment",
        "state",
        "undecided",
        "ways",
    )

    def __init__(
        self,
        frames: Frames,
        segment: Segment,
        origin: Origin | None,
        driven: bool = True,
        barrier: str | None = None,
    ) -> None:
        self.frames, self.segment, self.origin = frames, segment, origin
        self.driven, self.barrier = driven, barrier
        self.installed = [frame for frame in frames if type(frame) is Activation]
        self.parent = origin.outside if origin is not None else None
        self.base: tuple[Any, ...] = ()
        self.log: Answer | None = None
        # While replaying: the answers still to be given, last one first; and whether there is one
        # for each message that left the computation, or only for those that left undecided.
        self.feed: list[Answer] | None = None
        self.complete = False
        self.pending: Any = None  # the message that waits for an answer
        self.undecided = False  # had it no value yet when it left the segment?
        self.state = "suspended"
        self.ways: dict[str, Way] = {}

    # --- resuming ---------------------------------------------------------------------------

    def answer(self, value: Any, pick: int | None = None) -> Any:
        """Answer the pending message; its way down through the segment happens first.

        `pick` says which of the values that the site offers `value` is, where that is an object
        that the model may have made itself.
        """
        if self.pending is None:
            raise finished("this computation")
        msg, self.pending = self.pending, None
        depth = len(AMBIENT.get())  # where this computation's own handlers begin
        if self.undecided:
            self._note_own(msg, value, None, pick=pick)
        return self._drive(lambda: self._down(msg, value, depth))

    def answer_by_error(self, error: BaseException) -> Any:
        """Answer the pending message by raising `error` in the model."""
        if self.pending is None:
            raise finished("this computation")
        msg, self.pending = self.pending, None
        self._note_own(msg, None, error)
        self._note(self.installed, msg, None, error)
        return self._drive(lambda: (None, error))

    def resume(self) -> Any:
        """Run a computation that has not begun."""
        return self._drive(lambda: (None, None))

    def go_on(self, request: Any, error: BaseException | None, base: tuple[Any, ...]) -> Any:
        """Take over frames that were run without a machine until the top one yielded `request`.

        With an `error`, that is thrown into the top frame instead. The ambient stack is the frames'
        own; `base` is what was ambient where they began.
        """
        if error is not None:
            return self._drive(lambda: (None, error), base)
        return self._drive(lambda: self._request(request, self.frames[-1]), base)

    def go_on_hidden(self, msg: Any, depth: int, base: tuple[Any, ...]) -> Any:
        """Take over likewise where the handler at `depth` of the segment has stopped `msg`."""
        return self._drive(lambda: self._decide(msg, len(base) + depth), base)

    def wait_at(self, msg: Any, base: tuple[Any, ...]) -> None:
        """Take over likewise where `msg` has passed every handler of the segment, undecided."""
        self.pending, self.undecided = msg, True
        self._drive(lambda: None, base)

    def _drive(
        self, first: Callable[[], Outcome | None], base: tuple[Any, ...] | None = None
    ) -> Any:
        if self.state != "suspended":
            raise finished("this computation")
        if base is None:
            base = AMBIENT.get()
            if self.segment:
                AMBIENT.set(base + self.segment)
        self.base = base
        self.state = "running"
        machine_runs(+1)
        token = DRIVEN.set(True) if self.driven else None
        bridge = BRIDGE.get()
        if bridge is not None:
            BRIDGE.set(None)
        try:
            outcome = first()
            event = self.pending if outcome is None else self._loop(*outcome)
        except BaseException:
            self.state = "finished"
            self.segment = ()
            raise
        finally:
            machine_runs(-1)
            if token is not None:
                DRIVEN.reset(token)
            if bridge is not None:
                BRIDGE.set(bridge)
            if self.state == "running":
                self.segment = AMBIENT.get()[len(base) :]
                self.state = "suspended"
            AMBIENT.set(base)
        if type(event) is Finished:
            self.state = "finished"
            self.segment = ()
        return event

    def _loop(self, value: Any, error: BaseException | None) -> Any:
        """Run frames until the computation suspends or ends. Sends `value`, or throws `error`."""
        frames = self.frames
        while frames:
            top = frames[-1]
            if type(top) is Activation:
                value, error = self._leave(top, value, error)
                continue
            request: Any = None
            try:
                if error is None:
                    request = top.send(value)
                else:
                    problem, error = error, None
                    request = top.throw(problem)
                check_dropped()
            except StopIteration as stop:
                frames.pop()
                value = stop.value
                try:
                    check_dropped()
                    if type(value) is Message and not value.performed:
                        bool(value)  # refused: the request is not its value
                except ContpoutineError as lost:
                    error = lost
                if type(value) is Resumption:  # `return k(value)`: the clause's last act
                    value, error = self._resume(value, last=True)
                continue
            except BaseException as raised:
                if raised.__traceback__ is not None:  # leave this loop out of the user's traceback
                    raised.__traceback__ = raised.__traceback__.tb_next or raised.__traceback__
                error = raised
                if top.gi_frame is None:
                    frames.pop()
                elif type(request) is Message:  # an earlier request was lost; say it where we are
                    request.perform()
                continue
            outcome = self._request(request, top)
            if outcome is None:
                return self.pending
            value, error = outcome
        if error is not None:
            raise error
        return Finished(value)

    def _request(self, request: Any, top: Any) -> Outcome | None:
        """Do what a frame asks for. Gives what to send or throw next, or None: suspended."""
        kind = type(request)
        if kind is Message:
            return self._perform(request)
        if kind is GeneratorType:
            return self._call(request)
        if kind is Resumption:
            return self._resume(request, last=False)
        if kind is Install:
            return self._install(request)
        return None, _bad_yield(request, top)

    # --- frames -----------------------------------------------------------------------------

    def _call(self, body: GeneratorType[Any, Any, Any]) -> Outcome:
        if body.gi_suspended or body.gi_running or body.gi_frame is None:
            return None, BadYieldError(
                f"the generator {body.__qualname__!r} was yielded as a call at "
                f"{where(self.frames[-1])}, but it is already running or has finished. Call the "
                f"model again for each use: `yield {body.__name__}(...)`."
            )
        self.frames.append(body)
        return None, None

    def _install(self, request: Install) -> Outcome:
        origin = Origin(request.model, request.args, request.kwargs, self.parent, request.handler)
        try:
            body = start(request.model, request.args, request.kwargs)
        except BaseException as error:
            return None, error
        mark = Mark(request.handler, origin.entered)
        activation = Activation(mark, origin, None)
        self.installed.append(activation)
        self.frames += (activation, body)
        AMBIENT.set((*AMBIENT.get(), mark))
        return None, None

    def _leave(self, activation: Activation, value: Any, error: BaseException | None) -> Outcome:
        """The handled model has ended: take its handler down, and map its value."""
        self.frames.pop()
        self.installed.pop()
        mark = activation.mark
        ambient = AMBIENT.get()
        AMBIENT.set(ambient[: _place(mark, ambient)])
        if error is not None or not mark.maps_return:
            return value, error
        try:
            value = mark.returns.method(value)
        except BaseException as raised:
            return None, raised
        if mark.returns.is_generator:
            self.frames.append(value)
            return None, None
        return value, None

    # --- messages ---------------------------------------------------------------------------

    def _perform(self, msg: Any) -> Outcome | None:
        """Send a message up. Gives the outcome for the top frame, or None: suspended."""
        if msg.performed and not msg.lent:
            return None, performed_twice(msg)
        msg.perform()
        ambient = AMBIENT.get()
        low = len(self.base)
        end = low if self.driven else 0
        depth = len(ambient)
        effect = msg["type"]
        try:
            ups = self._way(effect, ambient)[1]
            at = 0
            while at < len(ups):
                depth, tell, clause = ups[at]
                at += 1
                if depth < end:
                    break
                if clause is not None:
                    mark = ambient[depth]
                    if depth < low:
                        raise out_of_reach(msg, mark, self.barrier)
                    return self._control(msg, mark, clause, depth, ambient)
                tell(msg)
                if msg["stop"]:
                    return self._decide(msg, depth)
                if msg["type"] != effect:  # the handlers further out know it as another effect
                    effect = msg["type"]
                    ups = [step for step in self._way(effect, ambient)[1] if step[0] < depth]
                    at = 0
            if not self.driven:
                if effect == "sample" and DRIVEN.get():
                    raise not_seen(msg, self.barrier)
                return self._decide(msg, 0)
        except BaseException as error:
            self._note(self._inside(ambient, depth), msg, None, error)
            return None, error
        # A parameter is outside of the model: who runs the model again reads it again.
        self.undecided = msg["type"] != "param" and not is_decided(msg)
        if self.feed is not None and (self.feed or not (self.complete or self.undecided)):
            return self._refed(msg)
        self.pending = msg
        return None

    def _way(self, effect: str, ambient: tuple[Any, ...]) -> Way:
        """Which handlers an effect meets. The stack is immutable, so the answer holds for it."""
        way = self.ways.get(effect)
        if way is None or way[0] is not ambient:
            way = self.ways[effect] = _find_way(effect, ambient)
        return way

    def _decide(self, msg: Any, depth: int) -> Outcome:
        """No handler further out will see the message: it has a value, or its default applies."""
        if is_decided(msg):
            return self._down(msg, msg["value"], depth)
        if not self.driven and not self.installed:  # nobody takes notes
            try:
                value = default_value(msg)
                move_stream(msg)
            except BaseException as raised:
                return None, raised
            return self._down(msg, value, depth)
        value, error = None, None
        if self.feed is not None:
            value, error = self._fed(msg)
        else:
            try:
                value = default_value(msg)
                move_stream(msg)
            except BaseException as raised:
                error = raised
            if self.driven and self.origin is not None:
                self.origin.hidden.add((msg["type"], msg["name"]))
        # Handlers between here and the model note it as it passes; for those further out it is
        # an answer too, as it will not be the same when it is drawn again.
        further_out = len(self.installed) - len(self._inside(AMBIENT.get(), depth))
        noting = self.installed if error is not None else self.installed[:further_out]
        self._note(noting, msg, value, error, drawn=True)
        self._note_own(msg, value, error, drawn=True)
        return (None, error) if error is not None else self._down(msg, value, depth, drawn=True)

    def _down(self, msg: Any, value: Any, depth: int, drawn: bool = False) -> Outcome:
        """Tell the handlers, from `depth` inwards, what the message's value is.

        Each control handler that it passes notes it: what lies inside was answered from further
        out, and is given the same answer when it is replayed.
        """
        msg["value"], msg["done"] = value, True
        ambient = AMBIENT.get()
        crossed = self._inside(ambient, depth)
        noted = 0
        try:
            if depth < len(ambient):
                effect = msg["type"]
                downs = self._way(effect, ambient)[2]
                at = 0
                while at < len(downs):
                    place, tell = downs[at]
                    at += 1
                    if place < depth:
                        continue
                    if tell is not None:
                        tell(msg)
                        if msg["type"] != effect:
                            effect = msg["type"]
                            downs = [s for s in self._way(effect, ambient)[2] if s[0] > place]
                            at = 0
                    elif crossed and place >= len(self.base):
                        self._note(crossed[noted : noted + 1], msg, msg["value"], None, drawn)
                        noted += 1
            then = msg["continuation"]
            if then is not None:
                then(msg)
        except BaseException as error:
            self._note(crossed[noted:], msg, None, error)
            return None, error
        return msg["value"], None

    def _inside(self, ambient: tuple[Any, ...], depth: int) -> list[Activation]:
        """Our control handlers that are installed at `depth` or further in, outermost first."""
        if not self.installed:
            return []
        inner = ambient[max(depth, len(self.base)) :]
        return self.installed[len(self.installed) - sum(type(entry) is Mark for entry in inner) :]

    def _note(
        self,
        activations: list[Activation],
        msg: Any,
        value: Any,
        error: BaseException | None,
        drawn: bool = False,
    ) -> None:
        """Write an answer from further out into the logs of what it reached."""
        for activation in activations:
            activation.log = _answer(activation.log, msg, value, error, drawn)

    def _note_own(
        self,
        msg: Any,
        value: Any,
        error: BaseException | None,
        drawn: bool = False,
        pick: int | None = None,
    ) -> None:
        """Write an answer into the log of a driven computation.

        It has only what was undecided when it left: what the model and its own handlers decide,
        they decide again when they run again.
        """
        if self.driven:
            self.log = _answer(self.log, msg, value, error, drawn, pick)

    def _refed(self, msg: Any) -> Outcome:
        """While replaying: answer a message that leaves the computation as it was answered."""
        if not self.complete and not self.undecided:  # it decides itself again
            try:
                value = msg["value"] if is_decided(msg) else default_value(msg)
            except BaseException as raised:
                return None, raised
            return self._down(msg, value, len(self.base))
        pick = self.feed[-1].pick if self.feed else None
        value, error = self._fed(msg)
        self._note_own(msg, value, error, pick=pick)
        if error is not None:
            self._note(self.installed, msg, value, error)
            return None, error
        return self._down(msg, value, len(self.base))

    def _fed(self, msg: Any) -> Outcome:
        """While replaying: the recorded answer to `msg`, with the traceback that it had."""
        answer = self.next_answer(msg)
        for key, value in answer.seen:
            msg[key] = value
        if answer.stream is not None:
            msg[STREAM] = answer.stream
        if answer.error is not None:
            return None, answer.error.with_traceback(answer.traceback)
        if answer.drawn and msg["type"] == "sample":
            default_value(msg)  # the next random numbers are then those of the first run
            move_stream(msg)
        if answer.pick is not None and self.origin is not None and self.origin.value_at is not None:
            return self.origin.value_at(self.origin, msg, answer.pick), None
        return provider().keep(answer.value), None

    def next_answer(self, msg: Any) -> Answer:
        """While replaying: the recorded answer to `msg`."""
        if self.feed:
            answer = self.feed.pop()
            if answer.name == msg["name"] and answer.type == msg["type"]:
                return answer
            expected = site(answer.type, answer.name)
        else:
            expected = "nothing more at this point"
        raise ReplayDiverged(expected, site(msg["type"], msg["name"]), msg.where)

    def fork(self, tensors: bool = False) -> Computation:
        """A second computation in the same suspended state. Raises CaptureError.

        With `tensors`, the tensors that the computation made are copied, and not shared.
        """
        outside = self.origin.outside if self.origin is not None else None
        # The message goes along: handlers may hold it, and what it offers may be the model's own.
        waiting = [] if self.pending is None else [self.pending]
        frames, segment = provider().fork(
            [*self.frames, *waiting], self.segment, outside, None, tensors
        )
        pending = frames.pop() if waiting else None
        fresh = Computation(frames, segment, self.origin)
        fresh.log, fresh.parent = self.log, self.parent
        fresh.pending, fresh.undecided = pending, self.undecided
        return fresh

    def __fork__(self, memo: Callable[[Any], Any]) -> Computation:
        """The computation as a driver holds it that is itself part of what is copied."""
        fresh = Computation([], (), None, self.driven, self.barrier)
        memo.record(self, fresh)  # type: ignore[attr-defined]
        segment = tuple(memo(entry) for entry in self.segment)
        frames = [memo(frame) for frame in self.frames]
        fresh.__init__(frames, segment, memo(self.origin), self.driven, self.barrier)  # type: ignore[misc]
        fresh.log, fresh.parent, fresh.state = self.log, self.parent, self.state
        fresh.pending, fresh.undecided = memo(self.pending), self.undecided
        return fresh

    def __del__(self) -> None:
        if self.frames and self.state == "suspended":
            provider().discard(self.frames)

    # --- continuations ----------------------------------------------------------------------

    def _control(
        self, msg: Any, mark: Mark, clause: Clause, depth: int, ambient: tuple[Any, ...]
    ) -> Outcome:
        """A clause takes the effect: it takes the place of the frames that it may resume."""
        frames = self.frames
        at = len(frames) - 1
        while type(frames[at]) is not Activation or frames[at].mark is not mark:
            at -= 1
        captured, segment = frames[at:], ambient[depth:]
        del frames[at:]
        while self.installed.pop().mark is not mark:
            pass
        AMBIENT.set(ambient[:depth])
        plain = None if clause.is_generator else self._run_plainly
        k = Continuation(captured, segment, msg, clause.name, plain)
        seen = msg
        if msg["continuation"] is not None:
            # The inner handlers' last word is said when `k` is resumed, and not by whoever takes
            # the message that the clause forwards.
            seen = msg.copy()
            seen["continuation"] = None
        seen.lend()
        try:
            value = clause.method(seen, k)
        except BaseException as error:
            return None, error
        if clause.is_generator:
            frames.append(value)
            return None, None
        return value, None

    def _resume(self, request: Resumption, last: bool) -> Outcome:
        """Put a continuation's frames back and answer the effect at their top."""
        k = request.k
        # Three references are ours: the request's, this local's and the argument's.
        last = last and sys.getrefcount(k) <= 3
        try:
            snapshot = k.take(last)
            if snapshot is None:
                snapshot = k.repaired(rebuild(k), last)
        except BaseException as error:
            return None, error
        return self._enter(k, snapshot, request.value, request.error)

    def _enter(
        self, k: Continuation, snapshot: Snapshot, value: Any, error: BaseException | None
    ) -> Outcome:
        outer = AMBIENT.get()
        frames = snapshot.take()
        installed = [frame for frame in frames if type(frame) is Activation]
        if error is not None:
            self._note(installed, k.msg, None, error)
        self.installed += installed
        self.frames += frames
        AMBIENT.set(outer + snapshot.segment)
        if error is not None:
            return None, error
        return self._down(snapshot.msg.copy(), value, len(outer))

    def _run_plainly(self, k: Continuation, value: Any, error: BaseException | None) -> Any:
        """`k(value)` in a plain clause: a machine of its own runs the rest to its end."""
        snapshot = k.take(last=False)
        if snapshot is None:
            snapshot = k.repaired(rebuild(k), last=False)
        inner = Computation([], (), None, driven=False, barrier=k.clause)
        inner.parent = self.parent
        return inner._drive(lambda: inner._enter(k, snapshot, value, error)).value


def _answer(
    log: Answer | None,
    msg: Any,
    value: Any,
    error: BaseException | None,
    drawn: bool,
    pick: int | None = None,
) -> Answer:
    traceback = error.__traceback__ if error is not None else None
    value = provider().keep(value)
    seen = tuple([(key, msg[key]) for key, plain in _CHANGED if _differs(msg[key], plain)])
    stream = msg.get(STREAM)
    return Answer(log, msg["type"], msg["name"], value, error, traceback, drawn, pick, seen, stream)


# What a handler may change of a message that is not its own, and how it is by itself.
_CHANGED = (("is_observed", False), ("scale", 1.0), ("mask", None), ("cond_indep_stack", ()))


def _differs(value: Any, plain: Any) -> bool:
    return type(value) is not type(plain) or value != plain  # a tensor cannot be asked


def _place(mark: Mark, ambient: tuple[Any, ...]) -> int:
    """Where the mark stands on the handler stack: the innermost place, as it may be there twice."""
    for depth in range(len(ambient) - 1, -1, -1):
        if ambient[depth] is mark:
            return depth
    return len(ambient)


def is_decided(msg: Any) -> bool:
    """Has the message got its value already: observed, or set by a handler?"""
    return bool(msg["is_observed"]) or bool(msg["done"]) or msg["value"] is not None


def move_stream(msg: Any) -> None:
    """A value has been drawn for `msg`: a seeded model's random numbers go on from here."""
    if STREAM in msg:
        msg[STREAM] = provider().randomness()


def leave_seeded(before: Any) -> None:
    """Put the random number generators back, if a branch was given up on a seeded stream."""
    state, seeded = None, SEEDED.get()
    while seeded is not None and seeded is not before:
        state, seeded = seeded
    if state is not None:
        provider().restore_randomness(state)
        SEEDED.set(before)


def default_value(msg: Any) -> Any:
    """What an effect that no handler took gives by itself. Raises `UnhandledEffectError`."""
    fn = msg["fn"]
    if callable(fn):
        return fn(*msg["args"], **msg["kwargs"])
    draw = getattr(fn, "rsample" if getattr(fn, "has_rsample", False) else "sample", None)
    if draw is not None:
        return draw(*msg["args"], **msg["kwargs"])
    what = site(msg["type"], msg["name"])
    if msg["type"] == "sample":
        raise UnhandledEffectError(
            f"{what} at {msg.where} cannot be drawn: {fn!r} is no distribution (it has no "
            f"`sample` method and cannot be called)"
        )
    near = [
        f"on_{effect}"
        for entry in AMBIENT.get()
        if type(entry) is Mark
        for effect in difflib.get_close_matches(msg["type"], entry.clauses)
    ]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnhandledEffectError(
        f"no handler takes the effect {what} performed at {msg.where}, and it has no default. "
        f"Install a handler with a method on_{msg['type']}(self, msg, k): "
        f"run(handle(handler, model), ...).{hint}"
    )


_PLAINLY = (
    "a plain call of an ordinary function inside a generator model. There, write "
    "`yield cp.call(function, ...)`"
)


def out_of_reach(msg: Any, mark: Mark, barrier: str | None, plainly: bool = False) -> BarrierError:
    what = site(msg["type"], msg["name"])
    through = (
        _PLAINLY
        if plainly
        else f"the plain clause {barrier}, which called k(...) and waits for its result. Write "
        f"that clause as a generator: `result = yield k(value)` instead of `result = k(value)`"
        if barrier
        else "a call of run(...) inside the handled model. Inside a model, write "
        "`yield model(...)` or `yield from model(...)` instead of `run(model, ...)`"
    )
    return BarrierError(
        f"{mark!r} takes {what}, performed at {msg.where}, but its continuation would have to "
        f"reach through {through}."
    )


def performed_twice(msg: Any) -> BadYieldError:
    return BadYieldError(
        f"the effect {site(msg['type'], msg['name'])}, built at {msg.where}, was yielded a second "
        f"time. A request is performed once: build another one for another draw."
    )


def not_seen(msg: Any, barrier: str | None, plainly: bool = False) -> BarrierError:
    through = (
        f"through {_PLAINLY}"
        if plainly
        else f"inside the plain clause {barrier}, which called k(...) and waits for its result. "
        f"Write that clause as a generator: `result = yield k(value)`, or `return k(value)` in a "
        f"function that has a `yield`"
        if barrier
        else "by a call of run(...) or get_trace(...) inside the model. Inside a model, write "
        "`yield model(...)`; for a random number on purpose, draw it from the distribution itself"
    )
    return BarrierError(
        f"site {msg['name']!r}, performed at {msg.where}, is out of reach of whoever makes the "
        f"choices of this model (such as infer.enumerate): it was performed {through}."
    )


def _bad_yield(request: Any, top: Any) -> BadYieldError:
    place = where(top)
    shown = repr(request)
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    if isinstance(request, Handler):
        hint = "A handler is installed around a model: `yield cp.handle(handler, model)(...)`."
    elif isinstance(request, type) or (callable(request) and not hasattr(request, "log_prob")):
        hint = f"Call it: `yield {getattr(request, '__name__', 'it')}(...)`."
    elif hasattr(request, "log_prob") or hasattr(request, "log_weight"):
        hint = 'A distribution is drawn from by name: `x = yield sample("x", distribution)`.'
    elif hasattr(request, "__await__") or hasattr(request, "__anext__"):
        hint = "contpoutine runs plain generators; async functions cannot be copied."
    elif request is None:
        hint = "A bare `yield` asks for nothing. Yield an effect, or remove the yield."
    else:
        hint = "To give the model's result, use `return`."
    return BadYieldError(
        f"a model yielded {shown} ({type(request).__name__}) at {place}. A model yields effects "
        f"(`yield sample(...)`), calls of other models (`yield model(...)`) and, in a handler's "
        f"clause, resumptions (`yield k(value)`). {hint}"
    )


# --- replay ---------------------------------------------------------------------------------


def check_not_iterators(origin: Origin) -> None:
    """Raise `SharedIteratorError` where a model that runs again was given an iterator."""
    for value in (*origin.args, *origin.kwargs.values()):
        if hasattr(value, "__next__"):
            raise SharedIteratorError(
                f"{describe(origin.model)} was given the iterator {value!r} as an argument. It "
                f"would have to run again from the start, and an iterator can be run through only "
                f"once; pass the list or the function that the iterator comes from."
            )


def rerun(origin: Origin, log: Answer | None, stop_at: Any, complete: bool) -> Computation:
    """Run a model from its start with recorded answers, up to the effect `stop_at`.

    `complete` says that the log has an entry for each effect that left the computation; otherwise
    it has one for each that left undecided. Raises `ReplayDiverged` where the second run asks for
    something else than the first did.
    """
    check_not_iterators(origin)
    now = provider().randomness()
    provider().restore_randomness(origin.randomness)
    origin.entered.restore()
    try:
        body = start(origin.model, origin.args, origin.kwargs, strict=False)
        computation = Computation([body], (), origin)
        # Newest answer first, so that taking one costs nothing.
        computation.feed, computation.complete = in_order(log)[::-1], complete
        event = computation.resume()
    finally:
        provider().restore_randomness(now)
    expected = site(stop_at["type"], stop_at["name"])
    if type(event) is Finished:
        raise ReplayDiverged(expected, "nothing more and returned", describe(origin.model))
    if (event["type"], event["name"]) != (stop_at["type"], stop_at["name"]):
        raise ReplayDiverged(expected, site(event["type"], event["name"]), event.where)
    computation.feed = None
    return computation


def rebuild(k: Continuation) -> Snapshot:
    """The frames of a continuation, made again by replay."""
    computation = rerun(k.origin, k.log, k.msg, complete=True)
    frames, computation.frames = computation.frames, []
    activation = Activation(k.mark, k.origin, k.log)
    if STREAM in k.msg:
        computation.pending[STREAM] = k.msg[STREAM]
    return Snapshot([activation, *frames], (k.mark, *computation.segment), computation.pending)


# --- running --------------------------------------------------------------------------------


def run(model: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a model of either style to its end and give what it returns.

    Effects that no handler takes get their default: `sample` draws. In an ordinary function that
    runs as a model, this is a call like any other: whoever takes the function's effects takes those
    of `model` too. A resumption (`k(value)` of a generator clause, kept for later) can be run as
    well. Raises `NotAModelError` where `model` is none, and whatever the model raises.

    >>> import contpoutine as cp
    >>> def model(n):
    ...     heads = 0
    ...     for i in range(n):
    ...         heads += yield cp.sample(f"coin{i}", cp.distributions.Flip(1.0))
    ...     return heads
    >>> cp.run(model, 3)
    3
    """
    seeded = SEEDED.get()
    try:
        return _run(model, args, kwargs)
    finally:
        if SEEDED.get() is not seeded:
            leave_seeded(seeded)


def _run(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if isinstance(model, Resumption):
        later = Computation([], (), None, driven=False)
        return later._drive(lambda: later._resume(model, last=False)).value
    bridge = BRIDGE.get()
    if callable(model) and not is_generator_model(model):
        before = Plain.performed, bridge and bridge.effects
        body = plainly(model, args, kwargs)
        if type(body) is not GeneratorType:
            if before == (Plain.performed, bridge and bridge.effects):
                raise no_model(model, body)
            return body
    else:
        body = start(model, args, kwargs)
    if bridge is not None:
        return bridge.ask(body)
    return Computation([body], (), None, driven=False).resume().value
