"""Continuations: the rest of a computation, up to the handler that asked for it.

A continuation holds the suspended frames and the part of the handler stack between the effect and
its handler. The law: resuming it behaves exactly as if the handled model had been run again with
the answers recorded up to the capture, whatever other resumptions did before. The fast way is a
copy of the frames, made before the first resumption runs, so that the pristine state is kept; where
it cannot be copied, the first resumption moves the frames themselves, and each further one replays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from contpoutine.core.ambient import AMBIENT
from contpoutine.core.capture import STRATEGY, TAKING, WITNESS, Frames, Segment, provider
from contpoutine.core.entering import Entered
from contpoutine.core.messenger import Messenger
from contpoutine.core.native import native
from contpoutine.core.record import Answer
from contpoutine.errors import CaptureError, FinishedError

if TYPE_CHECKING:
    from contpoutine.core.handler import Mark


CHANGED = "another branch changed a tensor in place, or entered a handler, that it shares with it"


class Origin:
    """How a handled computation began: what replay starts from, and what is outside of it."""

    fork_opaque = True  # looking for tensors stops here: nothing of the model's is inside
    __slots__ = (
        "args",
        "copying",
        "entered",
        "hidden",
        "kwargs",
        "model",
        "outside",
        "randomness",
        "value_at",
    )

    def __init__(
        self,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent: Any = None,
        handler: Any = None,
    ) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs
        # The sites that took their default inside, because a handler hid them from further out.
        self.hidden: set[tuple[str, Any]] = set()
        # The places at which forks copy tensors, because branches have changed them in place.
        self.copying: set[tuple[int, int]] = set()
        # For whoever drives the computation: the value at one place of what a site offers.
        self.value_at: Callable[[Origin, Any, int], Any] | None = None
        # What a handler further out has made for itself is outside too: only the handlers on the
        # captured part of the stack belong to the computation.
        installed = [vars(entry) for entry in AMBIENT.get() if isinstance(entry, Messenger)]
        self.outside = provider().outside((model, args, kwargs, installed, handler), parent)
        if self.outside is not None and (installed or handler is not None):
            len(self.outside)  # look now: later these may hold what the model has made
        self.randomness = provider().randomness()
        self.entered = Entered(self.outside)

    def __fork__(self, memo: Callable[[Any], Any]) -> Origin:
        args, kwargs, model = memo(self.args), memo(self.kwargs), memo(self.model)
        same = args is self.args and model is self.model
        if same and all(value is self.kwargs[name] for name, value in kwargs.items()):
            return self
        fresh = Origin.__new__(Origin)
        fresh.model, fresh.args, fresh.kwargs = model, args, kwargs
        fresh.outside = provider().outside((model, args, kwargs), self.outside)
        fresh.randomness, fresh.hidden = self.randomness, self.hidden
        fresh.copying, fresh.entered = self.copying, self.entered
        fresh.value_at = self.value_at
        return fresh


class Activation:
    """The frame that stands for an installed control handler.

    `log` is what the handled computation was answered from the handler or from further out.
    """

    fork_opaque = True  # looking for tensors stops here: nothing of the model's is inside
    __slots__ = ("log", "mark", "origin")

    def __init__(self, mark: Mark, origin: Origin, log: Answer | None) -> None:
        self.mark, self.origin, self.log = mark, origin, log

    def __fork__(self, memo: Callable[[Any], Any]) -> Activation:
        return Activation(memo(self.mark), memo(self.origin), self.log)


class Snapshot:
    """Suspended frames with their part of the handler stack and the message that they wait for.

    The frames are frozen: whatever happens to them, nothing of the model runs until they are taken.
    """

    __slots__ = ("frames", "frozen", "msg", "segment")

    def __init__(self, frames: Frames, segment: Segment, msg: Any) -> None:
        self.frames, self.segment, self.msg = frames, segment, msg
        self.frozen = provider().freeze(frames)

    def fork(self, outside: Any, kept: Any = None, tensors: bool = False) -> Snapshot:
        frames, segment = provider().fork(
            [*self.frames, self.msg], self.segment, outside, kept, tensors
        )
        msg = frames.pop()
        return Snapshot(frames, segment, msg)

    def take(self) -> Frames:
        """The frames, ready to go on. The snapshot is empty then."""
        frames, self.frames = self.frames, []
        provider().thaw(self.frozen)
        self.frozen = None
        return frames

    def __del__(self) -> None:
        if self.frames:
            self.frozen = None
            provider().discard(self.frames)


class Resumption:
    """A request to the machine: resume `k`, answering the effect by a value or an exception."""

    __slots__ = ("error", "k", "value")

    def __init__(self, k: Continuation, value: Any, error: BaseException | None) -> None:
        self.k, self.value, self.error = k, value, error

    def __repr__(self) -> str:
        return f"<resumption of {self.k.clause}, not yet yielded: write `yield k(...)`>"


class Continuation:
    """The rest of a computation from an effect up to its handler; made by the machine.

    In a generator clause, `yield k(value)` resumes and gives the result, `return k(value)` resumes
    as the clause's last act, and `yield k.each(values)` resumes with each value and gives the list
    of results. In a plain clause, `k(value)` runs the rest at once.
    """

    fork_opaque = True  # looking for tensors stops here: nothing of the model's is inside
    __slots__ = (
        "_broken",
        "_moved",
        "_snapshot",
        "_thrown",
        "_watch",
        "clause",
        "log",
        "mark",
        "msg",
        "origin",
        "plain_run",
        "strategy",
        "why_replayed",
    )

    def __init__(
        self,
        frames: Frames,
        segment: Segment,
        msg: Any,
        clause: str,
        plain_run: Callable[[Continuation, Any, BaseException | None], Any] | None,
    ) -> None:
        activation: Activation = frames[0]
        self._snapshot: Snapshot | None = Snapshot(frames, segment, msg)
        self._moved = self._broken = False
        self._thrown: list[tuple[BaseException, TracebackType | None]] = []
        self.origin, self.mark, self.log = activation.origin, activation.mark, activation.log
        self.msg, self.clause = msg, clause
        self.plain_run = plain_run
        self.strategy = STRATEGY.get()
        self.why_replayed: str | None = None
        self._watch = provider().watch(frames, segment, self.origin.outside)
        witness = WITNESS.get()
        if witness is not None:
            witness(self)

    def __call__(self, value: Any = None) -> Any:
        """Resume with `value` as the answer to the effect."""
        return self._resume(value, None)

    def throw(self, error: BaseException | type[BaseException]) -> Any:
        """Resume by raising `error` in the model, at the line that performed the effect."""
        raised: object = error() if isinstance(error, type) else error
        if not isinstance(raised, BaseException):
            raise TypeError(f"k.throw needs an exception, not {error!r}")
        # Thrown again, it starts from the traceback that it had the first time.
        for thrown, traceback in self._thrown:
            if thrown is raised:
                raised.__traceback__ = traceback
                break
        else:
            self._thrown.append((raised, raised.__traceback__))
        return self._resume(None, raised)

    def each(self, values: Iterable[Any]) -> Any:
        """Resume with each value in turn. Gives the list of results."""
        if self.plain_run is not None:
            return [self(value) for value in values]
        return _each(self, values)

    def _resume(self, value: Any, error: BaseException | None) -> Any:
        if self.plain_run is not None:
            return self.plain_run(self, value, error)
        return Resumption(self, value, error)

    def take(self, last: bool) -> Snapshot | None:
        """Frames to run on, or None where they must be rebuilt by replay.

        `last` promises that nobody can resume this continuation again, so its own frames may go.
        """
        with TAKING:
            return self._take(last)

    def _take(self, last: bool) -> Snapshot | None:
        snapshot = self._snapshot
        if snapshot is None or self._moved:
            return None
        if self._watch is not None and not provider().watch_holds(self._watch):
            if self.strategy == "clone":
                raise CaptureError(CHANGED)
            self.origin.copying.add(place(snapshot.frames))
            self.why_replayed, self._broken = CHANGED, True
            self._snapshot = None
            return None
        if last:
            self._moved, self._snapshot = True, None
            return snapshot
        if self.strategy != "replay":
            try:
                self._keep(snapshot)
                return snapshot
            except CaptureError as error:
                if self.strategy == "clone":
                    raise
                self.why_replayed = str(error)
        else:
            self.why_replayed = 'capture="replay" was asked for'
        self._moved, self._snapshot = True, None
        return snapshot

    def repaired(self, snapshot: Snapshot, last: bool) -> Snapshot:
        """Frames that a replay has made, to run on.

        Where they take the place of some that another branch had spoilt, a copy is kept.
        """
        if self._broken and not last and self.strategy == "auto":
            self._watch = provider().watch(snapshot.frames, snapshot.segment, self.origin.outside)
            with contextlib.suppress(CaptureError):
                self._keep(snapshot)
                self._broken = False
        return snapshot

    def _keep(self, snapshot: Snapshot) -> None:
        """Keep a copy. What has been running goes on: so a handler or an object that somebody
        outside holds on to is the one that the first resumption uses."""
        outside = self.origin.outside
        tensors = bool(self.origin.copying) and place(snapshot.frames) in self.origin.copying
        kept = snapshot.fork(outside, tensors=tensors)
        if tensors and self._watch is not None:
            watch = provider().watch(kept.frames, kept.segment, outside)
            self._watch = provider().still_shared(self._watch, watch)
        self._snapshot = kept

    def state_key(self, *answer: Any) -> Any:
        """What the continuation will do, as a hashable key: equal keys have equal futures.

        The key is made of the code, the next instruction, the live locals and the value stack of
        each frame, and of the handlers. With `answer`, it is the key of the continuation resumed
        with that value. What can be changed is told by content, aliases included, and what came
        from outside by identity. A state that holds what has no content to go by has a key that
        equals no other; `key.why_unique` says why.

        Raises:
            CaptureError: the C extension is not there.
            FinishedError: the continuation's frames were moved away by its last resumption.

        >>> import contpoutine as cp
        >>> keys = []
        >>> class Flip(cp.Handler):
        ...     def on_flip(self, msg, k):
        ...         keys.append(k.state_key())
        ...         yield k(0)
        ...         return (yield k(1))
        >>> flip = cp.operation("flip")
        >>> def model():
        ...     a = yield flip()
        ...     a = yield flip()
        ...     return a
        >>> cp.run(cp.handle(Flip(), model))
        1
        >>> keys[0] == keys[1], keys[1] == keys[2]  # `a` is dead at the second one
        (False, True)
        """
        snapshot = self._snapshot
        if snapshot is None or self._moved:
            raise finished(f"the continuation of {self.clause}")
        values = (
            (*answer, snapshot.msg) if looks_back(snapshot.segment, self.msg["type"]) else answer
        )
        outside = self.origin.outside
        return provider().state_key(snapshot.frames, snapshot.segment, outside, values)

    def __fork__(self, memo: Callable[[Any], Any]) -> Continuation:
        """The continuation that a pending clause holds, when an outer handler copies the clause."""
        fresh = Continuation.__new__(Continuation)
        memo.record(self, fresh)  # type: ignore[attr-defined]
        for name in Continuation.__slots__:
            setattr(fresh, name, getattr(self, name))
        fresh.mark, fresh.origin, fresh.msg = memo(self.mark), memo(self.origin), memo(self.msg)
        if self._snapshot is not None:
            frames = [memo(frame) for frame in self._snapshot.frames]
            segment = tuple(memo(entry) for entry in self._snapshot.segment)
            fresh._snapshot = Snapshot(frames, segment, memo(self._snapshot.msg))
        return fresh

    def __repr__(self) -> str:
        return f"<continuation of {self.clause} at {self.msg.where}>"


def place(frames: Frames) -> tuple[int, int]:
    """Where in the code the top frame waits."""
    if native is not None:
        at: tuple[int, int] = native.place(frames[-1])
        return at
    frame = frames[-1].gi_frame
    return id(frame.f_code), frame.f_lasti


def looks_back(segment: Segment, effect: str) -> bool:
    """Will a handler of the segment see the message again, when it has its answer?"""
    return any(
        type(entry)._postprocess_message is not Messenger._postprocess_message
        or hasattr(entry, f"_pyro_post_{effect}")
        for entry in segment
        if isinstance(entry, Messenger)
    )


def _each(k: Continuation, values: Iterable[Any]) -> Any:
    results = []
    for value in values:
        results.append((yield k(value)))
    return results


def finished(what: str) -> FinishedError:
    return FinishedError(
        f"{what} has finished and cannot be resumed. Keep the continuation `k` of the effect "
        f"instead: it can be resumed any number of times."
    )
