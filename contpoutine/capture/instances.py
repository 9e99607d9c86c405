"""How a fork copies an instance of a class that was written in Python.

Such an instance is its attributes, its slots and, where its class derives from a builtin type, what
that holds: the items of a list, dict, set or deque, the value of a number or a string. It is made
again without calling `__init__`, and everything that it holds is copied in turn, so aliases and
cycles are kept. Classes that keep something else in C, and classes with a `__del__` (it would run
once for each branch), are refused.
"""

from __future__ import annotations

import collections
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

from contpoutine.errors import CaptureError

Copy = Callable[[Any, Any], Any]

_OF_THE_OBJECT = 4  # references: the object's, the caller's, the argument's, getrefcount's
_HEAP, _IMMUTABLE = 1 << 9, 1 << 8  # Py_TPFLAGS_HEAPTYPE, Py_TPFLAGS_IMMUTABLETYPE


def _fill_list(old: Any, fresh: Any, memo: Any) -> None:
    list.extend(fresh, [memo(item) for item in list.__iter__(old)])


def _fill_dict(old: Any, fresh: Any, memo: Any) -> None:
    for key, value in dict.items(old):
        dict.__setitem__(fresh, copy_key(key, memo), memo(value))


def _fill_ordered(old: Any, fresh: Any, memo: Any) -> None:
    ordered = collections.OrderedDict
    for key, value in ordered.items(old):
        ordered.__setitem__(fresh, copy_key(key, memo), memo(value))


def _fill_default(old: Any, fresh: Any, memo: Any) -> None:
    fresh.default_factory = memo(old.default_factory)
    _fill_dict(old, fresh, memo)


def _fill_set(old: Any, fresh: Any, memo: Any) -> None:
    memo.fill_set(old, fresh)


def _fill_deque(old: Any, fresh: Any, memo: Any) -> None:
    collections.deque.__init__(fresh, (), old.maxlen)
    collections.deque.extend(fresh, [memo(item) for item in collections.deque.__iter__(old)])


def _fill_namespace(old: Any, fresh: Any, memo: Any) -> None:
    return None  # it is its attributes


Fill = Callable[[Any, Any, Any], None]

# What an instance holds in C: made empty, then filled.
_FILLED: dict[type, Fill] = {
    list: _fill_list,
    dict: _fill_dict,
    set: _fill_set,
    collections.deque: _fill_deque,
    collections.OrderedDict: _fill_ordered,
    collections.defaultdict: _fill_default,
    types.SimpleNamespace: _fill_namespace,
}
# What is made with its value.
_VALUES: tuple[type, ...] = (int, float, complex, str, bytes)


def copier(cls: type) -> Copy | str:
    """A function (instance, memo) -> copy, or a sentence that says why there is none."""
    builtin: Any = object
    for ancestor in cls.__mro__[:-1]:
        if _is_written_in_python(ancestor):
            continue
        if builtin is object and (ancestor in _FILLED or ancestor in _VALUES):
            builtin = ancestor
        elif not issubclass(builtin, ancestor) or builtin is object:
            return (
                f"derives from {ancestor.__qualname__}, and has no rule that copies what it holds"
            )
    if getattr(cls, "__del__", None) is not None:
        return "has a __del__ method, which would run once for each branch"
    slots = [
        member
        for ancestor in cls.__mro__
        for member in vars(ancestor).values()
        if type(member) is types.MemberDescriptorType and _is_written_in_python(ancestor)
    ]
    if builtin in _VALUES:
        return functools.partial(_copy_value, builtin, slots)
    return functools.partial(_copy, builtin, slots, _is_frozen(cls) and builtin is object)


def _is_written_in_python(cls: type) -> bool:
    return bool(cls.__flags__ & _HEAP and not cls.__flags__ & _IMMUTABLE)


def _is_frozen(cls: type) -> bool:
    params = vars(cls).get("__dataclass_params__")  # of its own: a class derived from it may change
    return params is not None and bool(params.frozen)


def _copy(builtin: Any, slots: list[Any], frozen: bool, old: Any, memo: Any) -> Any:
    cls = type(old)
    memo(cls)  # refused where the model made it
    if frozen and _unchanged(old, slots, memo):
        return old
    fresh = builtin.__new__(cls)
    memo.record(old, fresh)
    if builtin is not object:
        _FILLED[builtin](old, fresh, memo)
    _copy_slots(old, fresh, slots, memo)
    copy_attributes(old, fresh, memo)
    return fresh


def _copy_value(builtin: Any, slots: list[Any], old: Any, memo: Any) -> Any:
    """A number or a string with attributes: shared like a plain one where it has none."""
    cls = type(old)
    memo(cls)
    if not slots and not getattr(old, "__dict__", None):
        return old
    fresh = builtin.__new__(cls, old)
    memo.record(old, fresh)
    _copy_slots(old, fresh, slots, memo)
    copy_attributes(old, fresh, memo)
    return fresh


def _copy_slots(old: Any, fresh: Any, slots: list[Any], memo: Any) -> None:
    for slot in slots:
        try:
            value = slot.__get__(old, type(old))
        except AttributeError:
            continue
        slot.__set__(fresh, memo(value))


def _unchanged(old: Any, slots: list[types.MemberDescriptorType], memo: Any) -> bool:
    """Is all that a frozen dataclass holds shared? Then it is shared itself, like a tuple."""
    values = [slot.__get__(old, type(old)) for slot in slots]
    attributes = getattr(old, "__dict__", {})
    if is_held_apart(attributes):
        return False
    values += attributes.values()
    return all(memo(value) is value for value in values)


def copy_attributes(old: Any, fresh: Any, memo: Any) -> None:
    """What lies in the `__dict__` of an object, where it has one."""
    attributes = getattr(old, "__dict__", None)
    if attributes is not None and is_held_apart(attributes):
        try:
            object.__setattr__(fresh, "__dict__", memo(attributes))
        except (AttributeError, TypeError):
            raise CaptureError("its __dict__ is held from elsewhere too") from None
    elif attributes:
        into = fresh.__dict__
        for name, value in attributes.items():
            into[name] = memo(value)


def is_held_apart(attributes: Any) -> bool:
    """Is the `__dict__` of an object held by somebody else too, as by `d = vars(x)`?

    Then it is a dict with an alias. The caller asks with a local of its own, which counts."""
    return sys.getrefcount(attributes) > _OF_THE_OBJECT


def copy_key(key: Any, memo: Any) -> Any:
    """The key of a mapping as its copy has it.

    Raises CaptureError for one that is copied and known by its contents: those may not be complete
    yet, and a mapping finds its keys by them.
    """
    copied = memo(key)
    if copied is not key:
        cls: Any = type(key)
        if cls.__hash__ is not object.__hash__ or cls.__eq__ is not object.__eq__:
            raise CaptureError("a mapping has a key that the model made and can change")
    return copied
