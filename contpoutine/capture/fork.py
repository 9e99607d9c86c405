"""`cp.fork`: how branches are to have instances of a type of your own.

Most classes need nothing: what a model makes is copied with its attributes, what it was given is
shared. Three ways to say something else:

- a method `__fork__(self, memo)` in the class gives the instance that another branch gets;
- `register(type, copy)` says the same for a class that is not yours;
- `share(type)` says that instances are never copied.

`memo(x)` is the copy of `x` in this fork: the same one whenever it is asked for, and `x` itself
where it is shared. Before copying what may lead back to the object itself, say
`memo.record(old, new)`. A registration holds for the type itself, not for classes derived from it.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, TypeVar

from contpoutine.capture import ownership
from contpoutine.core.capture import provider
from contpoutine.core.message import Message

__all__ = ["register", "share"]

T = TypeVar("T")

# What the C code copies before it looks for a rule, and what never changes.
_SETTLED: tuple[type, ...] = (
    *(bool, int, float, complex, str, bytes, type(None), type, range, types.ModuleType),
    *(list, dict, set, frozenset, tuple, bytearray, BaseException, Message, types.CodeType),
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.GeneratorType),
    *(types.CellType,),
)


def register(type: type[T], copy: Callable[[T, Any], T]) -> None:
    """From now on, a fork copies an instance by `copy(instance, memo)`.

    Args:
        type: the exact type of the instances.
        copy: gives what another branch has in the place of the instance.

    Raises:
        TypeError: `type` is no class, `copy` cannot be called, or it is a type (a list, a dict, a
            number, a function, an exception) that forks know how to copy.

    >>> import contpoutine as cp
    >>> class Table:
    ...     def __init__(self, rows):
    ...         self.rows = rows
    >>> cp.fork.register(Table, lambda table, memo: Table(memo(table.rows)))
    """
    if not callable(copy):
        raise TypeError(f"cp.fork.register needs a function copy(instance, memo), not {copy!r}")
    _rule(type, copy, "cp.fork.register")


def share(type: type[Any]) -> None:
    """From now on, branches share the instances of `type` as they are.

    That is right for what does not change, or where branches are to see each other's changes.

    Raises:
        TypeError: `type` is no class, or a type that forks know how to copy.

    >>> import contpoutine as cp
    >>> class Client:
    ...     "Talks to a server."
    >>> cp.fork.share(Client)
    """
    _rule(type, ownership.SHARE, "cp.fork.share")


def _rule(cls: Any, rule: ownership.Rule, what: str) -> None:
    if not isinstance(cls, type):
        raise TypeError(f"{what} needs a class, not {cls!r}")
    if cls in _SETTLED or issubclass(cls, (BaseException, type)):
        raise TypeError(
            f"{what}: how forks treat {cls.__name__} objects is settled. Derive a class of your "
            f"own from it, and register that."
        )
    ownership.RULES[cls] = rule
    provider().learn()
