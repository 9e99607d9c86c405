"""The corpus in direct style: each model of `corpus.py` as the ordinary function it would be.

The functions are made from the text of the generators: `yield x` becomes `x`, and the primitives
are those that perform at once. So the two styles can be held against each other, model by model.
"""

from __future__ import annotations

import ast
import inspect
from types import SimpleNamespace

import contpoutine.compat.pyro as pyro
from tests.models import corpus
from tests.models.corpus import Case

PRIMITIVES = SimpleNamespace(
    sample=pyro.sample,
    observe=lambda name, fn, value: pyro.sample(name, fn, obs=value),
    factor=pyro.factor,
    deterministic=pyro.deterministic,
)


class _Direct(ast.NodeTransformer):
    def visit_Yield(self, node):
        self.generic_visit(node)
        return node.value

    visit_YieldFrom = visit_Yield


def _direct_corpus():
    source = inspect.getsource(corpus)
    tree = ast.parse(source[source.index("def one_flip") :])
    models = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.Assign)]
    models = [node for node in models if getattr(node, "name", "") != "a_call_kept_in_a_local"]
    module = ast.Module([_Direct().visit(node) for node in models if not _is_list(node)], [])
    names = {"cp": PRIMITIVES, "dist": corpus.dist, "math": corpus.math}
    exec(compile(ast.fix_missing_locations(module), __file__, "exec"), names)
    return names


def _is_list(node):
    return isinstance(node, ast.Assign) and node.targets[0].id == "CORPUS"


_names = _direct_corpus()
TWINS = [
    (Case(_names[case.model.__name__], case.args), case)
    for case in corpus.CORPUS
    if case.model.__name__ in _names
]
