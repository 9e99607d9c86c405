"""minicont: the whole idea in one file, executed, and held against counting by hand."""

from __future__ import annotations

import ast
import itertools
import sys
from collections import Counter

import pytest

from tests.examples.conftest import EXAMPLES, load

mini = load("minicont")
HOW = [mini.Replayed, mini.Cloned]
flip, sample, choose = mini.flip, mini.sample, mini.choose


@pytest.fixture(params=HOW, ids=lambda how: how.__name__)
def how(request):
    return request.param


@pytest.fixture(autouse=True)
def clean_stack():
    yield
    assert mini.STACK == []


def enumerated(model, how, *args):
    return mini.run(mini.handle(mini.Enumeration(), model, how), *args)


def chosen(model, how, *args):
    return mini.run(mini.handle(mini.AllChoices(), model, how), *args)


# --- the file itself


def test_it_is_short_and_shares_no_code_with_the_library():
    text = (EXAMPLES / "minicont.py").read_text(encoding="utf-8")
    assert text.count("\n") <= 250
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module)
    assert names and names <= sys.stdlib_module_names


def test_it_prints_what_is_true(printed):
    lines = printed("minicont").splitlines()
    assert lines == [
        "p('rain', 'sprinkler', 'wet') at (True, False, True): 0.1584",
        "p(rain | wet) by Replayed: 0.3577",
        "p(rain | wet) by Cloned: 0.3577",
        "right triangles: (3, 4, 5) (5, 12, 13) (6, 8, 10)",
    ]


# --- messengers


def test_what_nobody_decides_is_drawn():
    def model():
        return (yield sample("x", {"a": 1.0})), (yield sample("y", {"b": 0.5, "c": 0.5}))

    assert {mini.run(model) for _ in range(50)} == {("a", "b"), ("a", "c")}


def test_a_messenger_inside_a_model_stays_with_its_branch(how):
    def model():
        with mini.trace() as seen:
            a = yield sample("a", flip(0.25))
            yield sample("b", flip(0.5 if a else 0.125))
        yield sample("unseen", flip(0.5))
        return tuple(seen.sites.items()), seen.weight

    weights = enumerated(model, how)
    assert len(weights) == 4
    for (sites, weight), total in weights.items():
        assert dict(sites).keys() == {"a", "b"}
        assert total == pytest.approx(weight)


def test_the_inner_messenger_decides_first():
    def model():
        with mini.condition({"x": 1}):
            return (yield sample("x", {0: 0.5, 1: 0.25, 2: 0.25}))

    with mini.trace() as seen, mini.condition({"y": 2}):
        assert mini.run(model) == 1
    assert (seen.sites, seen.weight) == ({"x": 1}, 0.25)


# --- enumeration


def test_enumeration_is_counting(how):
    def model(n):
        faces = []
        for i in range(n):
            faces.append((yield sample(i, dict.fromkeys(range(1, 4), 1 / 3))))
            faces.sort()
        return tuple(faces)

    expected = Counter()
    for faces in itertools.product(range(1, 4), repeat=4):
        expected[tuple(sorted(faces))] += 3**-4
    assert enumerated(model, how, 4) == pytest.approx(expected)


def test_a_half_done_expression_and_its_loops_are_copied(how):
    def coins():
        for i, name in enumerate("ab"):
            yield (i, name)

    def model():
        pairs = coins()
        out = {}
        for i, name in pairs:
            out[name] = [i, *[i] * 2, (yield sample(name, {"h": 0.5, "t": 0.5})), *zip("xy", [i])]
        return str(out)

    weights = enumerated(model, how)
    assert len(weights) == 4 and sum(weights.values()) == pytest.approx(1.0)


def test_sub_models_and_closures(how):
    bias = 0.75

    def coin(name):
        return (yield sample(name, flip(bias)))

    def model():
        return (yield from coin("a")), (yield from coin("b"))

    assert enumerated(model, how)[True, False] == pytest.approx(0.75 * 0.25)


def test_what_two_variables_share_stays_one_object(how):
    def model():
        xs = []
        ys, both = xs, (xs, xs)
        ys.append((yield sample("a", flip(0.5))))
        both[1].append((yield sample("b", flip(0.5))))
        return tuple(xs), ys is xs, both[0] is xs

    assert set(enumerated(model, how)) == {
        ((a, b), True, True) for a in (True, False) for b in (True, False)
    }


def test_one_handler_inside_another(how):
    def coins():
        a = yield sample("a", flip(0.25))
        n = yield choose(1, 2)
        b = yield sample("b", flip(0.5))
        return a, n, b

    def model():
        return tuple((yield from mini.handle(mini.AllChoices(), coins, how)()))

    weights = enumerated(model, how)
    assert len(weights) == 8 and sum(weights.values()) == pytest.approx(1.0)
    assert weights[(True, 1, True), (True, 2, False)] == pytest.approx(0.25 * 0.5 * 0.5)


def test_a_messenger_between_a_choice_and_its_handler_records_in_each_branch(how):
    def model():
        with mini.trace() as seen:
            n = yield choose(1, 2)
            yield sample("x", {n: 1.0})
        return tuple(seen.sites.items())

    assert chosen(model, how) == [(("x", 1),), (("x", 2),)]


def test_a_handler_may_leave_the_rest_undone(how):
    left = []

    class First:
        def on_choose(self, msg, k):
            return (yield from k(msg["fn"][0])) if len(msg["fn"]) > 1 else "gave up"

        def on_return(self, value):
            return value

    def model(*choices):
        try:
            return (yield choose(1, 2)), (yield choose(*choices))
        finally:
            left.append(True)

    assert mini.run(mini.handle(First(), model, how), 3, 4) == (1, 3)
    assert mini.run(mini.handle(First(), model, how), 3) == "gave up"
    assert left == [True, True]


# --- what is refused


def replayed_only(model, match, *args):
    assert set(chosen(model, mini.Replayed, *args)) == {1, 2}
    with pytest.raises(TypeError, match=match):
        chosen(model, mini.Cloned, *args)


def test_a_file_is_refused_by_name(tmp_path):
    path = tmp_path / "data"
    path.write_text("x")

    def model():
        with path.open() as file:
            n = yield choose(1, 2)
            assert file.read() == "x"
        return n

    replayed_only(model, "TextIOWrapper")


def test_a_method_of_a_list_is_refused_by_name():
    def model():
        xs = []
        push = xs.append
        push((yield choose(1, 2)))
        return xs[0]

    replayed_only(model, "append")


def test_an_inner_function_is_refused_by_name():
    def model():
        n = 0

        def get():
            return n

        n = yield choose(1, 2)
        return get()

    replayed_only(model, "inner function")


def test_an_except_block_is_refused_by_name():
    def model():
        try:
            raise ValueError
        except ValueError:
            return (yield choose(1, 2))

    replayed_only(model, "except block")


def test_a_model_that_is_not_deterministic_is_found_by_replay():
    count = itertools.count()

    def model():
        yield choose(1, 2)
        yield sample(f"x{next(count)}", {1: 1.0})
        return (yield choose(1, 2))

    with pytest.raises(RuntimeError, match="'x1' came instead of 'x0'"):
        mini.run(mini.handle(mini.AllChoices(), model, mini.Replayed))


def test_a_clone_keeps_no_reference_too_many():
    def marker():
        pass

    def model(held):
        inner = [held, (held,)]
        for _ in range(4):
            inner.append((yield choose(held, held)))
        return len(inner)

    chosen(model, mini.Cloned, marker)
    before = sys.getrefcount(marker)
    assert len(chosen(model, mini.Cloned, marker)) == 16
    assert sys.getrefcount(marker) == before
