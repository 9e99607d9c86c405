"""The 0-dim tensors that scalar torch-backed choices hand to the model, made once.

Making `tensor(1.)` costs more than a branch of the enumeration, so the tensors are kept. A model
may change the one it was given in place, and the next visit must not see that: a tensor is handed
out only while its version counter stands where it stood at creation and nobody asked it for
gradients. (A write through `.data` or a NumPy view escapes torch's own counter, and this check.)
"""

from __future__ import annotations

from collections.abc import Hashable

import torch

_KEPT_MAX = 1024

_kept: dict[Hashable, tuple[torch.Tensor, ...]] = {}


def untouched(values: tuple[torch.Tensor, ...]) -> bool:
    """Whether nobody changed one of these tensors since they were made."""
    for value in values:
        if value._version or value.requires_grad:
            return False
    return True


def fresh(count: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, ...]:
    """New 0-dim tensors 0 ... count - 1, each with a storage and a version counter of its own."""
    with torch.inference_mode(False):  # an inference tensor has no version counter
        return tuple([torch.tensor(n, dtype=dtype, device=device) for n in range(count)])


def value_tensors(count: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, ...]:
    """The tensors 0 ... count - 1; the same objects again as long as nobody changed them."""
    key = (count, dtype, device)
    values = _kept.get(key)
    if values is None or not untouched(values):
        values = fresh(count, dtype, device)
        if count <= _KEPT_MAX:
            _kept[key] = values
    return values
