"""A function that calls its effects, rewritten as the generator that yields them.

What is known about a callee when the text is rewritten is a guess that the new text checks:

    sample("x", d)  ->  (yield (SAMPLE if sample is KNOWN else dynamic(sample))("x", d))
    g(x)            ->  ((yield r.take()) if type(r := chosen(g)(x)) is Pending else r)

The first form is for a callee that was found and performs effects, the second for one that is only
known when the model runs. A callee that was found to perform none is called as before. Should it
be another one by then, its effects are refused when they are performed (`BarrierError`). A
comprehension with effects becomes a loop in a generator of its own, which has the comprehension's
scope. Inner functions and lambdas stay as they are: they are rewritten when they are called.

Objects that the new text needs stand in it as constants, so it adds nothing to the globals and the
closure of the function. Every node keeps its place in the file.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import types
import warnings
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

from contpoutine.compat.source import FUTURES, reach

UNKNOWN = object()
"""What a callee is that cannot be told from the text."""

_FRAME_READERS = (exec, eval, locals, vars, dir)
_MARK = "\0contpoutine "
_BODY = "_cp_body_"


class Refused(Exception):
    """A place that has no generator form: `line` and what stands there."""

    def __init__(self, node: Any, what: str) -> None:
        super().__init__(what)
        self.line: int = node.lineno


class Names:
    """What the names of a function mean, as far as that is known before it runs."""

    def __init__(self, fn: FunctionType) -> None:
        code = fn.__code__
        self.local = {*code.co_varnames, *code.co_cellvars}
        self.cells = dict(zip(code.co_freevars, fn.__closure__ or (), strict=True))
        self.globals = fn.__globals__

    def look(self, node: ast.AST) -> tuple[Any, bool]:
        """The object that is named, or UNKNOWN; and whether every function of this text has it."""
        if isinstance(node, ast.Attribute):
            owner, fixed = self.look(node.value)
            if isinstance(owner, (types.ModuleType, type)):
                return getattr(owner, node.attr, UNKNOWN), fixed
            return UNKNOWN, False
        if not isinstance(node, ast.Name) or node.id in self.local:
            return UNKNOWN, False
        if node.id in self.cells:
            try:
                return self.cells[node.id].cell_contents, False
            except ValueError:
                return UNKNOWN, False
        if node.id in self.globals:
            return self.globals[node.id], True
        builtins: Any = self.globals.get("__builtins__", {})
        scope = builtins if isinstance(builtins, dict) else vars(builtins)
        return scope.get(node.id, UNKNOWN), True


class Tools:
    """What the new text calls while it runs.

    Attributes:
        form: of a callee, an object whose `.fn` gives what is to be yielded; None: no effects.
        dynamic, chosen: the same of a callee that is known only now; see `to_generator`.
        pending: the type of a call that is still to be performed.
        sample: the one primitive that may be a function of C.
        context: what a `with` or a loop is over, unless that cannot be suspended.
    """

    def __init__(
        self,
        form: Callable[[Any], Any],
        dynamic: Callable[[Any], Any],
        chosen: Callable[[Any], Any],
        pending: type,
        sample: Any,
        context: Callable[[Any], Any],
    ) -> None:
        self.form, self.dynamic, self.chosen = form, dynamic, chosen
        self.pending, self.sample, self.context = pending, sample, context


class Rewriter(ast.NodeTransformer):
    """Rewrites one function. `yields` counts the places where the new text may yield."""

    def __init__(self, names: Names, tools: Tools) -> None:
        self.names, self.tools = names, tools
        self.constants: list[Any] = []
        self.yields = self.loops = 0
        self.hoisted: list[ast.stmt] = []
        self.performing: set[str] = set()

    def function(self, node: ast.FunctionDef | ast.Lambda) -> ast.FunctionDef:
        """The generator function of a function or a lambda."""
        node = copy.deepcopy(node)
        body: list[ast.stmt] = (
            [ast.copy_location(ast.Return(node.body), node.body)]
            if isinstance(node, ast.Lambda)
            else node.body
        )
        for statement in body:
            self._note_inner(statement)
        args = node.args
        args.defaults = [ast.Constant(None) for _ in args.defaults]
        args.kw_defaults = [None if d is None else ast.Constant(None) for d in args.kw_defaults]
        for arg in ast.walk(args):
            if isinstance(arg, ast.arg):
                arg.annotation = None
        made = [self.visit(statement) for statement in body]
        never = ast.If(ast.Constant(0), [ast.Expr(ast.Yield(None))], [])
        has_docstring = isinstance(node, ast.FunctionDef) and ast.get_docstring(node, False)
        at = 0 if has_docstring is None or isinstance(node, ast.Lambda) else 1
        made[at:at] = [never, *self.hoisted]
        out = ast.FunctionDef(_BODY, args, made, [], None)
        return ast.fix_missing_locations(ast.copy_location(out, node))

    def _note_inner(self, statement: ast.AST) -> None:
        for node in ast.walk(statement):
            if isinstance(node, ast.FunctionDef) and any(map(self._performs, node.body)):
                self.performing.add(node.name)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                if self._performs(node.value.body):
                    self.performing |= {t.id for t in node.targets if isinstance(t, ast.Name)}

    def _performs(self, node: ast.AST) -> bool:
        """Is a callee in there that is known to perform effects?"""
        return any(
            isinstance(inner, ast.Call) and self._form(inner.func) is not None
            for inner in ast.walk(node)
        )

    def _form(self, callee: ast.AST) -> Any:
        found, _ = self.names.look(callee)
        if found is UNKNOWN:
            return None
        try:
            return self.tools.form(found)
        except Refused as refused:
            raise Refused(callee, str(refused)) from None

    def _constant(self, thing: Any) -> ast.expr:
        self.constants.append(thing)
        return ast.Constant(f"{_MARK}{len(self.constants) - 1}")

    # --- calls

    def visit_Call(self, node: ast.Call) -> ast.expr:
        found, fixed = self.names.look(node.func)
        if any(found is reader for reader in _FRAME_READERS):
            raise Refused(node, f"{found.__name__}(...) sees the local variables of its caller")
        form = self._form(node.func)
        if found is not UNKNOWN and form is None and fixed:
            self._check_handed_on(node, found)
            node.args = [self.visit(arg) for arg in node.args]
            node.keywords = [self.visit(keyword) for keyword in node.keywords]
            return node
        self.yields += 1
        callee = node.func if form is not None else self.visit(node.func)
        args = [self.visit(arg) for arg in node.args]
        keywords = [self.visit(keyword) for keyword in node.keywords]
        if form is not None:
            again = copy.deepcopy(callee)
            known = ast.Compare(callee, [ast.Is()], [self._constant(found)])
            other = ast.Call(self._constant(self.tools.dynamic), [again], [])
            body = (
                self._constant(form.fn)
                if not form.late
                else ast.Attribute(self._constant(form), "fn", ast.Load())
            )
            return self._at(
                node, ast.Yield(ast.Call(ast.IfExp(known, body, other), args, keywords))
            )
        held = ast.NamedExpr(ast.Name("_cp_f_", ast.Store()), callee)
        kind = ast.Call(self._constant(type), [held], [])
        built_in = ast.BoolOp(
            ast.And(),
            [
                ast.Compare(kind, [ast.Is()], [self._constant(BuiltinFunctionType)]),
                ast.Compare(_name("_cp_f_"), [ast.IsNot()], [self._constant(self.tools.sample)]),
            ],
        )
        choose = ast.Call(self._constant(self.tools.chosen), [_name("_cp_f_")], [])
        result = ast.Call(ast.IfExp(built_in, _name("_cp_f_"), choose), args, keywords)
        kept = ast.NamedExpr(ast.Name("_cp_r_", ast.Store()), result)
        waits = ast.Compare(
            ast.Call(self._constant(type), [kept], []),
            [ast.Is()],
            [self._constant(self.tools.pending)],
        )
        taken = ast.Yield(_and_forget(ast.Attribute(_name("_cp_r_"), "body", ast.Load())))
        return self._at(node, ast.IfExp(waits, taken, _and_forget(_name("_cp_r_"))))

    def _at(self, old: ast.AST, new: ast.expr) -> ast.expr:
        return ast.fix_missing_locations(ast.copy_location(new, old))

    def _check_handed_on(self, node: ast.Call, callee: Any) -> None:
        """A function with effects is not called by what cannot be suspended, such as `sorted`."""
        if callee is functools.partial:
            return
        for arg in [*node.args, *(keyword.value for keyword in node.keywords)]:
            arg = arg.value if isinstance(arg, ast.Starred) else arg
            if isinstance(arg, ast.Lambda):
                performs = self._performs(arg.body)
            elif isinstance(arg, ast.Name) and arg.id in self.performing:
                performs = True
            else:
                found, _ = self.names.look(arg)
                is_function = isinstance(found, (FunctionType, MethodType, BuiltinFunctionType))
                performs = is_function and self._form(arg) is not None
            if performs:
                name = getattr(callee, "__name__", callee)
                raise Refused(arg, f"a function that performs effects is handed to {name}(...)")

    # --- scopes

    def visit_FunctionDef(self, node: Any) -> Any:
        node.decorator_list = [self.visit(decorator) for decorator in node.decorator_list]
        return self._defaults(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        return self._defaults(node)

    def _defaults(self, node: Any) -> Any:
        node.args.defaults = [self.visit(value) for value in node.args.defaults]
        node.args.kw_defaults = [value and self.visit(value) for value in node.args.kw_defaults]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        bare = [s for s in node.body if not isinstance(s, (ast.FunctionDef, ast.AsyncFunctionDef))]
        if any(map(self._performs, bare)):
            raise Refused(node, "effects in the body of a class")
        return node

    def visit_Return(self, node: ast.Return) -> Any:
        if isinstance(node.value, ast.Call):
            found, _ = self.names.look(node.value.func)
            if inspect.isgeneratorfunction(found):
                raise Refused(node, "it returns a generator model, to be run in its place")
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        node.target = self.visit(node.target)
        node.value = node.value and self.visit(node.value)
        return node

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> Any:
        first = node.generators[0]
        first.iter = self.visit(first.iter)
        rest = [node.elt, *(g.iter for g in node.generators[1:])]
        if any(map(self._performs, rest + [test for g in node.generators for test in g.ifs])):
            raise Refused(node, "an effect inside of a generator expression (write a list)")
        return node

    def visit_ListComp(self, node: Any) -> Any:
        walrus = any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(node))
        first = node.generators[0]
        first.iter = self.visit(first.iter)
        before, hoisted, self.hoisted = self.yields, self.hoisted, []
        own = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
        added = own - self.names.local
        self.names.local |= added
        made = self._loop(copy.deepcopy(node))
        self.names.local -= added
        inner, self.hoisted = self.hoisted, hoisted
        if self.yields == before:
            return node
        if walrus:
            raise Refused(node, "`:=` in a comprehension with effects (write a loop)")
        if any(g.is_async for g in node.generators):
            raise Refused(node, "an asynchronous comprehension")
        made.body[0:0] = inner
        self.hoisted.append(ast.fix_missing_locations(ast.copy_location(made, node)))
        return self._at(node, ast.Yield(ast.Call(_name(made.name), [first.iter], [])))

    visit_SetComp = visit_DictComp = visit_ListComp

    def _loop(self, node: Any) -> ast.FunctionDef:
        """A comprehension as a function of its first iterable."""
        self.loops += 1
        name, out = f"_cp_loop{self.loops}_", _name("_cp_out_")
        if isinstance(node, ast.DictComp):
            begin: ast.expr = ast.Dict([], [])
            key = ast.Assign([ast.Name("_cp_k_", ast.Store())], self.visit(node.key))
            place = ast.Subscript(out, _name("_cp_k_"), ast.Store())
            body: list[ast.stmt] = [key, ast.Assign([place], self.visit(node.value))]
        else:
            is_list = isinstance(node, ast.ListComp)
            begin = ast.List([], ast.Load()) if is_list else ast.Call(self._constant(set), [], [])
            add = ast.Attribute(out, "append" if is_list else "add", ast.Load())
            body = [ast.Expr(ast.Call(add, [self.visit(node.elt)], []))]
        for place_in, loop in reversed(list(enumerate(node.generators))):
            for test in reversed(loop.ifs):
                body = [ast.If(self.visit(test), body, [])]
            over = self.visit(loop.iter) if place_in else _name("_cp_over_")
            body = [ast.For(loop.target, over, body, [])]
        args = ast.arguments([], [ast.arg("_cp_over_")], None, [], [], None, [])
        start = ast.Assign([ast.Name("_cp_out_", ast.Store())], begin)
        return ast.FunctionDef(name, args, [start, *body, ast.Return(out)], [], None)

    # --- what is entered and run through

    def visit_With(self, node: ast.With) -> Any:
        for item in node.items:
            given = self.visit(item.context_expr)
            call = ast.Call(self._constant(self.tools.context), [given], [])
            item.context_expr = self._at(item.context_expr, call)
            if item.optional_vars is not None:
                item.optional_vars = self.visit(item.optional_vars)
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_For(self, node: ast.For) -> Any:
        over = node.iter
        self.generic_visit(node)
        if not isinstance(over, (ast.Call, ast.List, ast.Tuple, ast.Constant)):
            call = ast.Call(self._constant(self.tools.context), [node.iter], [])
            node.iter = self._at(over, call)
        return node


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _and_forget(value: ast.expr) -> ast.expr:
    """A value, after which the frame holds neither it nor the callee any longer."""
    clear = [
        ast.NamedExpr(ast.Name(name, ast.Store()), ast.Constant(None))
        for name in ("_cp_r_", "_cp_f_")
    ]
    return ast.Subscript(ast.Tuple([value, *clear], ast.Load()), ast.Constant(0), ast.Load())


def compiled(
    made: ast.FunctionDef, owner: str | None, like: CodeType, constants: list[Any]
) -> CodeType:
    """The code of a rewritten function, with the free variables of the code that it stands for."""
    inner: ast.stmt = made
    if owner is not None:
        inner = ast.ClassDef(owner, [], [], [made], [])
    cells: list[ast.stmt] = [
        ast.Assign([ast.Name(name, ast.Store())], ast.Constant(None))
        for name in like.co_freevars
        if name != "__class__"
    ]
    if owner is not None and owner not in like.co_freevars:
        cells.append(ast.Global([owner]))  # the class statement is there for names with `__`
    none = ast.arguments([], [], None, [], [], None, [])
    factory = ast.FunctionDef("_cp_factory_", none, [*cells, inner], [], None)
    tree = ast.Module([ast.fix_missing_locations(ast.copy_location(factory, made))], [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant that is called: it will be an object
        top = compile(tree, like.co_filename, "exec", like.co_flags & FUTURES, dont_inherit=True)
    code = _inside(top, "_cp_factory_")
    if owner is not None:
        code = _inside(code, owner)
    code = _inside(code, _BODY)
    originals: dict[Any, list[CodeType]] = {}
    for inner_code in inner_codes(like):
        originals.setdefault(_identity(inner_code), []).append(inner_code)
    code = _finished(code, constants, code.co_qualname, like.co_qualname, originals)
    return code.replace(co_name=like.co_name)


def _inside(code: CodeType, name: str) -> CodeType:
    return next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)


def inner_codes(code: CodeType) -> Iterator[CodeType]:
    """The code objects inside of one, however deep."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from inner_codes(constant)


def _identity(code: CodeType) -> Any:
    return code.co_name, code.co_firstlineno, code.co_freevars, code.co_varnames, reach(code)


def _finished(
    code: CodeType,
    constants: list[Any],
    was: str,
    becomes: str,
    originals: dict[Any, list[CodeType]],
) -> CodeType:
    """The code with objects for the marks in it, and the very code of the functions inside."""

    def put(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(_MARK):
            return constants[int(value[len(_MARK) :])]
        if isinstance(value, CodeType):
            same = originals.get(_identity(value), [])
            if len(same) == 1 and not value.co_name.startswith("_cp_"):
                return same[0]
            return _finished(value, constants, was, becomes, originals)
        return value

    name = becomes + code.co_qualname.removeprefix(was)
    return code.replace(co_consts=tuple(map(put, code.co_consts)), co_qualname=name)
