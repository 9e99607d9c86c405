"""Equality of values by what they hold.

A tensor hashes by identity and a list does not hash at all, yet "the probability that x is
tensor(1.)" must have one answer whichever tensor object a branch happened to receive.
`content_key(value)` is a hashable stand-in: two values have equal keys exactly when they hold the
same. A plain hashable value is its own key, so `True`, `1` and `1.0` are one value, as they are in
a Python dict; a tensor is told apart by dtype and shape as well.

Torch and NumPy are recognised only where the program has already imported them.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

_ATOMS = frozenset({int, float, bool, str, bytes, complex, type(None)})


class ContentKey(NamedTuple):
    """The key of a value that is not its own key: its kind, and what it holds."""

    kind: Hashable
    content: Hashable


class EqualityKey:
    """The key of an unhashable object of a user's class: equal where the objects are equal."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return hash(type(self.value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EqualityKey) and bool(self.value == other.value)


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def hold_tensor_type(kinds: Iterable[type]) -> bool:
    """Whether one of these types is torch's tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and any(issubclass(kind, torch.Tensor) for kind in kinds)


def is_array(value: Any) -> bool:
    """Whether `value` is a NumPy array; never imports NumPy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def content_key(value: Any) -> Hashable:
    """A hashable key, equal for values that hold the same.

    >>> content_key(3), content_key("a")
    (3, 'a')
    >>> content_key([1, 2]) == content_key([1, 2]), content_key([1, 2]) == content_key((1, 2))
    (True, False)
    """
    kind = type(value)
    if kind in _ATOMS:
        return "nan" if value != value else value
    if is_tensor(value):
        return _tensor_key(value)
    if is_array(value):
        # adding zero makes -0.0 and 0.0 one value, as == has it
        data = value + 0 if value.dtype.kind in "fc" else value
        return ContentKey(("array", str(value.dtype), value.shape), data.tobytes())
    if isinstance(value, tuple):
        return tuple([content_key(item) for item in value])
    if isinstance(value, list):
        return ContentKey("list", tuple([content_key(item) for item in value]))
    if isinstance(value, dict):
        return ContentKey("dict", frozenset((k, content_key(v)) for k, v in value.items()))
    if isinstance(value, set):
        return frozenset(value)
    try:
        hash(value)
    except TypeError:
        return EqualityKey(value)
    return value  # type: ignore[no-any-return]


def _tensor_key(tensor: Any) -> ContentKey:
    tensor = tensor.detach()
    kind = ("tensor", tensor.dtype, tuple(tensor.shape))
    if not kind[2]:
        return ContentKey(kind, content_key(tensor.item()))
    if tensor.is_floating_point() or tensor.is_complex():
        tensor = tensor + 0
    raw = tensor.cpu().contiguous().reshape(-1).view(sys.modules["torch"].uint8)
    return ContentKey(kind, raw.numpy().tobytes())
