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
    if getattr(type(fn), "gives_generator", None) is not None:
        return bool(fn.gives_generator)
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


def start(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], strict: bool = True
) -> Generator[Any, Any, Any]:
    """A model, called: a generator. An ordinary function becomes one by the bridge.

    Raises `NotAModelError` where `model` cannot be called; the generator raises it (if `strict`)
    where `model` is a function that gives no generator and performs no effect.

    >>> next(start(len, ("abc",), {}))
    Traceback (most recent call last):
        ...
    contpoutine.errors.NotAModelError: len is no model: calling it gave 3, ...
    """
    if not callable(model):
        called = isinstance(model, GeneratorType)
        hint = "; pass the function, not what calling it gave" if called else ""
        raise NotAModelError(f"a model is a generator function, not {model!r}{hint}")
    if not is_generator_model(model):
        from contpoutine.core.bridge import as_generator

        return as_generator(model, args, kwargs, strict)
    body = model(*args, **kwargs)
    if isinstance(body, GeneratorType):
        return body
    raise no_model(model, body)


def no_model(model: Any, gave: Any) -> NotAModelError:
    """The error that says why calling `model` was no run of a model."""
    if inspect.iscoroutine(gave):
        gave.close()
    return NotAModelError(
        f"{describe(model)} is no model: calling it gave {_shorten(gave)}, and no generator, and "
        f"it performed no effect. A model yields its effects: `x = yield cp.sample(...)`; a "
        f"generator without any is written with `return value; yield`. An ordinary function "
        f"performs them by calling contpoutine.compat.pyro.sample (or Pyro's own)."
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
