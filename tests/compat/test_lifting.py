"""`to_generator`: a lifted function is held against the generator that a person would write."""

from __future__ import annotations

import functools
import math
import traceback

import pytest

import contpoutine as cp
import contpoutine.compat.pyro as pyro
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.compat import to_generator
from contpoutine.compat.pyro import factor, sample
from contpoutine.errors import BarrierError, LiftError

flip = dist.Flip


def coin(name, p=0.25, *, turn=False):
    return pyro.sample(name, flip(p)) != turn


def coin_(name, p=0.25, *, turn=False):
    return (yield cp.sample(name, flip(p))) != turn


def loop(n=3):
    heads = 0
    for i in range(n):
        heads += pyro.sample(f"x{i}", flip(0.3))
    return heads


def loop_(n=3):
    heads = 0
    for i in range(n):
        heads += yield cp.sample(f"x{i}", flip(0.3))
    return heads


def while_else():
    n = 0
    while pyro.sample(f"more{n}", flip(0.5)):
        n += 1
        if n == 3:
            break
    else:
        return -n
    return n


def while_else_():
    n = 0
    while (yield cp.sample(f"more{n}", flip(0.5))):
        n += 1
        if n == 3:
            break
    else:
        return -n
    return n


def from_import():
    x = sample("x", flip(0.4))
    nothing = factor("f", 0.5 if x else 0.0)
    return x, nothing


def from_import_():
    x = yield cp.sample("x", flip(0.4))
    yield cp.factor("f", 0.5 if x else 0.0)
    return x, None


def observed():
    x = pyro.sample("x", flip(0.4))
    pyro.sample("y", flip(0.9 if x else 0.2), obs=True)
    return pyro.deterministic("z", not x)


def observed_():
    x = yield cp.sample("x", flip(0.4))
    yield cp.sample("y", flip(0.9 if x else 0.2), obs=True)
    return (yield cp.deterministic("z", not x))


def calls():
    return coin("a"), coin("b", turn=True), coin(p=0.5, name="c")


def calls_():
    return (yield coin_("a")), (yield coin_("b", turn=True)), (yield coin_(p=0.5, name="c"))


def recursion(n=0):
    return recursion(n + 1) if n < 4 and pyro.sample(f"x{n}", flip(0.5)) else n


def recursion_(n=0):
    if n < 4 and (yield cp.sample(f"x{n}", flip(0.5))):
        return (yield recursion_(n + 1))
    return n


def even(n=3):
    return n == 0 or (odd(n - 1) if coin(f"e{n}") else even(n - 1))


def odd(n):
    return n != 0 and (even(n - 1) if coin(f"o{n}") else odd(n - 1))


def even_(n=3):
    if n == 0:
        return True
    return (yield odd_(n - 1)) if (yield coin_(f"e{n}")) else (yield even_(n - 1))


def odd_(n):
    if n == 0:
        return False
    return (yield even_(n - 1)) if (yield coin_(f"o{n}")) else (yield odd_(n - 1))


def comprehensions():
    i = "kept"
    xs = [coin(f"x{i}{j}") for i in range(2) if i for j in range(i + 1) if coin(f"t{j}")]
    table = {f"k{k}": coin(f"k{k}") for k in "ab"}
    values = {coin(f"s{k}") for k in "cd"}
    nested = [[coin(f"n{a}{b}") for b in range(1)] for a in range(2)]
    return i, tuple(xs), tuple(table.items()), frozenset(values), tuple(map(tuple, nested))


def comprehensions_():
    xs, table, values, nested = [], {}, set(), []
    for a in range(2):
        if a:
            for j in range(a + 1):
                if (yield coin_(f"t{j}")):
                    xs.append((yield coin_(f"x{a}{j}")))
    for k in "ab":
        table[f"k{k}"] = yield coin_(f"k{k}")
    for k in "cd":
        values.add((yield coin_(f"s{k}")))
    for a in range(2):
        row = []
        for b in range(1):
            row.append((yield coin_(f"n{a}{b}")))
        nested.append(tuple(row))
    return "kept", tuple(xs), tuple(table.items()), frozenset(values), tuple(nested)


def inner_functions():
    count = 0

    def step(i, by=1):
        nonlocal count
        if pyro.sample(f"x{i}", flip(0.3)):
            count += by
        return count

    seen = [step(i) for i in range(2)]
    later = lambda p: pyro.sample("later", flip(p))  # noqa: E731
    return count, tuple(seen), later(0.2), step(9, by=5)


def inner_functions_():
    count = 0

    def step(i, by=1):
        nonlocal count
        if (yield cp.sample(f"x{i}", flip(0.3))):
            count += by
        return count

    seen = []
    for i in range(2):
        seen.append((yield step(i)))
    before = count
    later = yield cp.sample("later", flip(0.2))
    return before, tuple(seen), later, (yield step(9, by=5))


def handed_on(f=None):
    f = f or (lambda name: coin(name, 0.1))
    return twice(f), twice(functools.partial(coin, p=0.5, turn=True))


def twice(f):
    return f("a"), f("b")


def handed_on_():
    def low(name):
        return coin_(name, 0.1)

    first = ((yield low("a")), (yield low("b")))
    return first, ((yield coin_("a", 0.5, turn=True)), (yield coin_("b", 0.5, turn=True)))


class Urn:
    def __init__(self, p=0.3):
        self.__p = p

    def draw(self, name):
        return pyro.sample(name, flip(self.__p))

    def model(self):
        return self.draw("a"), self.draw("b")

    def __call__(self):
        return self.model()


class Turned(Urn):
    def draw(self, name):
        return not super().draw(name)


def urn_():
    return (yield cp.sample("a", flip(0.3))), (yield cp.sample("b", flip(0.3)))


def turned_():
    return not (yield cp.sample("a", flip(0.3))), not (yield cp.sample("b", flip(0.3)))


def objects():
    urn = Turned(0.4)
    draws = []
    draws.append(urn.draw("a"))
    draws.append(Urn.draw(urn, "b"))
    return tuple(draws)


def objects_():
    return not (yield cp.sample("a", flip(0.4))), (yield cp.sample("b", flip(0.4)))


def exceptions():
    log = []
    try:
        if pyro.sample("x", flip(0.5)):
            raise KeyError("x")
        log.append("none")
    except KeyError as error:
        log.append(f"{error} {pyro.sample('y', flip(0.5))}")
    finally:
        log.append(pyro.sample("z", flip(0.5)))
    return tuple(log)


def exceptions_():
    log = []
    try:
        if (yield cp.sample("x", flip(0.5))):
            raise KeyError("x")
        log.append("none")
    except KeyError as error:
        log.append(f"{error} {(yield cp.sample('y', flip(0.5)))}")
    finally:
        log.append((yield cp.sample("z", flip(0.5))))
    return tuple(log)


def expressions():
    """With a docstring."""
    pair = {"a": coin("a"), "b": coin("b")}
    if (c := coin("c")) and 0 < 1 + coin("d") < 2:
        pair["a"] = f"{coin('e')!r:>6}"
    match [*[coin("f")], c]:
        case [True, x] if coin("g"):
            return x, pair["a"]
        case _:
            return pair["a"], pair["b"]


def expressions_():
    pair = {"a": (yield coin_("a")), "b": (yield coin_("b"))}
    if (c := (yield coin_("c"))) and 0 < 1 + (yield coin_("d")) < 2:
        pair["a"] = f"{(yield coin_('e'))!r:>6}"
    f = yield coin_("f")
    if f and (yield coin_("g")):
        return c, pair["a"]
    return pair["a"], pair["b"]


def with_handler():
    with poutine.condition(data={"x": True}):
        x = pyro.sample("x", flip(0.2))
    return x, pyro.sample("y", flip(0.2))


def with_handler_():
    with poutine.condition(data={"x": True}):
        x = yield cp.sample("x", flip(0.2))
    return x, (yield cp.sample("y", flip(0.2)))


def with_plate():
    with cp.plate("items", 2):
        x = pyro.sample("x", dist.Bernoulli(0.25))
    for i in cp.plate("steps", 2):
        pyro.sample(f"y{i}", flip(0.25))
    return float(x.sum())


def with_plate_():
    with cp.plate("items", 2):
        x = yield cp.sample("x", dist.Bernoulli(0.25))
    for i in cp.plate("steps", 2):
        yield cp.sample(f"y{i}", flip(0.25))
    return float(x.sum())


def runs_a_generator():
    return cp.run(coin_, "a"), cp.perform(cp.sample("b", flip(0.3)))


def runs_a_generator_():
    return (yield coin_("a")), (yield cp.sample("b", flip(0.3)))


def shadowed(pyro):
    return pyro.sample("x", flip(0.1))


def shadowing():
    class other:
        sample = staticmethod(coin)

    return shadowed(other), shadowed(globals()["pyro"])


def shadowing_():
    return (yield coin_("x", flip(0.1))), (yield cp.sample("x", flip(0.1)))


def logged(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return "logged", fn(*args, **kwargs), pyro.sample("after", flip(0.5))

    return wrapper


@logged
def decorated(p=0.3):
    return pyro.sample("x", flip(p))


def decorated_():
    return "logged", (yield cp.sample("x", flip(0.3))), (yield cp.sample("after", flip(0.5)))


def no_effects():
    return 3


def no_effects_():
    return 3
    yield


PAIRS = [
    (loop, loop_),
    (functools.partial(loop, n=2), functools.partial(loop_, n=2)),
    (while_else, while_else_),
    (from_import, from_import_),
    (observed, observed_),
    (calls, calls_),
    (recursion, recursion_),
    (even, even_),
    (comprehensions, comprehensions_),
    (inner_functions, inner_functions_),
    (handed_on, handed_on_),
    (Urn().model, urn_),
    (Turned().model, turned_),
    (Urn(), urn_),
    (objects, objects_),
    (exceptions, exceptions_),
    (expressions, expressions_),
    (with_handler, with_handler_),
    (with_plate, with_plate_),
    (runs_a_generator, runs_a_generator_),
    (decorated, decorated_),
    (no_effects, no_effects_),
]
pairs = pytest.mark.parametrize(
    ("direct", "by_hand"),
    PAIRS,
    ids=[f"{i} {getattr(b, '__name__', b)}" for i, (_, b) in enumerate(PAIRS)],
)


def table(posterior):
    return {value: pytest.approx(p, abs=1e-9) for value, p in posterior.marginal().items()}


@pairs
def test_a_lifted_model_has_the_posterior_of_the_generator_by_hand(direct, by_hand):
    lifted = to_generator(direct)
    assert lifted.lifted and lifted.notes == ()
    got, expected = cp.infer.enumerate(lifted)(), cp.infer.enumerate(by_hand)()
    assert dict(got.marginal()) == table(expected)
    assert got.log_evidence == pytest.approx(expected.log_evidence)
    assert got.executions == expected.executions and got.branches == expected.branches


@pairs
def test_its_branches_are_clones_wherever_those_of_the_one_by_hand_are(direct, by_hand):
    expected = cp.infer.enumerate(by_hand)().notes
    assert len(cp.infer.enumerate(to_generator(direct))().notes) == len(expected)


@pairs
@pytest.mark.parametrize("seed", range(3))
def test_a_lifted_model_leaves_the_trace_of_the_generator_by_hand(direct, by_hand, seed):
    if direct is handed_on:
        pytest.skip("its site names repeat")
    traces = [
        poutine.trace(poutine.seed(model, rng_seed=seed)).get_trace()
        for model in (to_generator(direct), by_hand)
    ]
    for trace in traces[1:]:
        assert list(trace.nodes) == list(traces[0].nodes)
        for name, node in trace.nodes.items():
            if node["type"] == "sample":
                assert str(node["value"]) == str(traces[0].nodes[name]["value"])
        assert trace.nodes["_RETURN"]["value"] == traces[0].nodes["_RETURN"]["value"]
        assert float(trace.log_prob_sum()) == float(traces[0].log_prob_sum())


def failing(n):
    x = coin("a")
    rows = [
        coin(f"r{i}")
        for i in range(n)
    ]  # fmt: skip
    return 1 // (
        x - x
    ), rows  # fmt: skip


def failing_below():
    return [failing(i) for i in (0,)]


@pytest.mark.parametrize(("model", "args"), [(failing, (2,)), (failing_below, ())])
def test_an_exception_comes_from_the_lines_of_the_text(model, args):
    places = []
    for form in (model, to_generator(model)):
        with pytest.raises(ZeroDivisionError) as caught:
            cp.run(form, *args)
        places.append(
            [(f.lineno, f.name) for f in traceback.extract_tb(caught.tb) if f.filename == __file__]
        )
    direct, lifted = places
    assert direct[-1] == lifted[-1]
    names = {"failing", "failing_below"}
    assert [p for p in direct if p[1] in names] == [p for p in lifted if p[1] in names]


def test_a_wrong_argument_is_the_error_of_the_function():
    with pytest.raises(TypeError, match=r"coin\(\) got an unexpected keyword argument 'q'"):
        cp.run(to_generator(lambda: coin("a", q=1)))


def test_cells_are_shared_with_the_closure_and_not_copied():
    p = 0.25

    def model():
        return pyro.sample("x", flip(p))

    lifted = to_generator(model)
    p = 0.75
    assert cp.infer.enumerate(lifted)().marginal()[True] == pytest.approx(0.75)


def test_defaults_are_those_of_the_function():
    assert to_generator(loop).__defaults__ is loop.__defaults__
    assert to_generator(coin).__kwdefaults__ == {"turn": False}
    assert to_generator(expressions).__doc__ == "With a docstring."


def test_a_name_that_means_something_else_by_then_is_looked_at_again(monkeypatch):
    lifted = to_generator(calls)
    monkeypatch.setitem(globals(), "coin", lambda name, p=0.5, turn=False: name)
    assert cp.run(lifted) == ("a", "b", "c")
    monkeypatch.setitem(globals(), "coin", lambda name, p=0.5, turn=False: sample(name, flip(1.0)))
    assert dict(cp.infer.enumerate(lifted)().marginal()) == {(True, True, True): pytest.approx(1)}


def test_a_primitive_that_comes_as_an_argument_is_performed():
    lifted = to_generator(lambda draw: draw("x", flip(0.2)))
    assert cp.infer.enumerate(lifted)(pyro.sample).marginal()[True] == pytest.approx(0.2)


def test_the_same_closure_text_with_another_callee_is_looked_at_again():
    def model_of(f):
        return lambda: f("abc")

    assert cp.run(to_generator(model_of(len))) == 3
    posterior = cp.infer.enumerate(to_generator(model_of(coin)))()
    assert posterior.marginal()[True] == pytest.approx(0.25)


def test_a_method_of_a_run_is_lifted_when_it_is_called():
    def model():
        urns = [Urn(0.1), Turned(0.1)]
        return tuple(urn.draw(f"x{i}") for i, urn in enumerate(urns) if not urn), [
            urn.draw(f"x{i}") for i, urn in enumerate(urns)
        ] == [True, True]

    assert cp.infer.enumerate(to_generator(model))().marginal()[(), True] == pytest.approx(0.09)


# --- what is not rewritten


def sorted_by_effect():
    return tuple(sorted("ab", key=lambda c: pyro.sample(c, flip(0.25))))


def mapped():
    return tuple(map(coin, "ab"))


def inner_handed_on():
    def draw(name):
        return coin(name)

    return tuple(map(draw, "ab"))


def generator_expression():
    return sum(coin(f"x{i}") for i in range(2))


def sees_locals():
    x = coin("x")
    return locals()["x"]


def class_body():
    class Settings:
        x = coin("x")

    return Settings.x


def gives_a_generator():
    return coin_("x")


def walrus():
    return [y := coin(f"x{i}") for i in range(2)][-1] == y


exec(namespace_text := "def without_source():\n    return coin('x')\n")

REFUSED = {
    sorted_by_effect: "handed to sorted",
    mapped: "handed to map",
    inner_handed_on: "handed to map",
    generator_expression: "generator expression",
    sees_locals: "local variables",
    class_body: "body of a class",
    walrus: "`:=`",
    gives_a_generator: "returns a generator model",
    globals()["without_source"]: "source is not there",
}
refused = pytest.mark.parametrize("model", REFUSED, ids=lambda model: model.__name__)


@refused
def test_what_cannot_be_rewritten_is_named_and_runs_by_the_bridge(model):
    lifted = to_generator(model)
    assert not lifted.lifted
    (note,) = lifted.notes
    first = model.__code__.co_firstlineno
    assert note.startswith(f"{model.__code__.co_filename}:")
    assert first <= int(note.split(":")[1].split(",")[0]) <= first + 6
    assert REFUSED[model] in note
    expected = cp.infer.enumerate(model)()
    assert dict(cp.infer.enumerate(lifted)().marginal()) == table(expected)


@pytest.mark.parametrize("model", [m for m in REFUSED if m is not gives_a_generator])
def test_a_callee_that_cannot_be_rewritten_runs_by_the_bridge_inside_of_the_lifted_caller(model):
    def outer():
        return coin("before"), model(), coin("after")

    lifted = to_generator(outer)
    assert lifted.lifted and REFUSED[model] in lifted.notes[0]
    assert dict(cp.infer.enumerate(lifted)().marginal()) == table(cp.infer.enumerate(outer)())


@refused
def test_strict_raises_what_the_notes_say(model):
    with pytest.raises(LiftError, match="cannot be rewritten") as caught:
        to_generator(model, strict=True)
    assert caught.value.notes == to_generator(model).notes


def test_an_effect_that_slips_through_is_an_error_and_never_silent():
    class Odd:
        def __add__(self, other):
            return pyro.sample("x", flip(0.5))

    lifted = to_generator(lambda: Odd() + 1)
    with pytest.raises(BarrierError, match="'x'"):
        cp.infer.enumerate(lifted)()


def test_a_file_that_has_changed_is_not_taken_for_the_source(tmp_path):
    path = tmp_path / "changing.py"
    text = "from contpoutine.compat.pyro import sample\ndef model(d):\n    return sample('x', d)\n"
    path.write_text(text)
    namespace = {"__name__": "changing"}
    exec(compile(text, str(path), "exec"), namespace)
    path.write_text(text.replace("'x'", "'y'"))
    lifted = to_generator(namespace["model"])
    assert not lifted.lifted and "changed" in lifted.notes[0]
    assert cp.infer.enumerate(lifted)(flip(0.5)).marginal("x")[True] == pytest.approx(0.5)


def test_a_generator_model_is_given_back_and_what_is_no_function_is_refused():
    assert to_generator(loop_) is loop_
    with pytest.raises(LiftError, match="3"):
        to_generator(3)


def test_a_lifted_model_calls_itself_deeper_than_python_allows():
    def down(n):
        return pyro.sample("end", flip(0.5)) if n == 0 else down(n - 1)

    assert cp.infer.enumerate(to_generator(down))(3000).marginal()[True] == pytest.approx(0.5)


def test_a_real_pyro_model_is_lifted_where_it_only_draws():
    real = pytest.importorskip("pyro")
    import torch

    def model():
        x = real.sample("x", real.distributions.Bernoulli(0.25))
        real.factor("f", math.log(2.0) * x)
        real.sample("y", real.distributions.Bernoulli(0.5), obs=torch.tensor(1.0))
        return bool(x)

    def plated():
        with real.plate("items", 2):
            return float(real.sample("x", real.distributions.Bernoulli(0.25)).sum())

    for direct, is_lifted in ((model, True), (plated, False)):
        lifted = to_generator(direct)
        assert lifted.lifted is is_lifted
        expected = cp.infer.enumerate(direct)()
        got = cp.infer.enumerate(lifted)()
        assert {v: round(p, 5) for v, p in got.marginal().items()} == {
            v: round(p, 5) for v, p in expected.marginal().items()
        }
