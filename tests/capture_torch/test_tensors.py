"""Hazards 11 and 12: tensors, gradients, NumPy arrays and their generators."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import contpoutine as cp
from tests.capture.law import WORKING, Keeping, assert_law, choose, strategy


def plain(x):
    """Tensors and arrays as lists, so that outcomes can be compared."""
    if isinstance(x, (torch.Tensor, np.ndarray)):
        return x.tolist()
    if isinstance(x, (list, tuple)):
        return [plain(item) for item in x]
    return x


def seen(body):
    """The model, whose tensors are read at its end."""

    def model(*args):
        return plain((yield from body(*args)))

    return model


REPLAYED = ("auto", "replay")


def test_a_tensor_that_nobody_changes_is_shared():
    @seen
    def model():
        x = torch.ones(2)
        xs = [x]
        xs.append(x * (yield choose(1, 2)))
        xs.append(xs[-1] + (yield choose(3, 4)))
        return xs

    assert_law(model)


def test_a_tensor_changed_in_place_is_not_seen_by_another_branch():
    @seen
    def model():
        x = torch.zeros(2)
        for i in range(2):
            x[i] += yield choose(1, 2)
        x.add_((yield choose(10, 20)))
        return x

    assert_law(model, strategies=REPLAYED)


def test_a_tensor_changed_in_place_through_a_view_or_an_alias():
    @seen
    def model():
        x = torch.zeros(4)
        view, held = x.view(2, 2), {"x": [x]}
        view[0, 1] = yield choose(1, 2)
        held["x"][0][3] = yield choose(3, 4)
        x[0] = view.sum()
        return x, view

    assert_law(model, strategies=REPLAYED)


def test_a_tensor_held_by_an_object_a_closure_and_a_handler():
    class Holder:
        def __init__(self, x):
            self.x = x

    class Adder(cp.Messenger):
        def __init__(self):
            self.total = torch.zeros(1)

        def _pyro_post_choose(self, msg):
            self.total += msg["value"]

    @seen
    def model():
        x = torch.zeros(1)
        holder = Holder(x)

        def add(n):
            x.add_(n)

        with Adder() as adder:
            add((yield choose(1, 2)))
            holder.x.mul_((yield choose(3, 4)))
        return x, adder.total

    assert_law(model, strategies=REPLAYED)


def test_a_tensor_changed_after_every_capture_of_a_deep_tree():
    @seen
    def model():
        x = torch.zeros(3, dtype=torch.int64)
        for i in range(4):
            x[i % 3] += yield choose(1, 10)
            yield choose(0, 0.5)
        return x

    assert_law(model, strategies=REPLAYED, orders=3)


def test_an_argument_tensor_is_shared_and_keeps_its_identity():
    weights = torch.tensor([1.0, 2.0], requires_grad=True)

    def model(w):
        kept = w
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return kept is w and kept is weights, (kept * a).sum().item(), b

    assert_law(model, weights)


def test_gradients_flow_to_parameters_from_every_branch():
    for name in WORKING:
        w = torch.tensor(2.0, requires_grad=True)

        def model(w):
            x = w * 3
            x = x * (yield choose(1, 2))
            return x + w * (yield choose(10, 20))

        with strategy(name):
            asked = cp.run(cp.handle(Keeping(), model), w)
            for a in (1, 2, 1):
                inner = cp.run(asked.k(a))
                for b in (10, 20, 10):
                    (grad,) = torch.autograd.grad(cp.run(inner.k(b)), w, retain_graph=True)
                    assert grad.item() == 3 * a + b


def test_a_module_and_its_parameters_given_as_arguments_are_shared():
    layer = torch.nn.Linear(2, 1)

    def model(net):
        here = net
        a = yield choose(0.0, 1.0)
        b = yield choose(0.0, 1.0)
        return here is net, here.weight is layer.weight, float(here(torch.tensor([a, b])).detach())

    assert_law(model, layer)


def test_a_torch_generator_held_by_the_model_is_never_shared():
    @seen
    def model():
        g = torch.Generator().manual_seed(5)
        xs = [torch.rand(1, generator=g)]
        for _ in range((yield choose(0, 2))):
            xs.append(torch.rand(1, generator=g))
        xs.append((yield choose(0, 1)))
        xs.append(torch.rand(1, generator=g))
        return xs

    assert_law(model)


def test_unnamed_torch_and_numpy_numbers_before_a_capture_are_kept():
    def model():
        x, y = torch.rand(1).item(), np.random.rand()
        a = yield choose(0, 1)
        return (x, y), a, (yield choose(0, 1))

    for name in WORKING:
        with strategy(name):
            asked = cp.run(cp.handle(Keeping(), model))
            drawn = set()
            for i in range(3):
                torch.manual_seed(i), np.random.seed(i)
                drawn.add(cp.run(cp.run(asked.k(0)).k(i))[0])
                now = torch.rand(1).item(), np.random.rand()
                torch.manual_seed(i), np.random.seed(i)
                assert now == (torch.rand(1).item(), np.random.rand())
            assert len(drawn) == 1


def test_numpy_arrays_and_views_are_never_shared():
    @seen
    def model():
        x = np.zeros(4)
        view, alias = x[1:3], x
        view[0] = yield choose(1, 2)
        alias[3] = yield choose(3, 4)
        x[0] = view.sum()
        return x, view, alias is x

    assert_law(model)


def test_numpy_scalars_and_object_arrays():
    @seen
    def model():
        n = np.float64(1.5)
        objects = np.array([[1], None], dtype=object)
        objects[0].append((yield choose(1, 2)))
        n = n + (yield choose(3, 4))
        return float(n), objects

    assert_law(model)


def test_a_numpy_array_given_as_an_argument_is_shared():
    data = np.arange(1_000_000)

    def model(x):
        here = x
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return here is x and here is data, int(here[a + b])

    assert_law(model, data)


@pytest.mark.parametrize(
    "make",
    [
        np.random.default_rng,
        np.random.RandomState,
        lambda seed: np.random.Generator(np.random.Philox(seed)),
        lambda seed: np.random.Generator(np.random.MT19937(seed)),
    ],
)
def test_numpy_generators_held_by_the_model_are_never_shared(make):
    def model():
        rng = make(3)
        xs = [rng.normal()]
        for _ in range((yield choose(0, 2))):
            xs.append(rng.normal())
        return xs, (yield choose(0, 1)), rng.normal()

    assert_law(model)


def test_an_array_that_shares_memory_with_a_tensor_is_never_shared():
    @seen
    def model():
        x = torch.zeros(2)
        array = x.numpy()
        array[0] = yield choose(1, 2)
        array[1] = yield choose(3, 4)
        return x, array

    assert_law(model, strategies=REPLAYED)


def test_a_tensor_changed_through_an_array_that_the_model_has_dropped():
    """The version counter does not see what NumPy writes."""

    @seen
    def model():
        x = torch.zeros(2)
        for i in range(2):
            answer = yield choose(1, 2)
            array = x.numpy()
            array[i] += answer
            del array
        return x

    assert_law(model, strategies=REPLAYED)


def test_a_distribution_made_by_the_model_is_shared_and_its_tensors_are_watched():
    @seen
    def model():
        loc = torch.zeros(1)
        d = torch.distributions.Normal(loc, 1.0)
        loc.add_((yield choose(1, 2)))
        loc.add_((yield choose(10, 20)))
        return d.mean, loc

    assert_law(model, strategies=REPLAYED)


def test_enumeration_keeps_the_law_with_tensors_changed_in_place():
    import contpoutine.distributions as dist

    def model():
        x = torch.zeros(3)
        for i in range(3):
            x[i] += yield cp.sample(f"c{i}", dist.Flip(0.5))
        return tuple(x.tolist())

    posteriors = [
        cp.infer.enumerate(model, order=order, capture=capture)().marginal()
        for order in ("depth_first", "breadth_first", "likely_first")
        for capture in ("auto", "replay")
    ]
    for posterior in posteriors:
        assert len(posterior) == 8
        assert all(abs(posterior[value] - 0.125) < 1e-12 for value in posterior)


def test_a_numpy_generator_and_its_bits_are_one_and_spawn_alike():
    def model():
        rng = np.random.default_rng(3)
        bits, seeds = rng.bit_generator, rng.bit_generator.seed_seq
        rng.random((yield choose(1, 2)))
        child = rng.spawn(1)[0].random()
        bits.random_raw((yield choose(1, 2)))
        return child, rng.random(), rng.bit_generator is bits, seeds.spawn(1)[0].spawn_key

    assert_law(model)


def test_numpy_arrays_of_every_layout_keep_their_layout():
    @seen
    def model():
        c, f = np.zeros((2, 3)), np.zeros((2, 3), order="F")
        back, part, row, point = c[::-1, ::-1], f.T[1:, :1], c[1], np.array(0.0)
        kinds = c.view(np.int64), np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])
        row[0] = yield choose(1, 2)
        f[0, 1] = yield choose(3, 4)
        point += row[0]
        kinds[1]["a"][0] = 7
        shapes = [(x.shape, x.strides, x.flags.writeable) for x in (c, f, back, part, row, point)]
        return c, f, back, part, row, point, kinds[0], kinds[1].tolist(), str(shapes)

    assert_law(model)


def test_a_view_into_an_array_from_outside_looks_into_that_array():
    data = np.arange(6.0)

    def model(x):
        view, own = x[2:4], np.zeros(2)
        own[0] = yield choose(1, 2)
        y = yield choose(3, 4)
        return (
            np.shares_memory(view, x),
            np.shares_memory(view, data),
            view.tolist(),
            own.tolist(),
            y,
        )

    assert_law(model, data)


def test_a_read_only_array_stays_read_only():
    def model():
        x = np.ones(2)
        x.flags.writeable = False
        y = np.frombuffer(b"ab", dtype=np.uint8)
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return x.flags.writeable, x.sum(), a, b, y.tolist()

    assert_law(model, strategies=REPLAYED)


def test_explain_names_the_tensor_that_is_changed_in_place():
    import contpoutine.distributions as dist

    def model():
        total, other = torch.zeros(1), torch.ones(1)
        for i in range(2):
            total += yield cp.sample(f"x{i}", dist.Flip(0.5))
        with torch.no_grad():
            yield cp.sample("y", dist.Flip(0.5))
        return float(total + other)

    found = cp.explain(model)
    notes = {note.kind: note.text for note in found.notes}
    assert "`with torch.no_grad()`" in notes["switch"]
    if cp.capabilities().native:
        assert "in local 'total'" in notes["tensor"]
        assert sum(note.kind == "tensor" for note in found.notes) == 1
