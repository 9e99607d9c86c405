"""From an ordinary function to continuations: `to_generator`.

A function that calls `sample` can be suspended only with its stack, and a stack cannot be copied.
Its text says where it calls what performs effects; rewritten to `yield` there, it is a generator
model like one written by hand, and a branch is a copy of its frame. `rewrite.py` says how.

The invariant: a call is an ordinary one only where the callee is known to perform no effects, or
belongs to Python, torch and the like. Everything else goes through `yield`, rewritten where it can
be and over the greenlet bridge where it cannot. What slips through nevertheless (an effect in an
operator, in a key function) is refused as it is performed: with `BarrierError`, never in silence.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

from contpoutine import primitives
from contpoutine.compat import rewrite, source
from contpoutine.core.direct import call, perform
from contpoutine.core.machine import run
from contpoutine.core.model import describe, is_generator_model
from contpoutine.errors import LiftError

_QUIET = frozenset(sys.stdlib_module_names) | {"builtins", "numpy", "scipy", "torch", "greenlet"}
"""Packages whose functions perform no effects of a model."""

_LIBRARIES = _QUIET | {"contpoutine", "pyro"}

_HERE = str(Path(primitives.__file__).parent)
_MODEL_RUNNERS = ("contpoutine.poutine", "contpoutine.infer", "contpoutine.compat")
"""Where a function may run a model that it is given."""


def to_generator(model: Callable[..., Any], *, strict: bool = False) -> Callable[..., Any]:
    """The generator model that an ordinary function is when its effects are yielded.

    `model` calls the primitives of `contpoutine.compat.pyro`, or of the real Pyro. Its source is
    rewritten, and the source of what it calls: other functions, methods, lambdas and inner
    functions, recursion included. The result shares the variables of the function's closure, keeps
    its defaults and its line numbers, and needs no greenlet: under an enumeration its branches are
    clones. (The name says what comes out; `lift` already is the handler that draws parameters.)

    What cannot be rewritten runs as it stands, by the bridge: the model itself, or the one callee.
    The attribute `notes` of the result, a tuple of strings, names each such place that can be told
    beforehand, with file and line; `lifted` says whether the model itself was rewritten. Such
    places are: functions without source, or whose file has changed; `async`; an effect in a
    generator expression or a class body; a function with effects handed to `sorted`, `map` and the
    like; `exec`, `eval`, `locals`; plates and handlers of the real Pyro. A function that a
    decorator wraps, is rewritten as its wrapper.

    Args:
        strict: raise where `notes` would say something.

    Raises:
        LiftError: `strict`, and something cannot be rewritten; or `model` cannot be called.

    >>> import contpoutine as cp
    >>> import contpoutine.compat.pyro as pyro
    >>> def two_coins(p):
    ...     heads = [pyro.sample(f"coin{i}", cp.distributions.Flip(p)) for i in range(2)]
    ...     return sum(heads)
    >>> model = cp.compat.to_generator(two_coins)
    >>> model.lifted, model.notes
    (True, ())
    >>> round(cp.infer.enumerate(model)(0.5).marginal()[1], 6)
    0.5
    """
    if not callable(model):
        raise LiftError(f"to_generator rewrites a function, not {model!r}")
    if is_generator_model(model):
        return model
    made, notes = _of(model)
    if notes and strict:
        error = LiftError(
            f"{describe(model)} cannot be rewritten as a generator as a whole: {'; '.join(notes)}. "
            f"Without `strict` these parts run as they stand, by the bridge."
        )
        error.notes = notes
        raise error
    result: Any = made or _as_it_stands(model)
    result.notes, result.lifted = notes, made is not None
    return result  # type: ignore[no-any-return]


def _of(model: Any) -> tuple[Any, tuple[str, ...]]:
    """The generator function of a callable, or None, and what there is to say about it."""
    if isinstance(model, functools.partial):
        made, notes = _of(model.func)
        return made and _renamed(functools.partial(made, *model.args, **model.keywords)), notes
    if isinstance(model, MethodType):
        made, notes = _of(model.__func__)
        return made and _renamed(functools.partial(made, model.__self__)), notes
    if isinstance(model, FunctionType) and _package(model) not in _LIBRARIES:
        form = Form(model) if model.__closure__ else form_of(model)  # notes are of this closure
        form.complete(model)
        return (None if form.code is None else form.bind(model)), form.all_notes()
    method = getattr(type(model), "__call__", None)  # noqa: B004
    if isinstance(method, FunctionType) and _package(method) not in _LIBRARIES:
        return _of(MethodType(method, model))
    return None, (f"{describe(model)}: it is no function whose source could be rewritten",)


def _renamed(body: Any) -> Any:
    """A generator function that calls one: a `partial` has no place for what is said about it."""

    def model(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield body(*args, **kwargs))

    model.__name__ = body.func.__name__
    return model


def _as_it_stands(model: Any) -> Any:
    def direct(*args: Any, **kwargs: Any) -> Any:
        return model(*args, **kwargs)

    return functools.update_wrapper(direct, model)


# --- forms: what a function is when it is rewritten


class Form:
    """What became of one code object.

    Attributes:
        code: the generator's code; None where the function stays as it is.
        plain: it performs no effects and calls nothing that could.
        notes: what could not be rewritten in it; `callees` have notes of their own.
    """

    def __init__(self, fn: FunctionType) -> None:
        self.of, self.globals = fn.__code__, fn.__globals__
        self.code: CodeType | None = None
        self.plain = False
        self.begun = False
        self.notes: tuple[str, ...] = ()
        self.callees: list[Form] = []

    def complete(self, fn: FunctionType) -> None:
        """Rewrite the text, unless that is done or under way (in a recursion)."""
        with _rewriting:
            if not self.begun:
                self.begun = True
                _under_way.append(self)
                try:
                    self._try(fn)
                finally:
                    _under_way.pop()
                while _waiting and not _under_way:
                    now = _waiting.pop()
                    now.fn = dynamic(now.found)

    def _try(self, fn: FunctionType) -> None:
        try:
            self._rewrite(fn)
        except (source.NoSource, rewrite.Refused, LiftError) as refused:
            line = getattr(refused, "line", self.of.co_firstlineno)
            self.notes = (f"{self.of.co_filename}:{line}, in {self.of.co_qualname}: {refused}",)

    def _rewrite(self, fn: FunctionType) -> None:
        if self.of.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            raise source.NoSource("it is asynchronous")
        node, owner = source.find(self.of)
        tools = rewrite.Tools(
            self._callee, dynamic, chosen, Pending, _pyro().sample, checked_context
        )
        writer = rewrite.Rewriter(rewrite.Names(fn), tools)
        made = writer.function(node)
        code = rewrite.compiled(made, owner, self.of, writer.constants)
        if code.co_freevars != self.of.co_freevars:
            raise source.NoSource("its free variables are others after rewriting")
        _lifted.add(code)
        self.plain = not writer.yields
        self.code = code

    def _callee(self, found: Any) -> Any:
        """What to yield for a callee that the text names; None: a call without effects."""
        if _is_pyro_context(found):
            raise rewrite.Refused(
                _NO_LINE, f"{found.__qualname__} of the real Pyro keeps a global stack"
            )
        body = resolve(found)
        if body is None:
            return None
        function = getattr(found, "__func__", found)
        if isinstance(function, FunctionType) and _package(function) not in _LIBRARIES:
            self.callees.append(form_of(function))
        return Now(found, body)

    def bind(self, fn: FunctionType) -> Any:
        """The generator function of `fn`: the same globals, cells and defaults."""
        made = FunctionType(self.code, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)  # type: ignore[arg-type]
        made.__kwdefaults__ = fn.__kwdefaults__
        made.__qualname__, made.__doc__, made.__module__ = (
            fn.__qualname__,
            fn.__doc__,
            fn.__module__,
        )
        return made

    def all_notes(self) -> tuple[str, ...]:
        """The notes of this code and of every callee that was found in it."""
        seen: dict[int, Form] = {}
        todo = [self]
        while todo:
            form = todo.pop()
            if id(form) not in seen:
                seen[id(form)] = form
                todo += form.callees
        return tuple(dict.fromkeys(note for form in seen.values() for note in form.notes))


class _NoLine:
    lineno = 0


_NO_LINE = _NoLine()
_rewriting = threading.RLock()
_under_way: list[Form] = []
_forms: dict[tuple[CodeType, int], Form] = {}
_lifted: set[CodeType] = set()


def form_of(fn: FunctionType) -> Form:
    """The form of a function's code, begun."""
    key = fn.__code__, id(fn.__globals__)
    form = _forms.get(key)
    if form is None:
        form = _forms.setdefault(key, Form(fn))
    return form


class Now:
    """A callee that was found: `fn` gives what is to be yielded.

    Attributes:
        late: the callee is being rewritten itself, so that `fn` is put in place afterwards.
    """

    __slots__ = ("fn", "found", "late")

    def __init__(self, found: Any, body: Any) -> None:
        self.found, self.fn = found, body
        self.late = isinstance(body, functools.partial) and body.func is _late
        if self.late:
            _waiting.append(self)


_waiting: list[Now] = []


def _late(fn: Any, *args: Any, **kwargs: Any) -> Any:
    """A call of a function that was just being rewritten when it was found: a recursion."""
    return dynamic(fn)(*args, **kwargs)


# --- callees


class Pending:
    """A call that is to be yielded."""

    __slots__ = ("body",)

    def __init__(self, body: Any) -> None:
        self.body = body


def chosen(fn: Any) -> Any:
    """`fn` itself where it performs no effects; otherwise what gives a `Pending` call of it."""
    body = resolve(fn)
    return fn if body is None else functools.partial(_pend, body)


def _pend(body: Any, *args: Any, **kwargs: Any) -> Pending:
    return Pending(body(*args, **kwargs))


def dynamic(fn: Any) -> Any:
    """What gives, called, something to yield that does what calling `fn` does."""
    body = resolve(fn)
    return functools.partial(_plainly, fn) if body is None else body


def _plainly(fn: Any, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
    yield from ()
    return fn(*args, **kwargs)


def resolve(fn: Any) -> Any:
    """What gives, called, something to yield for a call of `fn`; None: it performs no effects."""
    if isinstance(fn, FunctionType):
        return _of_function(fn)
    if isinstance(fn, MethodType):
        body = resolve(fn.__func__)
        return body and functools.partial(body, fn.__self__)
    if isinstance(fn, functools.partial):
        body = resolve(fn.func)
        return body and functools.partial(body, *fn.args, **fn.keywords)
    if isinstance(fn, BuiltinFunctionType):
        return _requests().get(fn)
    if isinstance(fn, type):
        return _of_class(fn)
    if not callable(fn) or is_generator_model(fn):
        return None
    method = getattr(type(fn), "__call__", None)  # noqa: B004
    if isinstance(method, FunctionType) and _package(method) not in _LIBRARIES:
        return resolve(MethodType(method, fn))
    package = type(fn).__module__
    return None if package.split(".")[0] in _QUIET else functools.partial(call, fn)


def _of_function(fn: FunctionType) -> Any:
    code = fn.__code__
    if code in _lifted:
        return fn
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return None
    request = _requests().get(fn)
    if request is not None:
        return request
    package = _package(fn)
    if package in _QUIET:
        return None
    if package == "contpoutine":
        runs = fn.__globals__["__name__"].startswith(_MODEL_RUNNERS)
        return functools.partial(call, fn) if runs else None
    if package == "pyro" and _real_pyro() is not None:
        return functools.partial(call, fn)
    form = form_of(fn)
    if form.code is None:
        form.complete(fn)
        if form.code is None:
            return functools.partial(call if form.notes else _late, fn)
    return None if form.plain else form.bind(fn)


def _of_class(kind: type) -> Any:
    if _is_pyro_context(kind):
        raise LiftError(
            f"{kind.__qualname__} of the real Pyro keeps a global stack, and what enters it cannot "
            f"be suspended. Run the model as it stands."
        )
    if kind.__module__.split(".")[0] in _LIBRARIES:
        return None
    made = dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    for name in ("__new__", "__init__", "__post_init__"):
        method = getattr(kind, name, None)
        if isinstance(method, FunctionType):
            if made and method.__code__.co_filename.startswith("<"):
                continue
            if resolve(method) is not None:
                return functools.partial(call, kind)
    return None


def _package(fn: FunctionType) -> str:
    package = str(fn.__globals__.get("__name__", "")).split(".")[0]
    if package == "contpoutine" and not fn.__code__.co_filename.startswith(_HERE):
        return ""  # an example in a docstring
    return package


def _real_pyro() -> Any:
    pyro = sys.modules.get("pyro")
    return pyro if pyro is not None and getattr(pyro, "__name__", "") == "pyro" else None


def _is_pyro_context(thing: Any) -> bool:
    """Is it a class of the real Pyro's handlers, plates among them?"""
    messenger = sys.modules.get("pyro.poutine.messenger")
    return (
        isinstance(thing, type)
        and messenger is not None
        and messenger.__name__ == "pyro.poutine.messenger"
        and issubclass(thing, messenger.Messenger)
    )


def checked_context(thing: Any) -> Any:
    """What a `with` enters or a loop runs through, unless it is a handler of the real Pyro."""
    if type(thing).__module__.startswith("pyro."):
        _of_class(type(thing))
    return thing


# --- primitives


def _factor(name: str, log_factor: Any, *, has_rsample: Any = None) -> Any:
    return _and_nothing(_born(primitives.factor(name, log_factor)))


def _and_nothing(msg: Any) -> Generator[Any, Any, None]:
    yield msg


def _deterministic(name: str, value: Any, event_dim: Any = None) -> Any:
    return _born(primitives.deterministic(name, value))


def _born(request: Any) -> Any:
    """The request, with the line of the model that asked for it."""
    frame: Any = sys._getframe(1)
    while frame.f_globals is globals():
        frame = frame.f_back
    return request.born_at(frame)


def _itself(msg: Any) -> Any:
    return msg


def _requests() -> dict[Any, Any]:
    """For each primitive that is called, what gives the request for it."""
    return _all_requests(_real_pyro())


def _pyro() -> Any:
    from contpoutine.compat import pyro

    return pyro


@functools.lru_cache(maxsize=4)
def _all_requests(real: Any) -> dict[Any, Any]:
    known: dict[Any, Any] = {perform: _itself, run: call}
    for names, draw in ((_pyro(), primitives.sample), (real, None)):
        if names is None:
            continue
        sample = names.sample
        known[sample] = draw or functools.partial(_sample_of, sample)
        known[names.factor] = _factor
        known[names.deterministic] = _deterministic
    return known


def _sample_of(theirs: Any, name: str, fn: Any, *args: Any, **options: Any) -> Any:
    """A site of the real Pyro, as a request where it is nothing but a draw or an observation."""
    if args or options.keys() - {"obs", "infer"}:
        return call(theirs, name, fn, *args, **options)
    return _born(primitives.sample(name, fn, **options))
