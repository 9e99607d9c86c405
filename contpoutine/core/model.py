"""What a model is: a callable that gives a generator, and where in it a computation stands."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator
from types import GeneratorType
from typing import Any

from contpoutine.errors import NotAModelError


def is_generator_model(fn: Any) -> bool:
    """Can it be told without calling `fn` that it gives a generator?"""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if inspect.isgeneratorfunction(fn):
        return True
    if inspect.isfunction(fn) or inspect.ismethod(fn) or isinstance(fn, type):
        return False
    return inspect.isgeneratorfunction(getattr(fn, "__call__", None))  # noqa: B004


def describe(model: Any) -> str:
    """`name (file:line)` of a model, for error messages."""
    fn = model
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn) if callable(fn) else fn
    code = getattr(getattr(fn, "__func__", fn), "__code__", None)
    name = getattr(fn, "__qualname__", None) or repr(model)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else str(name)


def start(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
    """Call a model. Raises `NotAModelError` unless that gives a generator.

    >>> start(len, ("abc",), {})
    Traceback (most recent call last):
        ...
    contpoutine.errors.NotAModelError: len is not a generator model: calling it gave 3, ...
    """
    if not callable(model):
        called = isinstance(model, GeneratorType)
        hint = "; pass the function, not what calling it gave" if called else ""
        raise NotAModelError(f"a model is a generator function, not {model!r}{hint}")
    body = model(*args, **kwargs)
    if isinstance(body, GeneratorType):
        return body
    if inspect.iscoroutine(body):
        body.close()
    raise NotAModelError(
        f"{describe(model)} is not a generator model: calling it gave {_shorten(body)}, and no "
        f'generator. A model yields its effects: `x = yield sample("x", ...)`. A function that '
        f"performs no effect at all becomes a model with `return value; yield`. Pyro-style "
        f"functions, which call sample without yield, are not supported yet: turn each "
        f"`pyro.sample(...)` in them into `yield cp.sample(...)`."
    )


def _shorten(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 80 else text[:77] + "..."


def innermost(body: GeneratorType[Any, Any, Any]) -> GeneratorType[Any, Any, Any]:
    """The generator at the end of a chain of `yield from`."""
    while isinstance(body.gi_yieldfrom, GeneratorType):
        body = body.gi_yieldfrom
    return body


def where(body: Any) -> str:
    """`file:line, in function` of the line at which a generator is suspended."""
    if not isinstance(body, GeneratorType):
        return "an unknown place"
    inner = innermost(body)
    line = inner.gi_frame.f_lineno if inner.gi_frame is not None else inner.gi_code.co_firstlineno
    return f"{inner.gi_code.co_filename}:{line}, in {inner.gi_code.co_qualname}"
