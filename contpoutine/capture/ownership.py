"""What a fork does with an object that the computation made: the part that is decided in Python.

C copies the builtin containers, cells, functions, generators and exceptions by itself
(`native/clone.c`). For an instance of any other type it asks `classify` once, and keeps the answer:

    SHARE     instances never change (or are immutable to models), so branches share them
    WATCH     shared, but their version counter is compared before a branch goes on (tensors)
    HOLDS     shared, and may hold tensors, which are watched (torch distributions)
    ITERATE   an iterator that is copied word by word, with what it refers to copied in turn
    COUNT     an iterator with arrays of its own (product, permutations), see native/itertools.c
    GROUP     groupby and its groups, likewise
    callable  copies one instance: f(instance, memo) -> copy
    sentence  cannot be copied, and the sentence says why; the computation falls back on replay

What has no rule here is refused: nothing is shared because nobody knew better.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import enum
import fractions
import functools
import gc
import itertools
import operator
import pathlib
import random
import re
import sys
import types
import uuid
from collections.abc import Callable
from typing import Any

from contpoutine.capture import arrays
from contpoutine.capture.instances import copier, copy_attributes, copy_key
from contpoutine.errors import CaptureError

Rule = str | Callable[[Any, Any], Any]

SHARE, WATCH, HOLDS = "share", "watch", "holds"
ITERATE, COUNT, GROUP = "iterate", "count", "group"

IMMUTABLE: tuple[type, ...] = (
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    decimal.Decimal,
    fractions.Fraction,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    pathlib.PosixPath,
    uuid.UUID,
    re.Pattern,
    types.TracebackType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.GenericAlias,
    types.UnionType,
)

# Iterators whose C struct is made of numbers and references only, each reference reported by
# tp_traverse. The iterators of a deque and of an OrderedDict are not: they point into its memory.
WORD_BY_WORD: tuple[type, ...] = (
    type(iter([])),
    type(reversed([])),
    type(iter(())),
    type(iter("a")),
    type(iter("\u1234")),
    type(iter(b"")),
    type(iter(bytearray())),
    type(iter(range(0))),
    type(iter({})),
    type(iter({}.values())),
    type(iter({}.items())),
    type(reversed({})),
    type(reversed({}.values())),
    type(reversed({}.items())),
    type(iter(set())),
    type(iter(int, 1)),
    reversed,
    enumerate,
    zip,
    map,
    filter,
    itertools.count,
    itertools.cycle,
    itertools.repeat,
    itertools.chain,
    itertools.islice,
    itertools.accumulate,
    itertools.takewhile,
    itertools.dropwhile,
    itertools.filterfalse,
    itertools.starmap,
    itertools.compress,
    itertools.zip_longest,
    itertools.pairwise,
    getattr(itertools, "batched", itertools.pairwise),  # from 3.12 on
)
# The same, but what lies in a word that is not in use yet is anything at all.
TEE: tuple[type, ...] = (
    type(itertools.tee(())[0]),
    itertools._tee_dataobject,  # type: ignore[attr-defined]
)
COUNTING: tuple[type, ...] = (
    itertools.product,
    itertools.permutations,
    itertools.combinations,
    itertools.combinations_with_replacement,
)
GROUPING: tuple[type, ...] = (itertools.groupby, itertools._grouper)  # type: ignore[attr-defined]


# What these make at run time is no model's.
_LIBRARIES = (sys.stdlib_module_names | {"contpoutine", "torch", "numpy"}) - {"types", "__main__"}


# Classes of the standard library that are no more than their attributes.
_COPIED: tuple[type, ...] = (
    collections.ChainMap,
    collections.UserDict,
    collections.UserList,
    contextlib.ExitStack,
    contextlib._GeneratorContextManager,
    contextlib.closing,
    contextlib.nullcontext,
    contextlib.suppress,
)


class _Sequence:
    """An object that is iterable by `__getitem__` only: its iterator has a type of its own."""

    def __getitem__(self, index: int) -> int:
        raise IndexError


def _copy_deque(old: Any, memo: Any) -> Any:
    fresh: Any = collections.deque(maxlen=old.maxlen)
    memo.record(old, fresh)
    fresh.extend(memo(item) for item in old)
    return fresh


def _copy_defaultdict(old: Any, memo: Any) -> Any:
    fresh: Any = collections.defaultdict()
    memo.record(old, fresh)
    fresh.default_factory = memo(old.default_factory)
    for key, value in old.items():
        fresh[copy_key(key, memo)] = memo(value)
    return fresh


def _copy_mapping(old: Any, memo: Any) -> Any:
    fresh = type(old)()
    memo.record(old, fresh)
    for key, value in old.items():
        fresh[copy_key(key, memo)] = memo(value)
    copy_attributes(old, fresh, memo)
    return fresh


def _copy_match(old: Any, memo: Any) -> Any:
    if type(old.string) not in (str, bytes):
        raise CaptureError("a match in a buffer that can change cannot be copied")
    return old


def _copy_by_reduce(old: Any, memo: Any) -> Any:
    make, args = old.__reduce__()
    new_make, new_args = memo(make), memo(args)
    if new_make is make and new_args is args:
        return old
    return new_make(*new_args)


def _copy_method_wrapper(old: Any, memo: Any) -> Any:
    owner = memo(old.__self__)
    return old if owner is old.__self__ else getattr(owner, old.__name__)


def _copy_view(method: str) -> Callable[[Any, Any], Any]:
    def copy(old: Any, memo: Any) -> Any:
        (mapping,) = gc.get_referents(old)  # the view's own `mapping` is a proxy of the dict
        return getattr(memo(mapping), method)()

    return copy


def _copy_long_range(old: Any, memo: Any) -> Any:
    make, args, *state = old.__reduce__()
    fresh = make(*args)
    if state and state[0] is not None:
        fresh.__setstate__(state[0])
    return fresh


def _copy_partial(old: Any, memo: Any) -> Any:
    func, args, keywords = memo(old.func), memo(old.args), old.keywords
    values = {name: memo(value) for name, value in keywords.items()}
    unchanged = func is old.func and args is old.args and not vars(old)
    if unchanged and all(values[name] is keywords[name] for name in keywords):
        return old
    fresh = functools.partial(func, *args, **values)
    copy_attributes(old, fresh, memo)
    return fresh


def _copy_random(old: Any, memo: Any) -> Any:
    cls: Any = type(old)
    memo(cls)
    fresh = cls.__new__(cls)
    memo.record(old, fresh)
    copy_attributes(old, fresh, memo)
    random.Random.setstate(fresh, random.Random.getstate(old))
    return fresh


def _copy_namespace(old: Any, memo: Any) -> Any:
    fresh = types.SimpleNamespace()
    memo.record(old, fresh)
    copy_attributes(old, fresh, memo)
    return fresh


def _copy_proxy(old: Any, memo: Any) -> Any:
    (mapping,) = gc.get_referents(old)
    if type(mapping) is not dict or "__module__" in mapping:
        raise CaptureError("a mappingproxy of something else than a plain dict cannot be copied")
    same = memo(mapping)
    return old if same is mapping else types.MappingProxyType(same)


RULES: dict[type, Rule] = {
    **dict.fromkeys(IMMUTABLE, SHARE),
    **dict.fromkeys(WORD_BY_WORD, ITERATE),
    **dict.fromkeys(TEE, ITERATE),
    **dict.fromkeys(COUNTING, COUNT),
    **dict.fromkeys(GROUPING, GROUP),
    type(iter(_Sequence())): ITERATE,
    type(iter(range(2**70))): _copy_long_range,
    collections.deque: _copy_deque,
    collections.defaultdict: _copy_defaultdict,
    collections.OrderedDict: _copy_mapping,
    collections.Counter: _copy_mapping,
    type({}.keys()): _copy_view("keys"),
    type({}.values()): _copy_view("values"),
    type({}.items()): _copy_view("items"),
    functools.partial: _copy_partial,
    slice: _copy_by_reduce,
    operator.attrgetter: _copy_by_reduce,
    operator.itemgetter: _copy_by_reduce,
    operator.methodcaller: _copy_by_reduce,
    types.MethodWrapperType: _copy_method_wrapper,
    re.Match: _copy_match,
    random.Random: _copy_random,
    random.SystemRandom: SHARE,
    types.MappingProxyType: _copy_proxy,
    types.SimpleNamespace: _copy_namespace,
    object: SHARE,  # a sentinel: it has nothing that could change
}


def _by_fork(old: Any, memo: Any) -> Any:
    return old.__fork__(memo)


_DISTRIBUTIONS = frozenset({"torch", "contpoutine", "pyro"})


_CYTHON = "cython_function_or_method"  # a function of NumPy's, say; each module has the type anew


def _root(cls: type) -> str:
    name = str(cls.__module__)
    # The classes that drawn models use are there to be treated like a user's own.
    return name if name.startswith("contpoutine.testing.") else name.partition(".")[0]


def classify(cls: type) -> Rule:
    """The rule for instances of a type that is not in `RULES`."""
    if getattr(cls, "__fork__", None) is not None:
        return SHARE if cls.__dict__.get("fork_shared") is True else _by_fork
    if issubclass(cls, (type, types.ModuleType)) or cls.__name__ == _CYTHON:
        return SHARE
    if issubclass(cls, enum.Enum):
        return SHARE if is_global(cls) else "is a member of an enumeration that the model made"
    if any(base.__dict__.get("fork_shared") is True for base in cls.__mro__):
        return SHARE
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "Tensor"):
        if issubclass(cls, torch.Tensor):
            return WATCH
        if issubclass(cls, torch.distributions.Distribution) and _root(cls) in _DISTRIBUTIONS:
            return HOLDS  # those of a user's own may count, and are instances like any other
        if issubclass(cls, torch.distributions.constraints.Constraint) and _root(cls) == "torch":
            return HOLDS
        if issubclass(cls, (torch.Size, torch.dtype, torch.device)):
            return SHARE
        if cls is torch.Generator:
            return _copy_torch_generator
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "ndarray"):
        rule = arrays.rule(cls, numpy)
        if rule is not None:
            return rule
    if issubclass(cls, tuple) and (hasattr(cls, "_fields") or _root(cls) not in _LIBRARIES):
        return _copy_named_tuple
    if issubclass(cls, tuple) and hasattr(cls, "n_sequence_fields"):
        return SHARE  # time.struct_time and its like hold numbers and strings
    if issubclass(cls, random.Random) and not issubclass(cls, random.SystemRandom):
        return _copy_random
    if _root(cls) in _LIBRARIES and cls not in _COPIED:
        return "belongs to a library, and has no rule that says how a fork copies it"
    return copier(cls)


def _copy_torch_generator(old: Any, memo: Any) -> Any:
    fresh = sys.modules["torch"].Generator(device=old.device)
    fresh.set_state(old.get_state())
    return fresh


def _copy_named_tuple(old: Any, memo: Any) -> Any:
    items = [memo(item) for item in old]
    attributes = getattr(old, "__dict__", None)
    if not attributes and all(new is was for new, was in zip(items, old, strict=True)):
        return old
    fresh = tuple.__new__(type(old), items)
    if attributes:
        copy_attributes(old, fresh, memo)
    return fresh


def is_global(cls: type) -> bool:
    """Does a module hold the class under its own name? Then no model has made it."""
    name = str(cls.__module__)
    if _root(cls) in _LIBRARIES:
        return True
    found: Any = sys.modules.get(name)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls
