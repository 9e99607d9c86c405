"""What the state key of an instance is made of: the part that is decided in Python.

C writes down numbers, strings, the builtin containers, cells, functions, iterators and generators
by itself (`native/state_key.c`). For any other type it asks `content_rule` once, and keeps the
answer, a pair of one of these and what belongs to it:

    IDENTITY    nothing in it changes: it is told by which object it is
    VALUE       f(instance) -> tuple of its parts; it never changes, so equal parts are the same
    STATE       f(instance) -> tuple of its parts; it can change, so aliases are told apart
    INSTANCE    its slots (member descriptors) and its `__dict__`; the attributes to leave out
    MEMORY      f(instance) -> (address of the memory, part, ...), for views on one buffer
    WORDS       an iterator: the words of its struct, and what they refer to
    UNKEYABLE   a sentence that says why: a state that holds one equals no other state

What has no rule is UNKEYABLE. A class of a user's own may define `__state_key__(self)`, which gives
a tuple that says everything about the instance that a model could notice.

The functions make no object that can be changed but tuples: aliases are found by address.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import gc
import pathlib
import random
import sys
import types
import uuid
from collections.abc import Callable
from typing import Any

from contpoutine.capture import ownership
from contpoutine.capture.instances import copier, is_held_apart
from contpoutine.core.continuation import Activation, Continuation, Origin
from contpoutine.core.handler import Mark
from contpoutine.core.messenger import Messenger

IDENTITY, VALUE, STATE, INSTANCE, MEMORY, WORDS, UNKEYABLE = range(7)

Rule = tuple[int, Any]
Parts = tuple[Any, ...]

MAX_BYTES = 4096
"""Tensors and arrays up to this size are compared by content."""


def _reduced(x: Any) -> Parts:
    parts = x.__reduce_ex__(4)
    return tuple(parts) if isinstance(parts, tuple) else (parts,)


def _attributes(x: Any) -> Parts:
    attributes = getattr(x, "__dict__", None)
    if attributes is None:
        return ()
    return (attributes,) if is_held_apart(attributes) else tuple(attributes.items())


def _viewed(x: Any) -> Parts:
    return tuple(gc.get_referents(x))


def _partial(x: Any) -> Parts:
    return x.func, x.args, tuple(x.keywords.items()), _attributes(x)


def _continuation(k: Continuation) -> Parts | None:
    snapshot = k._snapshot
    if snapshot is None or snapshot.segment or k._thrown:
        return None
    return k.mark, k.clause, tuple(snapshot.frames)


_RULES: dict[type, Rule] = {
    fractions.Fraction: (VALUE, lambda x: (x.numerator, x.denominator)),
    decimal.Decimal: (VALUE, lambda x: (str(x),)),
    uuid.UUID: (VALUE, lambda x: (x.int,)),
    **dict.fromkeys(
        (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath),
        (VALUE, lambda x: (str(x),)),
    ),
    **dict.fromkeys(
        (datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
        (VALUE, _reduced),
    ),
    slice: (VALUE, _reduced),
    types.GenericAlias: (VALUE, lambda x: (x.__origin__, x.__args__, x.__unpacked__)),
    types.UnionType: (VALUE, lambda x: x.__args__),
    **dict.fromkeys(ownership.WORD_BY_WORD, (WORDS, None)),
    type(iter(ownership._Sequence())): (WORDS, None),
    type(iter(range(2**70))): (STATE, _reduced),
    collections.deque: (STATE, lambda x: (x.maxlen, tuple(x))),
    collections.defaultdict: (STATE, lambda x: (x.default_factory, tuple(x.items()))),
    collections.OrderedDict: (STATE, lambda x: (tuple(x.items()), _attributes(x))),
    collections.Counter: (STATE, lambda x: (tuple(x.items()), _attributes(x))),
    type({}.keys()): (STATE, _viewed),
    type({}.values()): (STATE, _viewed),
    type({}.items()): (STATE, _viewed),
    functools.partial: (STATE, _partial),
    random.Random: (STATE, lambda x: (x.getstate(),)),
    types.SimpleNamespace: (STATE, _attributes),
    types.MethodWrapperType: (VALUE, lambda x: (x.__self__, x.__name__)),
    object: (IDENTITY, None),
    Activation: (STATE, lambda x: (x.mark,)),
    Mark: (STATE, lambda x: (x.handler,)),
    Origin: (STATE, lambda x: (x.model, x.args, tuple(x.kwargs.items()))),
    Continuation: (STATE, _continuation),
}


def content_rule(cls: type) -> Rule:
    """How the state key reads an instance of this type."""
    if cls in _RULES:
        return _RULES[cls]
    if getattr(cls, "__state_key__", None) is not None:
        frozen = any(base.__dict__.get("fork_shared") is True for base in cls.__mro__)
        return (VALUE if frozen else STATE), _said
    if issubclass(cls, (enum.Enum, type, types.ModuleType)):
        return IDENTITY, None
    if any(base.__dict__.get("fork_shared") is True for base in cls.__mro__):
        return IDENTITY, None
    arrays = _of_arrays(cls)
    if arrays is not None:
        return arrays
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return VALUE, _named_tuple
    if issubclass(cls, BaseException):
        return UNKEYABLE, "is an exception, which knows where it was raised"
    return _of_instances(cls)


def _said(x: Any) -> Parts:
    parts = x.__state_key__()
    if type(parts) is not tuple:
        raise TypeError(f"{type(x).__qualname__}.__state_key__ must give a tuple, not {parts!r}")
    return parts


def _named_tuple(x: Any) -> Parts:
    return tuple(x), _attributes(x)


_BORN = vars(Messenger)["_born"]  # says when a handler was made, and nothing of what it will do
_UNREAD = (set, collections.deque, collections.OrderedDict, collections.defaultdict)


def _of_instances(cls: type) -> Rule:
    """Classes that were written in Python, whatever they hold; others are told by what a fork does
    with them: where it shares them, they are told by identity."""
    known = ownership.RULES.get(cls)
    if known == ownership.SHARE:
        return IDENTITY, None
    if known is not None:
        return UNKEYABLE, "has no rule that says what it is made of"
    if ownership._root(cls) in ownership._LIBRARIES and cls not in ownership._COPIED:
        if not issubclass(cls, Messenger):
            return UNKEYABLE, "belongs to a library, and has no rule that says what it is made of"
    how = copier(cls)
    if isinstance(how, str):
        return UNKEYABLE, how
    if issubclass(cls, _UNREAD):
        return UNKEYABLE, "derives from a container whose items no rule reads"
    if issubclass(cls, (int, float, complex, str, bytes)):
        return UNKEYABLE, "is a value of a class of its own, and has attributes"
    slots = tuple(
        member
        for ancestor in cls.__mro__
        for member in vars(ancestor).values()
        if type(member) is types.MemberDescriptorType and member is not _BORN
    )
    for base, items in ((list, _items_of_list), (dict, _items_of_dict)):
        if issubclass(cls, base):
            return STATE, functools.partial(_with_items, items, slots)
    left_out = frozenset({"_version"} if issubclass(cls, Messenger) else ())
    return INSTANCE, (slots, left_out, _is_value(cls))


def _is_value(cls: Any) -> bool:
    """Is one instance as good as an equal one? A frozen dataclass is, unless it compares by which
    it is; a class that only derives from one can have attributes that change."""
    params = vars(cls).get("__dataclass_params__")
    return params is not None and params.frozen and cls.__eq__ is not object.__eq__


def _items_of_list(x: Any) -> Parts:
    return tuple(list.__iter__(x))


def _items_of_dict(x: Any) -> Parts:
    return tuple(dict.items(x))


def _with_items(items: Callable[[Any], Parts], slots: Parts, x: Any) -> Parts:
    held: list[Parts] = []
    for slot in slots:
        try:
            held.append((slot.__get__(x, type(x)),))
        except AttributeError:
            held.append(())
    return items(x), tuple(held), _attributes(x)


# --- torch and NumPy, where the program has imported them -----------------------------------------


def _of_arrays(cls: type) -> Rule | None:
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "Tensor"):
        if issubclass(cls, torch.Tensor):
            if cls in (torch.Tensor, torch.nn.Parameter):
                return MEMORY, _tensor
            return UNKEYABLE, "is a tensor of a class of its own"
        if issubclass(cls, torch.distributions.Distribution):
            if ownership._root(cls) in ownership._DISTRIBUTIONS:
                return INSTANCE, ((), frozenset(), True)
        if issubclass(cls, torch.Size):
            return VALUE, tuple
        if issubclass(cls, torch.device):
            return VALUE, lambda x: (str(x),)
        if issubclass(cls, torch.dtype):
            return IDENTITY, None
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "ndarray"):
        if cls is numpy.ndarray:
            return MEMORY, _array
        if issubclass(cls, numpy.generic) and not issubclass(cls, numpy.void | numpy.object_):
            return VALUE, lambda x: (x.dtype.str, x.tobytes())
        if issubclass(cls, numpy.dtype):
            return VALUE, lambda x: (x.str, repr(x))
    return None


def _tensor(x: Any) -> Parts | None:
    """Address of its memory, how it lies there, what is there. None: by identity and version."""
    torch = sys.modules["torch"]
    plain = x.layout is torch.strided and x.device.type == "cpu" and not x.is_quantized
    if x.requires_grad or not plain or x.numel() * x.element_size() > MAX_BYTES:
        return None
    if getattr(x, "_is_view", bool)() and x._base is not None and x._base.requires_grad:
        return None
    if x._base is None and x.untyped_storage().nbytes() > x.numel() * x.element_size():
        return None  # there is more behind it, which `as_strided` reaches
    # A copy: what NumPy is lent can no longer be watched.
    raw = x.detach().clone(memory_format=torch.contiguous_format).resolve_conj().resolve_neg()
    content = raw.reshape(-1).view(torch.uint8).numpy().tobytes()
    layout = (str(x.dtype), tuple(x.shape), x.stride(), x.storage_offset())
    return x.untyped_storage().data_ptr(), type(x), layout, content, x._base, _attributes(x)


def _array(x: Any) -> Parts | None:
    """The same for an array that holds no Python objects."""
    if x.dtype.hasobject or x.nbytes > MAX_BYTES:
        return None
    owner = x
    while type(owner.base) is type(x):
        owner = owner.base
    if owner.base is not None:
        return None  # on somebody else's memory
    start = owner.__array_interface__["data"][0]
    offset = x.__array_interface__["data"][0] - start
    layout = (repr(x.dtype), x.shape, x.strides, offset, bool(x.flags.writeable))
    return start, layout, x.tobytes(), x.base
