"""plate: dimensions, subsamples and loops as in Pyro, and in every branch of an enumeration."""

from __future__ import annotations

import math
import queue as queues

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.ambient import AMBIENT
from contpoutine.errors import BarrierError, PlateError, ShapeError
from tests.models.twice import OURS, PYROS, assert_same, signature

ORDERS = ["depth_first", "breadth_first", "likely_first"]


def batch(L):
    with L.plate("data", 3) as ind:
        x = yield L.sample("x", L.d.Normal(0.0, 1.0))
        yield L.sample("y", L.d.Normal(x, 1.0), obs=torch.arange(3.0)[ind])
    return x


def nested(L):
    with L.plate("a", 2):
        yield L.sample("x", L.d.Normal(0.0, 1.0))
        with L.plate("b", 3):
            yield L.sample("y", L.d.Normal(torch.zeros(2), 1.0))
            yield L.sample("z", L.d.Dirichlet(torch.ones(4)))
        with L.plate("c", 4):
            yield L.sample("w", L.d.Bernoulli(0.5))


def crossing(L):
    rows, columns = L.plate("rows", 2, dim=-2), L.plate("columns", 3, dim=-1)
    with columns:
        c = yield L.sample("c", L.d.Normal(0.0, 1.0))
    with rows:
        r = yield L.sample("r", L.d.Normal(0.0, 1.0))
    with rows, columns:
        yield L.sample("x", L.d.Normal(r + c, 1.0))
    with columns, rows:
        yield L.sample("y", L.d.Normal(r + c, 1.0))


def loop(L):
    total = 0.0
    for i in L.plate("steps", 3):
        x = yield L.sample(f"x{i}", L.d.Normal(total, 1.0))
        with L.plate(f"inner{i}", 2):
            yield L.sample(f"y{i}", L.d.Normal(x, 1.0))
        for j in L.plate(f"loop{i}", 2):
            total += yield L.sample(f"z{i}{j}", L.d.Normal(x, 1.0))
    return total


def given_subsample(L):
    data = torch.arange(10.0).reshape(5, 2)
    with L.plate("data", 5, subsample=torch.tensor([4, 1]), dim=-1) as ind:
        part = yield L.subsample(data, event_dim=1)
        assert torch.equal(part, data[ind])
        yield L.sample("x", L.d.Normal(part, 1.0).to_event(1))
        with L.plate("other", 6, subsample_size=3, dim=-2):
            yield L.sample("y", L.d.Normal(0.0, 1.0))


def drawn_subsample(L):
    for i in L.plate("data", 10, subsample_size=3):
        yield L.sample(f"x{int(i)}", L.d.Normal(0.0, 1.0))
    with L.plate("batch", 10, 4) as ind:
        yield L.sample("y", L.d.Normal(ind.float(), 1.0))


def factors(L):
    yield L.factor("outside", torch.tensor([0.5, 1.5]))
    with L.plate("data", 3):
        yield L.factor("number", torch.tensor(0.25))
        yield L.factor("batch", torch.arange(3.0))
        with L.plate("more", 2):
            yield L.factor("wide", torch.arange(3.0))


def without_a_size(L):
    with L.plate("any"):
        yield L.sample("x", L.d.Normal(torch.zeros(7), 1.0))


BODIES = [
    batch,
    nested,
    crossing,
    loop,
    given_subsample,
    drawn_subsample,
    factors,
    without_a_size,
]


@pytest.mark.parametrize("body", BODIES)
def test_a_model_with_plates_has_pyros_trace(body):
    mine = OURS.trace(OURS.model(body))
    assert_same(signature(mine), signature(PYROS.trace(PYROS.model(body))))
    assert AMBIENT.get() == ()


# --- in every branch --------------------------------------------------------------------------


def finite(L):
    """Choices before, between and inside of plates of both kinds."""
    kind = yield L.sample("kind", L.d.Bernoulli(0.3))
    size = 2 + int(kind)
    with L.plate("data", size) as ind:
        x = yield L.sample("x", L.d.Bernoulli(0.4))
        with L.plate("more", 2):
            yield L.sample("y", L.d.Normal(x, 1.0), obs=torch.ones(2, size))
    late = yield L.sample("late", L.d.Bernoulli(0.5))
    total = x.sum() + ind.sum()
    for i in L.plate("steps", 1 + int(late)):
        s = yield L.sample(f"s{i}", L.d.Bernoulli(0.25))
        if late == 1 and s == 1:
            break
        total = total + s
        with L.plate(f"inner{i}", 2, subsample=torch.tensor([1])):
            yield L.sample(f"z{i}", L.d.Normal(total, 1.0), obs=torch.tensor([0.5]))
    with L.plate("after", 1):
        yield L.sample("end", L.d.Bernoulli(0.5))
    return float(total)


def branch_signatures(body, order, capture):
    def model():
        with poutine.trace() as tr:
            yield from body(OURS)
        return tuple(
            (name, tuple(torch.as_tensor(node["value"]).reshape(-1).tolist()))
            for name, node in tr.trace.nodes.items()
        ), tr.trace

    found = []

    def keeping():
        values, trace = yield from model()
        found.append((values, trace))
        return values

    posterior = cp.infer.enumerate(keeping, order=order, capture=capture)()
    return posterior, found


@pytest.mark.parametrize("order", ORDERS)
def test_plates_are_right_in_every_branch(order, capture):
    posterior, found = branch_signatures(finite, order, capture)
    assert len(found) == posterior.executions
    for values, trace in found[ORDERS.index(order) :: 13]:
        replayed = PYROS.poutine.Trace()
        for name, node in trace.nodes.items():
            if node["type"] == "sample" and not node["is_observed"] and name not in PLATES:
                replayed.add_node(name, **node)
        again = PYROS.poutine.replay(PYROS.model(finite), trace=replayed)
        pyros = PYROS.poutine.trace(again).get_trace()
        assert_same(signature(trace), signature(pyros))
        weight = math.exp(float(pyros.log_prob_sum()) - posterior.log_evidence)
        assert posterior.marginal()[values] == pytest.approx(weight, rel=1e-4)


PLATES = {"data", "more", "steps", "inner0", "inner1", "after"}


def test_a_plate_made_before_the_choice_is_entered_by_every_branch(capture):
    def model():
        mine = cp.plate("data", 2)
        loop = cp.plate("loop", 2)
        a = yield cp.sample("a", dist.Flip(0.5))
        if a:
            with cp.plate("outer", 3, dim=-1):
                with pytest.raises(PlateError) if not a else cp.plate("more", 2):
                    pass
        with mine:
            x = yield cp.sample("x", dist.Bernoulli(0.5))
        found = []
        for i in loop:
            found.append(((yield cp.sample(f"s{i}", dist.Flip(0.5))), loop.counter))
        return a, tuple(x.shape), mine.dim, tuple(found)

    for order in ORDERS:
        posterior = cp.infer.enumerate(model, order=order, capture=capture)()
        assert len(posterior.marginal()) == 2 * 4
        for _, shape, dim, found in posterior.marginal():
            assert shape == (2,) and dim == -1
            assert [counter for _, counter in found] == [1, 2]


@pytest.mark.parametrize("order", ORDERS)
def test_loops_left_early_leave_no_plate_behind(order, capture):
    def model():
        depth = len(AMBIENT.get())
        for i in cp.plate("loop", 3):
            if (yield cp.sample(f"x{i}", dist.Flip(0.5))):
                break
        assert len(AMBIENT.get()) == depth
        try:
            for i in cp.plate("again", 3):
                if (yield cp.sample(f"y{i}", dist.Flip(0.5))):
                    raise KeyError(i)
        except KeyError as error:
            found = error.args[0]
        else:
            found = None
        assert len(AMBIENT.get()) == depth
        return i, found

    posterior = cp.infer.enumerate(model, order=order, capture=capture)()
    assert posterior.executions == 16


def test_control_handlers_resume_inside_plates(capture):
    choose = cp.operation("choose")

    class All(cp.Handler):
        def on_choose(self, msg, k):
            first = yield k(msg["args"][0])
            second = yield k(msg["args"][1])
            return first + second

        def on_return(self, value):
            return [value]

    def model():
        with poutine.trace() as tr:
            with cp.plate("a", 2):
                n = yield choose(1, 2)
                for i in cp.plate("b", n):
                    x = yield choose(0.0, 5.0)
                    yield cp.sample(f"x{i}", dist.Normal(x, 1.0))
        frames = [node["cond_indep_stack"] for node in tr.trace.nodes.values()][-1]
        return [frame[:4] for frame in frames], len(tr.trace)

    frames = cp.run(cp.handle(All(), model))
    expected = [([("a", -1, 2, 0), ("b", None, n, n)], 2 + n) for n in (1, 1, 2, 2, 2, 2)]
    assert frames == expected


def test_the_queue_gives_pyros_traces_of_a_model_with_plates():
    def explored(L):
        partial = queues.LifoQueue()
        partial.put(L.poutine.Trace())
        found = []
        queued = L.poutine.queue(L.model(scalar), queue=partial)
        while not partial.empty():
            found.append(signature(L.poutine.trace(queued).get_trace()))
        return found

    def scalar(L):
        kind = yield L.sample("kind", L.d.Bernoulli(0.3))
        with L.plate("data", 2 + int(kind)) as ind:
            yield L.sample("y", L.d.Normal(kind, 1.0), obs=ind.float())
        for i in L.plate("steps", 2):
            yield L.sample(f"s{i}", L.d.Bernoulli(0.25))

    mine, pyros = explored(OURS), explored(PYROS)
    assert len(mine) == len(pyros) == 8
    for one, other in zip(mine, pyros):
        assert_same(one, other)


# --- mistakes ---------------------------------------------------------------------------------


def run(body):
    return cp.run(OURS.model(body))


def test_plates_that_collide_say_which_and_where_there_is_room():
    def body(L):
        with L.plate("a", 2, dim=-1), L.plate("b", 3, dim=-2), L.plate("c", 4, dim=-1):
            yield L.sample("x", L.d.Normal(0.0, 1.0))

    with pytest.raises(PlateError, match=r"'c' and 'a' collide at dim=-1.*dim=-3"):
        run(body)
    assert AMBIENT.get() == ()


def test_a_plate_keeps_its_dim():
    def body(L):
        a, b = L.plate("a", 2), L.plate("b", 3)
        with a:
            pass
        with b:
            pass
        with a, b:
            yield L.sample("x", L.d.Normal(0.0, 1.0))

    with pytest.raises(PlateError, match="collide at dim=-1"):
        run(body)
    with pytest.raises(ValueError, match="collide at dim=-1"):
        PYROS.model(body)()
    PYROS.poutine.runtime._DIM_ALLOCATOR._stack.clear()


def test_nested_plates_of_one_name_are_refused():
    def body(L):
        with L.plate("a", 2), L.plate("a", 3):
            yield L.sample("x", L.d.Normal(0.0, 1.0))

    with pytest.raises(PlateError, match="same name"):
        run(body)


def test_a_plate_is_a_batch_or_a_loop():
    def body(L):
        a = L.plate("a", 2)
        with a:
            yield L.sample("x", L.d.Normal(0.0, 1.0))
        for i in a:
            yield L.sample(f"y{i}", L.d.Normal(0.0, 1.0))

    with pytest.raises(PlateError, match="two plates"):
        run(body)


def test_a_shape_that_does_not_fit_comes_with_a_table():
    def body(L):
        with L.plate("a", 2), L.plate("b", 3):
            yield L.sample("x", L.d.Normal(torch.zeros(5, 2), 1.0))

    with pytest.raises(ShapeError, match=r"'x' at .*test_plate_messenger.py.*plate 'b'") as caught:
        run(body)
    assert caught.value.__notes__ == [
        "dim           -2    -1\nbatch of x     5     2\nplate a              2\nplate b        3      "
    ]


@pytest.mark.parametrize("observed", [None, True])
def test_a_distribution_over_python_values_is_refused_in_a_batch(observed, capture):
    def model():
        with cp.plate("data", 3):
            yield cp.sample("x", dist.Flip(0.3), obs=observed)

    for go in (cp.run, lambda model: cp.infer.enumerate(model, capture=capture)()):
        with pytest.raises(PlateError, match="draws one value.*Bernoulli"):
            go(model)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"size": 0}, "positive size"),
        ({"size": 2.5}, "an integer as its size"),
        ({"size": 3, "dim": 1}, "counted from the right"),
        ({"size": 3, "subsample_size": 4}, "between 1 and the size"),
        ({"size": 3, "subsample_size": 0}, "between 1 and the size"),
        ({"size": 3, "subsample_size": 2, "subsample": [1]}, "has 1 elements"),
        ({"size": 3, "subsample": []}, "empty subsample"),
        ({"subsample_size": 3}, "full size"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(arguments, match):
    with pytest.raises(PlateError, match=match):
        cp.plate("data", **arguments)
    with pytest.raises(PlateError, match="string as its name"):
        cp.plate(3, 4)


def test_data_of_another_size_than_the_plate_is_refused():
    def body(L):
        with L.plate("data", 5, subsample_size=2):
            yield L.subsample(torch.zeros(4), event_dim=0)

    with pytest.raises(PlateError, match="shape \\(4,\\).*5 elements"):
        run(body)


def test_a_random_subsample_is_refused_where_it_could_not_be_repeated(capture):
    def model():
        yield cp.sample("a", dist.Flip(0.5))
        with cp.plate("data", 5, subsample_size=2):
            yield cp.sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(2))

    with pytest.raises(BarrierError, match="plate 'data' would be drawn.*subsample=indices"):
        cp.infer.enumerate(model, capture=capture)()

    class Nothing(cp.Handler):
        pass

    with pytest.raises(BarrierError, match="plate 'data' would be drawn"):
        cp.run(cp.handle(Nothing(), model))


def test_a_replayed_subsample_is_used_again_also_under_enumeration(capture):
    def model():
        a = yield cp.sample("a", dist.Flip(0.5))
        with cp.plate("data", 50, subsample_size=2) as ind:
            yield cp.sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(2))
        return a, tuple(ind.tolist())

    known = poutine.trace(model).get_trace()
    known.remove_node("a")
    posterior = cp.infer.enumerate(poutine.replay(model, trace=known), capture=capture)()
    assert {ind for _, ind in posterior.marginal()} == {
        tuple(known.nodes["data"]["value"].tolist())
    }
    assert len(posterior.marginal()) == 2


def test_broadcast_does_what_a_plate_does_for_a_bare_independence_context():
    from contpoutine.poutine.indep_messenger import IndepMessenger

    def model():
        with IndepMessenger("a", 3, dim=-2), IndepMessenger("b", 2, dim=-1):
            yield cp.sample("x", dist.Normal(torch.zeros(2), 1.0))

    bare = poutine.trace(model).get_trace().nodes["x"]
    wide = poutine.trace(poutine.broadcast(model)).get_trace().nodes["x"]
    assert bare["value"].shape == (2,) and wide["value"].shape == (3, 2)
    assert bare["cond_indep_stack"] == wide["cond_indep_stack"]
