"""What the text of a model says about the contract that it is under.

A model may change what it made itself in this run. What it changes besides (a global, a variable
of an outer function, an attribute of its `self`, an argument, a switch of the whole process) is
shared by all branches, and a replay changes it again. Nobody can see that in the running frames,
but much of it stands in the source: this module reads it. It reads what is written, not what is
called through other names, so no note is no promise.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SCOPES = (*_FUNCTIONS, ast.ClassDef)
_MAX_FUNCTIONS = 200

MUTATORS = frozenset(
    "add append appendleft clear discard extend extendleft insert pop popitem popleft remove "
    "reverse setdefault sort update difference_update intersection_update subtract".split()
)
SWITCHES = frozenset(
    {
        *("random.seed", "random.setstate", "numpy.random.seed", "numpy.random.set_state"),
        *("torch.manual_seed", "torch.seed", "torch.set_rng_state", "torch.random.manual_seed"),
        *("torch.set_grad_enabled", "torch.set_default_dtype", "torch.set_num_threads"),
        *("os.chdir", "os.putenv", "os.umask", "locale.setlocale", "sys.setrecursionlimit"),
        *("warnings.simplefilter", "warnings.filterwarnings", "decimal.setcontext"),
    }
)
BLOCKS = frozenset(
    {
        *("torch.no_grad", "torch.enable_grad", "torch.inference_mode", "torch.set_grad_enabled"),
        *("torch.random.fork_rng", "torch.autocast", "torch.device"),
        *("torch.autograd.grad_mode.no_grad", "torch.autograd.grad_mode.enable_grad"),
        *("torch.autograd.grad_mode.inference_mode", "torch.autograd.grad_mode.set_grad_enabled"),
        *("contextlib.redirect_stdout", "contextlib.redirect_stderr", "contextlib.chdir"),
        *("warnings.catch_warnings", "numpy.errstate", "numpy.printoptions"),
        *("decimal.localcontext", "_decimal.localcontext", "unittest.mock.patch"),
    }
)


@dataclass(frozen=True)
class Note:
    """Something that branches share, or that makes them slower.

    Attributes:
        kind: "global", "nonlocal", "outside", "switch" or "tensor".
        where: file, line and function.
        text: what is written there.
        instead: what to write instead.
    """

    kind: str
    where: str
    text: str
    instead: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def contract_notes(model: Any) -> tuple[Note, ...]:
    """Notes on what the functions of a model change and did not make."""
    notes: dict[Note, None] = {}
    for place, function in enumerate(_functions(model)):
        found = _source(function)
        if found is not None:
            node, first = found
            reader = _Reader(function, node, first, _is_the_model(model, function) or place == 0)
            notes.update(dict.fromkeys(reader.read()))
    return tuple(notes)


# --- which functions --------------------------------------------------------------------------


def _plain(x: Any) -> types.FunctionType | None:
    """The function behind a partial, a method, a callable object."""
    while isinstance(x, functools.partial):
        x = x.func
    if isinstance(x, types.MethodType):
        x = x.__func__
    if not isinstance(x, types.FunctionType | type) and callable(x):
        x = getattr(type(x), "__call__", None)  # noqa: B004
    return x if isinstance(x, types.FunctionType) else None


def _is_the_model(model: Any, function: types.FunctionType) -> bool:
    return _plain(model) is function


def _functions(model: Any) -> Iterator[types.FunctionType]:
    """The user's own functions that a model names or closes over, the model first."""
    seen: set[int] = set()
    todo: list[Any] = [model]
    while todo and len(seen) < _MAX_FUNCTIONS:
        x = todo.pop(0)
        function = _plain(x)
        if function is None or id(function.__code__) in seen:
            continue
        seen.add(id(function.__code__))
        if not isinstance(x, types.FunctionType | types.MethodType | functools.partial):
            todo += [value for value in getattr(x, "__dict__", {}).values() if callable(value)]
        for cell in function.__closure__ or ():
            try:
                todo.append(cell.cell_contents)
            except ValueError:
                continue
        if _is_library(function):
            continue
        yield function
        for code in _codes(function.__code__):
            todo += [function.__globals__.get(name) for name in code.co_names]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _is_library(function: types.FunctionType) -> bool:
    # not __module__, which functools.wraps changes
    root = str(function.__globals__.get("__name__", "")).partition(".")[0]
    libraries = {"contpoutine", "torch", "numpy", "pyro", "scipy", "pandas"}
    return root in libraries or (root in sys.stdlib_module_names and root != "__main__")


def _source(function: types.FunctionType) -> tuple[Any, int] | None:
    """The syntax of a function, and the line that it begins at; None where it is not at hand."""
    try:
        lines, first = inspect.getsourcelines(function.__code__)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function.__code__.co_name:
            return node, first
    return None


# --- reading one function ---------------------------------------------------------------------


class _Scope:
    """The names of one function of the text."""

    def __init__(self, node: Any) -> None:
        self.declared: dict[str, str] = {}  # by `global` and `nonlocal`
        self.bound: set[str] = set()
        self.parameters: set[str] = set()
        arguments = node.args
        for group in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs):
            self.parameters |= {argument.arg for argument in group}
        for extra in (arguments.vararg, arguments.kwarg):
            if extra is not None:
                self.bound.add(extra.arg)  # a tuple and a dict of this call
        body = node.body if isinstance(node.body, list) else [node.body]
        for statement in body:
            for inner in _within(statement):
                self._note(inner)

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Global | ast.Nonlocal):
            kind = "global" if isinstance(node, ast.Global) else "nonlocal"
            self.declared.update(dict.fromkeys(node.names, kind))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            self.bound.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self.bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            self.bound.add(node.name)
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            self.bound.add(node.name)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """A node and what lies in it, not in functions and classes inside of it."""
    yield node
    if not isinstance(node, _SCOPES):
        for child in ast.iter_child_nodes(node):
            yield from _within(child)


class _Reader:
    def __init__(self, function: Any, node: Any, first: int, is_model: bool) -> None:
        self.function, self.node, self.first, self.is_model = function, node, first, is_model
        self.scopes: list[_Scope] = []
        self.notes: list[Note] = []

    def read(self) -> list[Note]:
        self._function(self.node)
        return self.notes

    def _function(self, node: Any) -> None:
        self.scopes.append(_Scope(node))
        for statement in node.body if isinstance(node.body, list) else [node.body]:
            self._visit(statement)
        self.scopes.pop()

    def _visit(self, node: ast.AST) -> None:
        if isinstance(node, _FUNCTIONS):
            self._function(node)
            return
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            self._assigned(node)
        elif isinstance(node, ast.Attribute | ast.Subscript):
            if isinstance(node.ctx, ast.Store | ast.Del):
                self._changed(node, node)
        elif isinstance(node, ast.Call):
            self._called(node)
        elif isinstance(node, ast.With):
            self._with(node)
        for child in ast.iter_child_nodes(node):
            self._visit(child)

    # --- what a name is

    def _kind(self, name: str) -> str:
        """ "own", "argument", "closure" or "global"."""
        for depth in range(len(self.scopes) - 1, -1, -1):
            scope = self.scopes[depth]
            declared = scope.declared.get(name)
            if declared == "global":
                return "global"
            if declared == "nonlocal":
                continue
            if name in scope.bound:
                return "own"
            if name in scope.parameters:
                return "argument" if depth == 0 and self.is_model else "own"
        return "closure" if name in self.function.__code__.co_freevars else "global"

    def _value(self, name: str) -> Any:
        """What a name of a global or of an outer function stands for now, or None."""
        code = self.function.__code__
        if name in code.co_freevars:
            cell = self.function.__closure__[code.co_freevars.index(name)]
            try:
                return cell.cell_contents
            except ValueError:
                return None
        return self.function.__globals__.get(name)

    def _dotted(self, node: ast.AST) -> str:
        """The full name of what is called: `np.random.seed` gives "numpy.random.seed"."""
        rest: list[str] = []
        while isinstance(node, ast.Attribute):
            rest.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or self._kind(node.id) in ("own", "argument"):
            return ""
        value = self._value(node.id)
        if isinstance(value, types.ModuleType):
            return ".".join([value.__name__, *reversed(rest)])
        if rest or value is None:
            return ""
        owner = getattr(value, "__self__", None)
        module = getattr(value, "__module__", None) or type(owner).__module__
        return f"{module}.{getattr(value, '__name__', '')}"

    # --- what is noted

    def _assigned(self, node: ast.Name) -> None:
        declared = self.scopes[-1].declared.get(node.id)
        if declared is None:
            return
        kind = self._kind(node.id)
        if kind == "global":
            self._note("global", node, f"assigns the global {node.id!r}", _RETURN)
        elif kind == "closure":
            self._note("nonlocal", node, f"assigns {node.id!r} of an outer function", _RETURN)

    def _changed(self, node: Any, whole: ast.AST) -> None:
        root = node
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if not isinstance(root, ast.Name):
            return
        kind = self._kind(root.id)
        if kind == "own":
            return
        whose = {
            "argument": f"changes its argument {root.id!r}",
            "closure": f"changes {root.id!r} of an outer function",
            "global": f"changes the global {root.id!r}",
        }[kind]
        instead = _SELF if kind == "argument" and root.id in ("self", "cls") else _MAKE
        self._note("outside", whole, f"{whose}: `{ast.unparse(whole)}`", instead)

    def _called(self, node: ast.Call) -> None:
        name = self._dotted(node.func)
        if name in SWITCHES:
            self._note("switch", node, f"calls `{ast.unparse(node.func)}`, {_PROCESS}", _SEED)
            return
        called = node.func
        if not isinstance(called, ast.Attribute) or called.attr not in MUTATORS:
            return
        root: ast.AST = called.value
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name) and self._kind(root.id) in ("closure", "global"):
            if isinstance(self._value(root.id), types.ModuleType | type):
                return
        self._changed(called.value, node)

    def _with(self, node: ast.With) -> None:
        if not any(
            isinstance(inner, ast.Yield | ast.YieldFrom)
            for statement in node.body
            for inner in _within(statement)
        ):
            return
        for item in node.items:
            called = item.context_expr
            called = called.func if isinstance(called, ast.Call) else called
            if self._dotted(called) in BLOCKS:
                text = f"yields inside `with {ast.unparse(item.context_expr)}`, {_PROCESS}"
                self._note("switch", node, text, _BLOCK)

    def _note(self, kind: str, node: Any, text: str, instead: str) -> None:
        line = self.first + node.lineno - 1
        code = self.function.__code__
        where = f"{code.co_filename}:{line}, in {code.co_qualname}"
        self.notes.append(Note(kind, where, text, instead))


_PROCESS = "a switch of the whole process"
_RETURN = "keep it in a local of the model, and return it"
_MAKE = "make a copy at the start of the model, and change that"
_SELF = "keep the state of a run in locals, or in an object that the model makes"
_SEED = "do it before the model runs, or draw with a generator that the model makes"
_BLOCK = "end the block before the yield, and begin another one after it"
