"""The text of a function, as a syntax tree, and only where it surely is the text that runs.

A file may have changed since it was imported, and a decorator or an import hook may have compiled
something else. So the whole file is compiled again: a function's tree is given only if that yields
the very code object which the function runs, bytecode, constants and line table included.
"""

from __future__ import annotations
import __future__

import ast
import functools
import linecache
import warnings
from collections.abc import Iterator
from types import CodeType
from typing import Any

FUTURES = functools.reduce(
    lambda flags, name: flags | getattr(__future__, name).compiler_flag,
    __future__.all_feature_names,
    0,
)
"""The bits of a code's flags that say which `__future__` features it was compiled with."""


class NoSource(Exception):
    """Why the text of a function is not known."""


def find(code: CodeType) -> tuple[ast.FunctionDef | ast.Lambda, str | None]:
    """The tree of the function that `code` is the body of, and the class that it stands in.

    Raises `NoSource` where there is no text, or the text gives other code.
    """
    text = "".join(linecache.getlines(code.co_filename))
    if not text:
        raise NoSource("its source is not there")
    try:
        tree, codes = _file(code.co_filename, text, code.co_flags & FUTURES)
    except (SyntaxError, ValueError) as error:
        raise NoSource("its file is no text of Python any more") from error
    if code not in codes:
        raise NoSource("its source has changed, or something else than its file was compiled")
    found = [(node, owner) for node, owner in _functions(tree, None) if _is_of(node, code)]
    if len(found) != 1:
        raise NoSource("more than one function of that name begins at its line")
    return found[0]


@functools.lru_cache(maxsize=64)
def _file(filename: str, text: str, flags: int) -> tuple[ast.Module, frozenset[CodeType]]:
    tree = ast.parse(text, filename)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        top = compile(text, filename, "exec", flags, dont_inherit=True)
        parts = compile(text, filename, "single", flags, True) if len(tree.body) == 1 else top
    return tree, frozenset([*_codes(top), *_codes(parts)])


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _functions(node: ast.AST, owner: str | None) -> Iterator[tuple[Any, str | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child, owner
        inside = child.name if isinstance(child, ast.ClassDef) else owner
        yield from _functions(child, inside)


def _is_of(node: Any, code: CodeType) -> bool:
    if isinstance(node, ast.Lambda):
        return (
            code.co_name == "<lambda>"
            and node.lineno == code.co_firstlineno
            and _span(node.body) == reach(code)
        )
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return bool(code.co_name == node.name and first == code.co_firstlineno)


def _span(node: Any) -> tuple[Any, Any]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def reach(code: CodeType) -> tuple[Any, Any]:
    """From where to where in the text the instructions of a lambda reach."""
    places: list[Any] = [p for p in code.co_positions() if None not in p and (p[2], p[3]) != (0, 0)]
    if not places:
        return None, None
    return min((p[0], p[2]) for p in places), max((p[1], p[3]) for p in places)
