"""How a fork copies tensors, at a place where branches have changed them in place.

Tensors are shared and watched. Where one branch changed a tensor that another one needs, that other
one is replayed, and from then on forks at this place copy the tensors that the computation made.
Tensors that looked into one storage look into one copy of it. What this cannot be done for stays
shared and watched: a tensor that needs gradients, one over memory that is not torch's own.
"""

from __future__ import annotations

import sys
from typing import Any

from contpoutine.capture.instances import copier, copy_attributes
from contpoutine.errors import CaptureError

_SHARED: Any = None


def copy_tensors(old: Any, memo: Any) -> Any:
    """A tensor, or a distribution that may hold tensors, as another branch gets it."""
    torch = sys.modules["torch"]
    if not isinstance(old, torch.Tensor):
        copy = copier(type(old))
        if isinstance(copy, str):
            raise CaptureError(f"a {type(old).__qualname__} object {copy}")
        return copy(old, memo)
    if old.layout is not torch.strided or old.is_inference() or torch.is_inference_mode_enabled():
        return old
    storage = old.untyped_storage()
    # The address stays the storage's own for the time of the fork, as the note holds on to it.
    _, fresh_storage = memo.notes.get(storage._cdata, (storage, _SHARED))
    if _is_plain(old, torch):
        if storage._cdata not in memo.notes:
            fresh_storage = storage.clone() if storage.resizable() else _SHARED
            memo.notes[storage._cdata] = storage, fresh_storage
        if fresh_storage is _SHARED:
            return old
        empty = torch.empty(0, dtype=old.dtype, device=old.device)
        fresh = empty.set_(fresh_storage, old.storage_offset(), old.size(), old.stride())
        memo.record(old, fresh)
        copy_attributes(old, fresh, memo)
        return fresh
    if fresh_storage is not _SHARED:
        raise CaptureError("a tensor that is copied shares its memory with one that cannot be")
    memo.notes[storage._cdata] = storage, _SHARED
    return old


def _is_plain(tensor: Any, torch: Any) -> bool:
    """Is the tensor nothing but a view of its memory?"""
    return (
        type(tensor) is torch.Tensor
        and not tensor.requires_grad
        and not tensor.is_quantized
        and not tensor.is_conj()
        and not tensor.is_neg()
    )


def still_shared(before: list[Any], after: list[Any] | None) -> list[Any] | None:
    """What of the watched objects `before` a copy has as well: `after` is what that watches."""
    if after is None:
        return None
    old = {id(watched) for watched in before[::2]}
    pairs = zip(after[::2], after[1::2], strict=True)
    kept = [x for pair in pairs if id(pair[0]) in old for x in pair]
    return kept or None
