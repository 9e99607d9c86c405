"""`cp.explain` tells where a model is replayed, why, and what its text does to what is shared."""

from __future__ import annotations

import random
import sys
import threading

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.capture.contract import contract_notes
from contpoutine.capture.remedies import remedy
from contpoutine.core.ambient import AMBIENT
from contpoutine.errors import CaptureError, NotAModelError, UnhandledEffectError
from tests.capture.conftest import native_only
from tests.capture.law import Keeping, choose

total = 0
log = []
table = {"a": 1}


def coins(n):
    heads = 0
    for _ in range(n):
        heads += yield cp.sample("coin", dist.Flip(0.5))
    yield cp.observe("seen", dist.Flip(0.5), True)
    return heads


def line_of(text):
    """The line of this file that holds the text."""
    with open(__file__, encoding="utf-8") as file:
        return next(i for i, line in enumerate(file, 1) if text in line and "line_of" not in line)


@native_only
def test_a_model_that_is_cloned_everywhere_is_said_to_be():
    found = cp.explain(coins, 3)
    assert found.cloned and not found.notes
    (site,) = found.sites
    assert (site.effect, site.name, site.visits, site.cause) == ("sample", "coin", 3, None)
    assert "1 sites cloned, 0 replayed" in repr(found)


def locked(n):
    lock = threading.Lock()
    for _ in range(n):
        yield cp.sample("held", dist.Flip(0.5))  # the lock is held here
    del lock
    return (yield cp.sample("free", dist.Flip(0.5)))


@native_only
def test_a_site_that_is_replayed_names_the_object_the_local_and_the_line():
    held, free = cp.explain(locked, 2).sites
    assert (held.strategy, free.strategy) == ("replay", "clone")
    cause = held.cause
    assert (cause.place, cause.function) == ("local 'lock'", "locked")
    assert (cause.filename, cause.line) == (__file__, line_of("the lock is held here"))
    assert "_thread.lock" in cause.reason and "pass it as an argument" in cause.instead
    assert str(cause) in repr(cp.explain(locked, 2))


@pytest.mark.clones("nothing falls back on what is asked for")
@native_only
def test_what_explain_says_is_what_the_enumeration_does():
    posterior = cp.infer.enumerate(locked)(1)
    assert any("local 'lock' in locked" in note for note in posterior.notes)
    with pytest.raises(CaptureError, match="local 'lock'") as caught:
        cp.infer.enumerate(locked, capture="clone")(1)
    error = caught.value
    assert (error.place, error.function, error.filename) == ("local 'lock'", "locked", __file__)


def test_without_the_extension_every_site_is_replayed_and_says_so(monkeypatch):
    if cp.capabilities().native:
        pytest.skip("the extension is there")
    (site,) = cp.explain(coins, 1).sites
    assert site.strategy == "replay" and "capabilities" in site.cause.instead


@native_only
def test_effects_that_a_control_handler_takes_are_sites_too():
    def model():
        file = open("/dev/null")
        a = yield choose(1, 2)
        file.close()
        del file
        return a + (yield choose(3, 4))

    class First(cp.Handler):
        def on_choose(self, msg, k):
            return (yield k(msg["args"][0]))

    first, second = cp.explain(cp.handle(First(), model)).sites
    assert (first.effect, first.strategy, second.strategy) == ("choose", "replay", "clone")
    assert "local 'file'" in first.cause.place


@native_only
def test_handlers_around_are_asked_and_the_random_numbers_stay_as_they_were():
    state = random.getstate()
    with cp.poutine.condition(data={"coin": True}):
        assert not cp.explain(coins, 2).sites
    cp.explain(coins, 2)
    assert random.getstate() == state and AMBIENT.get() == ()


def test_what_cannot_be_explained_is_an_error():
    with pytest.raises(NotAModelError):
        cp.explain(len, [])
    with pytest.raises(UnhandledEffectError, match="choose"):
        cp.explain(lambda: (yield choose(1, 2)))
    with pytest.raises(ZeroDivisionError):
        cp.explain(lambda: (yield cp.sample(f"{1 // 0}", dist.Flip(0.5))))


# --- what the text of a model says ---------------------------------------------------------------


def changes_a_global():
    global total
    total += 1  # a global
    yield cp.sample("x", dist.Flip(0.5))


def changes_containers(xs, own):
    log.append((yield cp.sample("x", dist.Flip(0.5))))
    table["b"] = 2
    xs.append(1)
    xs[0] = 2
    del table["a"]
    own = list(own)
    own.append(3)
    mine = []
    mine.append(4)
    return mine


def outer():
    count = 0
    seen = []

    def model():
        nonlocal count
        count += 1
        seen.append((yield cp.sample("x", dist.Flip(0.5))))
        inner = 0

        def step():
            nonlocal inner
            inner += 1

        step()
        return inner

    return model


class Model:
    def __init__(self):
        self.n = 0

    def __call__(self):
        self.n += 1
        yield cp.sample("x", dist.Flip(0.5))

    def method(self):
        self.m.x = yield cp.sample("x", dist.Flip(0.5))


def switches():
    random.seed(3)
    x = random.random()
    sys.setrecursionlimit(5000)
    return (yield cp.sample("x", dist.Flip(x)))


def blocks():
    import warnings

    with warnings.catch_warnings():
        pass
    with CATCH():
        yield cp.sample("x", dist.Flip(0.5))


def helper(xs):
    xs.append(1)  # its argument may be the model's own
    log.append(1)


def calls_a_helper():
    helper([])
    return (yield cp.sample("x", dist.Flip(0.5)))


def shadows():
    log = []
    log.append((yield cp.sample("x", dist.Flip(0.5))))
    table = {x: x for x in log}
    table[1] = 2

    def total():
        return table

    random.shuffle(log)
    return total


from warnings import catch_warnings as CATCH  # noqa: E402


def kinds(model):
    return [(note.kind, note.text.partition(":")[0]) for note in contract_notes(model)]


def test_a_global_that_is_assigned_is_noted_with_its_line():
    (note,) = contract_notes(changes_a_global)
    assert note.kind == "global" and "'total'" in note.text and "return it" in note.instead
    assert note.where == f"{__file__}:{line_of('total += 1  # a global')}, in changes_a_global"


def test_containers_from_outside_that_are_changed_are_noted_and_own_ones_are_not():
    assert sorted(kinds(changes_containers)) == sorted(
        [
            ("outside", "changes the global 'log'"),
            ("outside", "changes the global 'table'"),
            ("outside", "changes its argument 'xs'"),
            ("outside", "changes its argument 'xs'"),
            ("outside", "changes the global 'table'"),
        ]
    )


def test_variables_of_an_outer_function_are_noted_and_those_of_the_model_are_not():
    assert kinds(outer()) == [
        ("nonlocal", "assigns 'count' of an outer function"),
        ("outside", "changes 'seen' of an outer function"),
    ]


def test_attributes_of_the_models_own_self_are_noted():
    model = Model()
    for callable_model in (model, model.method):
        (note,) = contract_notes(callable_model)
        assert note.kind == "outside" and "argument 'self'" in note.text


def test_switches_of_the_process_are_noted_in_calls_and_around_a_yield():
    assert [kind for kind, _ in kinds(switches)] == ["switch", "switch"]
    (note,) = contract_notes(blocks)
    assert note.kind == "switch" and "CATCH()" in note.text


def test_functions_that_a_model_calls_are_read_but_their_arguments_are_not_judged():
    (note,) = contract_notes(calls_a_helper)
    assert "in helper" in note.where and "'log'" in note.text


def test_names_of_the_model_that_hide_outer_ones_are_its_own():
    assert kinds(shadows) == []


def test_a_model_behind_handlers_decorators_and_partials_is_read():
    import functools

    wrapped = cp.poutine.condition(cp.handle(Keeping(), changes_a_global), data={})
    for model in (wrapped, functools.partial(changes_a_global)):
        assert [kind for kind, _ in kinds(model)] == ["global"]


def test_a_model_without_source_has_no_notes():
    space = {"cp": cp, "dist": dist}
    exec("def model():\n    global n\n    n = 1\n    yield", space)
    assert contract_notes(space["model"]) == ()


def test_the_notes_are_part_of_the_explanation():
    found = cp.explain(changes_a_global)
    assert [note.kind for note in found.notes] == ["global"]
    assert "assigns the global 'total'" in repr(found)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("a _io.TextIOWrapper object belongs to a library", "read what the model needs"),
        ("the class X was made by the model itself, so", "outside of the model"),
        ("a X object has a __del__ method, which would run", "__fork__"),
        ("a collections.deque_iterator object belongs", "for x in list(items)"),
        ("a dict object has a key that the model made and can change", "do not change"),
        ("a Strange object has no rule", "cp.fork.register"),
    ],
)
def test_each_reason_has_a_remedy(reason, advice):
    assert advice in remedy(reason)
