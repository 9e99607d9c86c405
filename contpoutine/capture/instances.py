"""How a fork copies an instance of a class that was written in Python.

Such an instance is its attributes, its slots and, where its class derives from list or dict, its
items. It is made again without calling `__init__`, and everything that it holds is copied in turn,
so aliases and cycles are kept. Classes that keep something in C besides, and classes with a
`__del__` (it would run once for each branch), are refused.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from contpoutine.errors import CaptureError

Copy = Callable[[Any, Any], Any]

_HEAP, _IMMUTABLE = 1 << 9, 1 << 8  # Py_TPFLAGS_HEAPTYPE, Py_TPFLAGS_IMMUTABLETYPE


def copier(cls: type) -> Copy | str:
    """A function (instance, memo) -> copy, or a sentence that says why there is none."""
    made_of: Any = object
    for ancestor in cls.__mro__[:-1]:
        if ancestor in (list, dict):
            made_of = ancestor
        elif not ancestor.__flags__ & _HEAP or ancestor.__flags__ & _IMMUTABLE:
            return (
                f"derives from {ancestor.__qualname__}, and has no rule that copies what it holds"
            )
    if getattr(cls, "__del__", None) is not None:
        return "has a __del__ method, which would run once for each branch"
    slots = [
        member
        for ancestor in cls.__mro__
        for member in vars(ancestor).values()
        if type(member) is types.MemberDescriptorType
    ]
    frozen = getattr(getattr(cls, "__dataclass_params__", None), "frozen", False)

    def copy(old: Any, memo: Any) -> Any:
        memo(cls)  # refused where the model made it
        if frozen and made_of is object and _unchanged(old, slots, memo):
            return old
        fresh = made_of.__new__(cls)
        memo.record(old, fresh)
        if made_of is list:
            list.extend(fresh, [memo(item) for item in list.__iter__(old)])
        elif made_of is dict:
            for key, value in dict.items(old):
                dict.__setitem__(fresh, same_key(key, memo), memo(value))
        for slot in slots:
            try:
                value = slot.__get__(old, cls)
            except AttributeError:
                continue
            slot.__set__(fresh, memo(value))
        copy_attributes(old, fresh, memo)
        return fresh

    return copy


def _unchanged(old: Any, slots: list[types.MemberDescriptorType], memo: Any) -> bool:
    """Is all that a frozen dataclass holds shared? Then it is shared itself, like a tuple."""
    values = [slot.__get__(old, type(old)) for slot in slots]
    values += getattr(old, "__dict__", {}).values()
    return all(memo(value) is value for value in values)


def copy_attributes(old: Any, fresh: Any, memo: Any) -> None:
    """What lies in the `__dict__` of an object, where it has one."""
    attributes = getattr(old, "__dict__", None)
    if attributes:
        into = fresh.__dict__
        for name, value in attributes.items():
            into[name] = memo(value)


def same_key(key: Any, memo: Any) -> Any:
    """A key of a mapping that is copied. Raises CaptureError for one that would be copied too."""
    if memo(key) is not key:
        raise CaptureError("a mapping has a key that the model made and can change")
    return key
