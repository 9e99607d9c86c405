"""Checkpoints: a suspended computation that can be resumed any number of times, in any run.

A continuation is captured by a handler and lives in the computation that it was taken from. A
checkpoint is the same thing for whoever drives a computation from outside: it outlives the run
that made it. The law is the continuation's: every resumption behaves as if the model had been run
again with the recorded answers.
"""

from __future__ import annotations

from typing import Any

from contpoutine.core.capture import STRATEGY, TAKING, Strategy, provider
from contpoutine.core.continuation import CHANGED, finished, looks_back, place
from contpoutine.core.machine import Computation, rerun
from contpoutine.errors import CaptureError, SharedIteratorError


class Checkpoint:
    """A driven computation, at the message that it waits at.

    The computation has recorded the answers that it was given, so that it can be replayed where it
    cannot be copied: every one of them (`complete`; `undecided` was set before each), or those to
    messages that left it undecided.

    Attributes:
        msg: the pending message.
        why_replayed: why the last resumption was a replay, or None.
    """

    fork_shared = True  # what is resumed is a copy, so branches can share the checkpoint
    fork_opaque = True
    __slots__ = (
        "_complete",
        "_computation",
        "_frozen",
        "_log",
        "_origin",
        "_strategy",
        "_watch",
        "msg",
        "why_replayed",
    )

    def __init__(
        self, computation: Computation, strategy: Strategy | None = None, complete: bool = True
    ) -> None:
        origin = computation.origin
        if origin is None or computation.pending is None:
            raise ValueError("a checkpoint needs a driven computation that waits for an answer")
        self._computation: Computation | None = computation
        self._origin, self._log, self.msg = origin, computation.log, computation.pending.copy()
        self._strategy = STRATEGY.get() if strategy is None else strategy
        self._complete = complete
        self._watch = self._watched(computation)
        self.why_replayed: str | None = None
        # In store, nothing can run the frames, not even the collector of cyclic garbage.
        self._frozen = provider().freeze(computation.frames)

    def resume(self, last: bool = False) -> Computation:
        """A computation that waits at the message, for the caller to answer.

        `last` promises that the checkpoint is not resumed again: nothing is copied then.
        """
        with TAKING:
            return self._take(last)

    def _take(self, last: bool) -> Computation:
        computation = self._computation
        if computation is None:
            return self._rerun()
        if self._frozen is not None:
            provider().thaw(self._frozen)
            self._frozen = None
        if self._watch is not None and not provider().watch_holds(self._watch):
            if self._strategy == "clone":
                raise CaptureError(CHANGED)
            self._origin.copying.add(place(computation.frames))
            self.why_replayed = CHANGED
            computation = self._rerun()
            self._computation, self._watch = computation, self._watched(computation)
        if last or self._strategy == "replay":
            self._computation = None
            return computation
        try:
            self._keep(computation)
        except SharedIteratorError:
            raise
        except CaptureError as error:
            if self._strategy == "clone":
                raise
            self._computation, self.why_replayed = None, str(error)
        return computation

    def _keep(self, computation: Computation) -> None:
        """Keep a copy; the original goes on."""
        copying = self._origin.copying
        tensors = bool(copying) and place(computation.frames) in copying
        self._computation = computation.fork(tensors)
        self._frozen = provider().freeze(self._computation.frames)
        if tensors and self._watch is not None:
            self._watch = provider().still_shared(self._watch, self._watched(self._computation))

    def _watched(self, computation: Computation) -> Any:
        return provider().watch(computation.frames, computation.segment, self._origin.outside)

    def state_key(self, value: Any) -> Any:
        """The state key of the computation answered with `value`; see `Continuation.state_key`."""
        computation = self._computation
        if computation is None:
            raise finished("this checkpoint")
        values = (
            (value, self.msg) if looks_back(computation.segment, self.msg["type"]) else (value,)
        )
        return provider().state_key(
            computation.frames, computation.segment, self._origin.outside, values
        )

    @property
    def innermost(self) -> Any:
        """The frame that performed the effect, to be looked at; None where it was given away."""
        return None if self._computation is None else self._computation.frames[-1]

    def _rerun(self) -> Computation:
        if self.why_replayed is None:
            self.why_replayed = 'capture="replay" was asked for'
        return rerun(self._origin, self._log, self.msg, complete=self._complete)

    def __repr__(self) -> str:
        return f"<checkpoint at {self.msg['type']} {self.msg['name']!r}: {self.msg.where}>"
