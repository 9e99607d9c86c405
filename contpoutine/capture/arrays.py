"""How a fork copies NumPy's objects.

An array that owns its memory is copied with its layout; a view is made again over the copy of the
array it looks into, so arrays that shared a buffer still do. Scalars and dtypes never change.
Generators are made again with the state that they have. An array over memory that is not an array's
(a tensor's, a file's) is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from contpoutine.errors import CaptureError

Rule = str | Callable[[Any, Any], Any]


def rule(cls: type, numpy: Any) -> Rule | None:
    """The rule for a type of NumPy's, or None where it has none."""
    if cls is numpy.ndarray:
        return copy_array
    if issubclass(cls, numpy.generic) and not issubclass(cls, (numpy.void, numpy.object_)):
        return "share" if str(cls.__module__).partition(".")[0] == "numpy" else None
    if issubclass(cls, (numpy.dtype, numpy.ufunc)):
        return "share"
    random = sys.modules.get("numpy.random")
    if random is not None and hasattr(random, "Generator"):
        if cls is random.Generator or cls is random.RandomState:
            return _copy_generator if cls is random.Generator else _copy_random_state
        if issubclass(cls, random.BitGenerator) and cls.__module__.startswith("numpy.random"):
            return _copy_bit_generator
        if cls is random.SeedSequence:
            return _copy_seeds
    return None


def copy_array(old: Any, memo: Any) -> Any:
    """A copy of an array, or a view like `old` into the copy of what it looks into."""
    numpy = sys.modules["numpy"]
    base = old.base
    if base is None:
        fresh = old.copy(order="K")
        if fresh.strides != old.strides:
            raise CaptureError("a NumPy array with gaps in its memory cannot be copied")
        memo.record(old, fresh)
        if old.dtype.hasobject:
            _copy_items(fresh, memo)
    elif type(base) is numpy.ndarray:
        fresh = _view(old, base, memo(base), numpy)
    else:
        raise CaptureError(
            f"a NumPy array over the memory of a {type(base).__qualname__} object cannot be copied"
        )
    if fresh.flags.writeable != old.flags.writeable:
        fresh.flags.writeable = old.flags.writeable
    return fresh


def _copy_items(fresh: Any, memo: Any) -> None:
    if fresh.dtype != object:
        raise CaptureError("a structured NumPy array that holds objects cannot be copied")
    flat = fresh.reshape(-1, order="A") if fresh.flags.forc else None
    if flat is None or flat.base is not fresh:
        raise CaptureError("a NumPy array of objects with this layout cannot be copied")
    for i in range(flat.size):
        flat[i] = memo(flat[i])


def _view(old: Any, base: Any, fresh_base: Any, numpy: Any) -> Any:
    if old.dtype.hasobject or base.dtype.hasobject or not base.flags.forc:
        raise CaptureError("a view into a NumPy array of objects, or one with gaps, is not copied")
    start = old.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    memory = fresh_base.reshape(-1, order="A")  # as it lies in memory: a view, for it has no gaps
    return numpy.ndarray(old.shape, old.dtype, memory, start, old.strides)


# --- random numbers -----------------------------------------------------------------------------


def _copy_seeds(old: Any, memo: Any) -> Any:
    return type(old)(
        old.entropy,
        spawn_key=old.spawn_key,
        pool_size=old.pool_size,
        n_children_spawned=old.n_children_spawned,
    )


def _copy_bit_generator(old: Any, memo: Any) -> Any:
    cls = type(old)
    seeds = getattr(old, "seed_seq", None) or getattr(old, "_seed_seq", None)
    if type(seeds) is sys.modules["numpy.random"].SeedSequence:
        fresh = cls(memo(seeds))
    else:  # seeded in an older way, and cannot spawn
        fresh = cls(0)
    fresh.state = old.state
    return fresh


def _copy_generator(old: Any, memo: Any) -> Any:
    return type(old)(memo(old.bit_generator))


def _copy_random_state(old: Any, memo: Any) -> Any:
    fresh = type(old)(memo(old._bit_generator))
    fresh.set_state(old.get_state(legacy=False))
    return fresh
