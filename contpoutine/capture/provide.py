"""What this interpreter can do, and the provider of copies that the machine uses."""

from __future__ import annotations

import operator
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from contpoutine.capture import ownership, pure_rest, randomness, tensors
from contpoutine.capture.content import content_rule
from contpoutine.capture.liveness import live_slots
from contpoutine.core import native as extension
from contpoutine.core.capture import Frames, NoProvider, Segment, provide
from contpoutine.errors import CaptureError

_PLAIN = frozenset({bool, int, float, str, type(None)})


def keep(value: Any) -> Any:
    """An answer as it is now: a copy of what the model could change in place.

    Tensors and the builtin containers are copied; an instance is itself, for who meets it again may
    know it by its identity. So is the leaf tensor of a parameter, which is outside of the model.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in (list, set):
        return kind(keep(item) for item in value)
    if kind is dict:
        return {key: keep(item) for key, item in value.items()}
    if kind is tuple:
        items = tuple([keep(item) for item in value])
        return value if all(map(operator.is_, items, value)) else items
    if kind is bytearray:
        return bytearray(value)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "Tensor") and isinstance(value, torch.Tensor):
        return _keep_tensor(value)
    return value


def _keep_tensor(value: Any) -> Any:
    unconstrained = getattr(value, "unconstrained", None)
    if unconstrained is None:
        return value.clone()
    if value.is_leaf and value.requires_grad:
        return value
    kept = value.clone()  # of a constrained parameter: it still knows its leaf
    kept.unconstrained = unconstrained
    return kept


class _Records:
    """What both providers do alike: keep answers, and the states of the random generators."""

    def keep(self, value: Any) -> Any:
        return keep(value)

    def randomness(self) -> Any:
        return randomness.snapshot()

    def restore_randomness(self, state: Any) -> None:
        randomness.restore(state)


class NativeProvider(_Records):
    """Copies by the C extension."""

    def __init__(self, native: ModuleType) -> None:
        self._native = native
        self.learn()
        native.set_pure_rest(pure_rest.reads_before_return)
        native.set_skipped_packages(
            frozenset(sys.stdlib_module_names)
            | {"contpoutine", "torch", "numpy", "pyro", "pandas", "scipy", "matplotlib"}
        )
        self._outside = native.Outside
        self._state_key = native.state_key
        self.still_shared = tensors.still_shared
        self.fork = native.fork
        self.freeze = native.freeze
        self.thaw = native.thaw
        self.discard = native.discard
        self.watch = native.watch
        self.watch_holds = native.watch_holds

    def learn(self) -> None:
        self._native.set_rules(
            ownership.classify, ownership.is_global, ownership.RULES, tensors.copy_tensors
        )
        self._native.set_key_rules(content_rule, live_slots)

    def outside(self, roots: tuple[Any, ...], parent: Any) -> Any:
        return self._outside(roots, parent)

    def state_key(
        self, frames: Frames, segment: Segment, outside: Any, values: tuple[Any, ...]
    ) -> Any:
        return self._state_key(tuple(frames), segment, outside, values)


class ReplayProvider(_Records, NoProvider):
    """No copies, but a replay sees the same global random numbers as the first run."""

    def fork(
        self,
        frames: Frames,
        segment: Segment,
        outside: Any,
        kept: Any = None,
        tensors: bool = False,
    ) -> tuple[Frames, Segment]:
        raise CaptureError(extension.reason)

    def state_key(
        self, frames: Frames, segment: Segment, outside: Any, values: tuple[Any, ...]
    ) -> Any:
        raise CaptureError(
            f"state keys are read from frames by the C extension: {extension.reason}"
        )


@dataclass(frozen=True)
class Capabilities:
    """What this interpreter can do.

    Attributes:
        native: suspended computations are cloned in C. Otherwise they are replayed: the same
            results, at the price of running the model again for each resumption.
        reason: which extension is in use, or why there is none.
    """

    native: bool
    reason: str

    def __str__(self) -> str:
        how = "native capture" if self.native else "replay only"
        return f"{how}: {self.reason}"


def capabilities() -> Capabilities:
    """Is native capture active on this interpreter, and if not, why?

    >>> import contpoutine
    >>> contpoutine.capabilities().native in (True, False)
    True
    """
    return Capabilities(extension.native is not None, extension.reason)


provide(NativeProvider(extension.native) if extension.native is not None else ReplayProvider())
