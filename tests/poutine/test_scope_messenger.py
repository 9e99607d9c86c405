"""scope gives sites of sub-models unique names, outside; inside they keep their own."""

from __future__ import annotations

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine


def tree(depth):
    if depth == 0 or (yield cp.sample("stop", dist.Flip(0.5))):
        return 1
    left = yield poutine.scope(tree, prefix="l")(depth - 1)
    right = yield poutine.scope(tree, prefix="r")(depth - 1)
    return left + right


def test_a_recursive_model_has_unique_names_in_every_branch(capture):
    def model():
        with poutine.trace() as tr:
            size = yield tree(2)
        return size, tuple(tr.trace)

    posterior = cp.infer.enumerate(model, capture=capture)()
    assert posterior.log_evidence == pytest.approx(0.0)
    for size, names in posterior.marginal():
        assert len(names) == len(set(names)) and set(names) <= {"stop", "l/stop", "r/stop"}
        assert (size == 1) == (len(names) == 1)


def test_handlers_outside_use_the_prefixed_name_and_those_inside_the_models_own(capture):
    def sub():
        with poutine.trace() as tr:
            x = yield cp.sample("x", dist.Flip(0.5))
        return x, tuple(tr.trace)

    def model():
        a = yield poutine.scope(sub, prefix="a")()
        with poutine.scope(prefix="b", divider="."), poutine.scope(prefix="c"):
            b = yield sub()
        return a, b

    outer = poutine.condition(model, data={"a/x": True, "b.c/x": False})
    assert list(cp.infer.enumerate(outer, capture=capture)().marginal()) == [
        ((True, ("x",)), (False, ("x",)))
    ]


def test_a_control_handler_between_scopes_resumes_and_replays(capture):
    class Both(cp.Handler):
        def on_sample(self, msg, k):
            results = yield k.each([0, 1])
            return [(msg["name"], *rest) for part in results for rest in part]

        def on_return(self, value):
            return [(value,)]

    def model():
        with poutine.scope(prefix="in"):
            a = yield cp.sample("a", dist.Flip(0.5))
            b = yield cp.sample("b", dist.Flip(0.5))
        return a, b

    handled = poutine.scope(cp.handle(Both(), model), prefix="out")
    assert cp.run(handled) == [("in/a", "in/b", (a, b)) for a in (0, 1) for b in (0, 1)]


def test_a_prefix_is_a_string():
    with pytest.raises(TypeError, match="prefix='left'"):
        poutine.scope(tree)
