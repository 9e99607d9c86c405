"""What the machine needs to know about copying: an interface, and a place for who provides it.

`contpoutine.capture` lies above this package and provides the copying; it registers itself here
when it is imported. The machine asks for a `Fork` of suspended frames, and replays where that is
refused.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, get_args

from contpoutine.core.message import pure_quiet
from contpoutine.errors import CaptureError

Strategy = Literal["auto", "clone", "replay"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)

TAKING = threading.RLock()
"""Held while somebody takes frames out of store: two threads may resume one continuation."""

Frames = list[Any]
Segment = tuple[Any, ...]


class Provider(Protocol):
    """How suspended computations are copied, dropped and watched on this interpreter."""

    def fork(
        self,
        frames: Frames,
        segment: Segment,
        outside: Any,
        kept: Any = None,
        tensors: bool = False,
    ) -> tuple[Frames, Segment]:
        """Copies with aliasing kept. Raises CaptureError where something cannot be copied.

        `kept` is an entry of the segment that is not copied. With `tensors`, tensors are copied.
        """

    def discard(self, frames: Frames) -> None:
        """Drop suspended frames without running anything of the model."""

    def freeze(self, frames: Frames) -> Any:
        """Until `thaw` gets what this gives, nothing runs the frames, not even their finalizers."""

    def thaw(self, frozen: Any) -> None:
        """Let frames that were frozen go on."""

    def outside(self, roots: tuple[Any, ...], parent: Any) -> Any:
        """The set of objects that a computation started from `roots` did not make."""

    def watch(self, frames: Frames, segment: Segment, outside: Any) -> Any:
        """What the frames share with other branches and may be changed in place, or None."""

    def watch_holds(self, watch: Any) -> bool:
        """Has nothing that was watched changed since?"""

    def state_key(
        self, frames: Frames, segment: Segment, outside: Any, values: tuple[Any, ...]
    ) -> Any:
        """What the frames will do when they are sent the values: equal keys, equal futures."""

    def still_shared(self, before: Any, after: Any) -> Any:
        """What is watched `after` tensors were copied, of what was watched `before`, or None."""

    def learn(self) -> None:
        """A rule of copying was added."""

    def keep(self, value: Any) -> Any:
        """An answer as it is now: a copy, if the model could change it in place (a tensor)."""

    def randomness(self) -> Any:
        """The states of the global random number generators."""

    def restore_randomness(self, state: Any) -> None:
        """Put the global random number generators back."""


class NoProvider:
    """Replay only: what the machine does before `contpoutine.capture` is imported."""

    def fork(
        self,
        frames: Frames,
        segment: Segment,
        outside: Any,
        kept: Any = None,
        tensors: bool = False,
    ) -> tuple[Frames, Segment]:
        raise CaptureError("native capture is not loaded")

    def discard(self, frames: Frames) -> None:
        # Without the extension a suspended generator cannot be dropped silently: its `finally`
        # blocks run. They do so in a context of their own, where they cannot disturb the handler
        # stack of whoever is running now.
        pure_quiet(+1)
        try:
            while frames:
                close = getattr(frames.pop(), "close", None)
                if close is not None:
                    with contextlib.suppress(Exception):
                        contextvars.copy_context().run(close)
        finally:
            pure_quiet(-1)

    def freeze(self, frames: Frames) -> Any:
        return None

    def thaw(self, frozen: Any) -> None:
        return None

    def outside(self, roots: tuple[Any, ...], parent: Any) -> Any:
        return None

    def watch(self, frames: Frames, segment: Segment, outside: Any) -> Any:
        # Frames are never shared here, but two branches can enter the same handler.
        entered = [(entry, entry._version) for entry in segment if hasattr(entry, "_version")]
        return entered or None

    def watch_holds(self, watch: Any) -> bool:
        return all(entry._version == version for entry, version in watch)

    def state_key(
        self, frames: Frames, segment: Segment, outside: Any, values: tuple[Any, ...]
    ) -> Any:
        raise CaptureError(
            "state keys are read from frames by the C extension, which is not loaded"
        )

    def still_shared(self, before: Any, after: Any) -> Any:
        return before

    def learn(self) -> None:
        return None

    def keep(self, value: Any) -> Any:
        return value

    def randomness(self) -> Any:
        return None

    def restore_randomness(self, state: Any) -> None:
        return None


@dataclass
class _Registry:
    provider: Provider


_registry = _Registry(NoProvider())


def _default_strategy() -> Strategy:
    asked = os.environ.get("CONTPOUTINE_CAPTURE", "auto")
    if asked not in STRATEGIES:
        raise ValueError(f"CONTPOUTINE_CAPTURE must be auto, clone or replay, not {asked!r}")
    return cast(Strategy, asked)


_asked: Strategy = _default_strategy()
STRATEGY: ContextVar[Strategy] = ContextVar("contpoutine_capture", default=_asked)


WITNESS: ContextVar[Callable[[Any], None] | None] = ContextVar("contpoutine_witness", default=None)
"""Who is told of each continuation as it is captured: `explain`, while it runs a model."""


def provide(provider: Provider) -> None:
    """Called once, by `contpoutine.capture`."""
    _registry.provider = provider


def provider() -> Provider:
    return _registry.provider
