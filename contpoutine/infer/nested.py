"""Queries inside of queries: what one has answered serves the others.

A model that reasons about another reasoner runs `infer.enumerate(other)(args)` and samples from the
marginal that it gives. On a thousand paths it asks the same question a thousand times. So while an
outermost query runs, the answers of the queries inside of it are kept by what was asked: the model,
its arguments, the globals that it reads and the options, by content, as a state key tells them
(`native/state_key.c`).

The invariant: an answer serves a second question only if nobody can tell. The question has a key;
no handler of an outer model sees the sites of the inner one; nothing was drawn at random; and what
the answer holds cannot be changed.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import fields
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from contpoutine.core.ambient import AMBIENT
from contpoutine.core.capture import provider
from contpoutine.core.model import describe
from contpoutine.errors import CaptureError, CircularQueryError

if TYPE_CHECKING:
    from contpoutine.infer.posterior import Posterior

_ANSWERS: ContextVar[dict[Any, Posterior | None] | None] = ContextVar("answers", default=None)

_PLAIN = frozenset({bool, int, float, complex, str, bytes, range, type(None)})


def answered(
    model: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: tuple[Any, ...],
    ask: Callable[[], Posterior],
) -> Posterior:
    """The answer to a query: by `ask`, or by an equal question inside the same outermost query.

    Raises:
        CircularQueryError: to answer the question, the same question has to be answered.
    """
    answers = _ANSWERS.get()
    if answers is None:
        token = _ANSWERS.set({})
        try:
            return ask()
        finally:
            _ANSWERS.reset(token)
    question = None if AMBIENT.get() else _question(model, args, kwargs, options)
    if question is None:
        return ask()
    if question in answers:
        known = answers[question]
        if known is None:
            raise CircularQueryError(
                f"to answer infer.enumerate({describe(model)}) with these arguments, the model "
                f"asks the same query with the same arguments again, and so on without end. Give "
                f"the model an argument that says how deep to reason, and count it down."
            )
        return known
    answers[question] = None  # being answered
    posterior = None
    try:
        posterior = ask()
    finally:
        if posterior is not None and posterior.exact and posterior.frozen:
            answers[question] = posterior
        else:
            del answers[question]
    return posterior


def _question(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: tuple[Any, ...]
) -> Any:
    """What is asked, as a key; None where something in it has no content to go by."""
    read = tuple(_globals_read(model, *args, *kwargs.values()))
    try:
        key = provider().state_key([], (), None, (model, args, kwargs, options, read))
    except CaptureError:
        return None
    return key if key.why_unique is None else None


def _globals_read(*roots: Any) -> Iterator[Any]:
    """The values of globals that these functions name, and those that they name, and so on.

    A state key knows a function by its code and by what it closes over. A global that a model
    changes between two questions makes them two.
    """
    seen: set[int] = set()
    found = list(roots)
    while found:
        fn = found.pop()
        fn = getattr(fn, "func", getattr(fn, "__func__", fn))  # of a partial, of a bound method
        if not isinstance(fn, FunctionType) or id(fn) in seen:
            continue
        seen.add(id(fn))
        space = fn.__globals__
        for name in _names(fn.__code__):
            value = space.get(name)
            if isinstance(value, FunctionType):
                found.append(value)
            elif value is not None and not isinstance(value, ModuleType | type):
                yield value
        for cell in fn.__closure__ or ():
            try:
                found.append(cell.cell_contents)
            except ValueError:  # empty
                continue


@functools.lru_cache(maxsize=1024)
def _names(code: CodeType) -> tuple[str, ...]:
    inner = [name for part in code.co_consts if isinstance(part, CodeType) for name in _names(part)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


def is_frozen(value: Any) -> bool:
    """Whether nothing can change in `value`, so that all branches may have it.

    >>> is_frozen((1, "a", None)), is_frozen((1, []))
    (True, False)
    """
    kind: Any = type(value)
    if kind in _PLAIN or isinstance(value, enum.Enum | type):
        return True
    if isinstance(value, tuple):
        plain = kind is tuple or (hasattr(kind, "_fields") and not hasattr(value, "__dict__"))
        return plain and all(map(is_frozen, value))
    if kind is frozenset:
        return all(map(is_frozen, value))
    params = vars(kind).get("__dataclass_params__")  # a class that derives from it may change
    if params is not None and params.frozen and kind.__eq__ is not object.__eq__:
        held = [getattr(value, field.name) for field in fields(kind)]
        return all(map(is_frozen, (*held, *getattr(value, "__dict__", {}).values())))
    return False
