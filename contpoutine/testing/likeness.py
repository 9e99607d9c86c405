"""A text that two values share exactly if nobody can tell them apart from inside.

It says what a value is, what it holds, and which of the objects in it are one and the same: a list
under two names, and two equal lists, have different texts. Taking it changes nothing (an iterator
is not advanced), so a text taken now and one taken later say whether the value has changed.
"""

from __future__ import annotations

import enum
import functools
import sys
import types
import warnings
from collections.abc import Callable, Iterable
from typing import Any

_PLAIN = frozenset(
    {bool, int, float, complex, str, bytes, range, type(None), type(...), type(NotImplemented)}
)
_NAMED = (type, types.ModuleType, types.CodeType, types.FrameType, types.TracebackType)


def likeness(*values: Any) -> str:
    """The text of one value, or of several that may share objects.

    >>> a, b = [1], [1]
    >>> likeness([a, a]) == likeness([a, b])
    False
    >>> likeness([a, b]) == likeness([b, a])
    True
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # itertools are asked for their state
        sitter = _Sitter()
        return " ".join([sitter.show(value) for value in values])


class _Sitter:
    """Numbers the objects that can be changed, in the order in which they are met."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.kept: list[Any] = []  # an object that is still alive keeps its identity to itself

    def show(self, x: Any) -> str:
        kind = type(x)
        if kind in _PLAIN:
            return repr(x)
        if kind is tuple:
            return f"({self.all(x)})"
        number = self.numbers.get(id(x))
        if number is not None:
            return f"#{number}"
        form = _FORMS.get(kind)
        if form is None:
            if isinstance(x, enum.Enum):
                return str(x)
            if isinstance(x, _NAMED):
                return str(
                    getattr(x, "__qualname__", None) or getattr(x, "__name__", kind.__name__)
                )
            form = _other
        number = self.numbers[id(x)] = len(self.numbers)
        self.kept.append(x)
        return f"{number}:{form(self, x)}"

    def all(self, items: Iterable[Any]) -> str:
        return ", ".join([self.show(item) for item in items])

    def pairs(self, items: Iterable[tuple[Any, Any]]) -> str:
        return ", ".join([f"{self.show(key)}: {self.show(value)}" for key, value in items])

    def exception(self, x: BaseException) -> str:
        more = [self.show(part) for part in (vars(x), x.__cause__) if part]
        return f"{type(x).__name__}({', '.join([self.all(x.args), *more])})"

    def by_parts(self, x: Any) -> str:
        """What `copy` and `pickle` would make the object again from."""
        name = type(x).__qualname__
        try:
            parts = x.__reduce_ex__(2)
        except TypeError:
            return name
        if not isinstance(parts, tuple):
            return str(parts)
        self.kept.append(parts)
        _, args, *rest = parts
        state, items, pairs = [*rest, None, None, None][:3]
        shown = [self.show(arg) for arg in args if arg is not type(x)]
        if state is not None:
            shown.append(self.show(state))
        if items is not None:
            shown.append(f"[{self.all(items)}]")
        if pairs is not None:
            shown.append(f"{{{self.pairs(pairs)}}}")
        return f"{name}({', '.join(shown)})"


def _other(sitter: _Sitter, x: Any) -> str:
    if isinstance(x, BaseException):
        return sitter.exception(x)
    if _is_tensor(x):
        grad = ", with gradient" if x.requires_grad else ""
        return f"{type(x).__name__}({x.detach().tolist()}, {x.dtype}{grad})"
    if type(x).__module__.startswith("contpoutine.core."):
        return type(x).__name__
    return sitter.by_parts(x)


def _set(sitter: _Sitter, x: Any) -> str:
    # Members that are known by their identity have no order that a second run would keep.
    in_order = all(type(member) in _PLAIN for member in x)
    members = [repr(m) if in_order else likeness(m) for m in x]
    return "{" + ", ".join(members if in_order else sorted(members)) + "}"


def _function(sitter: _Sitter, x: types.FunctionType) -> str:
    held = [sitter.show(cell) for cell in x.__closure__ or ()]
    held += [sitter.show(part) for part in (x.__defaults__, x.__kwdefaults__, vars(x)) if part]
    return f"{x.__qualname__}<{', '.join(held)}>"


def _cell(sitter: _Sitter, x: types.CellType) -> str:
    try:
        return f"cell({sitter.show(x.cell_contents)})"
    except ValueError:
        return "cell()"


def _bound(sitter: _Sitter, x: Any) -> str:
    owner = x.__self__
    return f"{x.__name__} of {sitter.show(owner)}"


def _generator(sitter: _Sitter, x: Any) -> str:
    frame = x.gi_frame
    if frame is None:
        return f"{x.__qualname__}, finished"
    where = f"at line {frame.f_lineno}" if x.gi_suspended else "not begun"
    inner = x.gi_yieldfrom
    waits = "" if inner is None else f" waits for {sitter.show(inner)}"
    return f"{x.__qualname__}, {where}, {{{sitter.pairs(frame.f_locals.items())}}}{waits}"


_FORMS: dict[type, Callable[[_Sitter, Any], str]] = {
    list: lambda sitter, x: f"[{sitter.all(x)}]",
    dict: lambda sitter, x: f"{{{sitter.pairs(x.items())}}}",
    set: _set,
    frozenset: _set,
    types.FunctionType: _function,
    types.CellType: _cell,
    types.MethodType: _bound,
    types.BuiltinMethodType: _bound,
    types.MethodWrapperType: _bound,
    types.GeneratorType: _generator,
    functools.partial: lambda sitter, x: (
        f"partial({sitter.all([x.func, x.args, x.keywords, vars(x)])})"
    ),
}


def _is_tensor(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, getattr(torch, "Tensor", ()))
