"""What drawn models are made of beside plain Python: classes as users write them, and a handler."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contpoutine.core.messenger import Messenger


class Count(Messenger):
    """A handler with state of its own."""

    def __init__(self) -> None:
        self.total = 0
        self.seen: list[Any] = []

    def _postprocess_message(self, msg: Any) -> None:
        self.total += 1
        self.seen.append(msg["value"])


class Thing:
    """An object with attributes and a method that changes them."""

    def __init__(self, held: Any) -> None:
        self.held = held
        self.items: list[Any] = []

    def push(self, x: Any) -> int:
        self.items.append(x)
        return len(self.items)


class Slotted:
    """An object whose attributes are slots, one of them not filled."""

    __slots__ = ("left", "missing", "right")

    def __init__(self, left: Any, right: Any) -> None:
        self.left, self.right = left, right


@dataclass
class Record:
    """A dataclass."""

    total: int
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    """A dataclass that does not change, and holds what does."""

    label: int
    items: Any


class Named(NamedTuple):
    """A tuple with names."""

    first: Any
    second: Any


class Words(list[Any]):
    """A list with an attribute."""

    touched = 0

    def append(self, x: Any) -> None:
        self.touched += 1
        super().append(x)


class Table(dict[Any, Any]):
    """A dict that fills its gaps."""

    def __missing__(self, key: Any) -> list[Any]:
        made: list[Any] = []
        self[key] = made
        return made


class Walk:
    """An iterator of a user's own."""

    def __init__(self, items: list[Any]) -> None:
        self.items, self.at = items, 0

    def __iter__(self) -> Walk:
        return self

    def __next__(self) -> Any:
        if self.at >= min(len(self.items), 9):
            raise StopIteration
        self.at += 1
        return self.items[self.at - 1]


class Guard:
    """A context manager that keeps what leaves through it, and lets IndexError end there."""

    def __init__(self, log: list[Any]) -> None:
        self.log, self.depth = log, 0

    def __enter__(self) -> Guard:
        self.depth += 1
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        self.depth -= 1
        self.log.append(kind.__name__ if kind else "left")
        return kind is IndexError


@contextlib.contextmanager
def managed(log: list[Any]) -> Iterator[list[Any]]:
    """A context manager made of a generator."""
    log.append("in")
    try:
        yield log
    finally:
        log.append("out")
