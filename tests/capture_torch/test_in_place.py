"""A tensor that branches change in place is repaired by replay once, and copied at that place."""

from __future__ import annotations

import itertools

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from tests.capture.conftest import native_only
from tests.capture.law import assert_law, choose

ORDERS = ("depth_first", "breadth_first", "likely_first")
N = 5


def counting(body):
    """The model, with a list that has an item for each run from its start."""
    runs = []

    def model(*args):
        runs.append(1)
        return (yield from body(*args))

    return model, runs


def totals():
    total = torch.zeros(N)
    for i in range(N):
        total[i] += yield cp.sample("x", dist.Flip(0.5))
    return tuple(total.tolist())


def nested():
    def inner(total, i):
        total[i] = yield cp.sample("x", dist.Flip(0.5))
        return total.sum()

    total = torch.zeros(N)
    sums = torch.zeros(1)
    for i in range(N):
        sums += yield inner(total, i)
    return tuple(total.tolist())


def viewed():
    total = torch.zeros(N, 2)
    view, held = total[:, 0], {"t": [total[:, 1]]}
    for i in range(N):
        view[i] += yield cp.sample("x", dist.Flip(0.5))
        held["t"][0][i] = 1 - view[i]
    return tuple(total[:, 0].tolist()) if float(total.sum()) == N else None


class Adding(cp.Messenger):
    def __enter__(self):
        self.values = torch.zeros(N)
        self.n = 0
        return super().__enter__()

    def _pyro_post_sample(self, msg):
        self.values[self.n] += msg["value"]
        self.n += 1


def handled():
    with Adding() as adding:
        for _ in range(N):
            yield cp.sample("x", dist.Flip(0.5))
    return tuple(adding.values.tolist())


def batched():
    total = torch.zeros(2)
    for _ in range(2):
        total += yield cp.sample("x", torch.distributions.Bernoulli(torch.full((2,), 0.5)))
    return tuple(total.tolist())


@pytest.mark.clones("about when branches are cloned again")
@native_only
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("body", [totals, nested, viewed, handled])
def test_after_the_first_branches_nothing_is_replayed_any_more(body, order):
    model, runs = counting(body)
    posterior = cp.infer.enumerate(model, order=order)()
    expected = itertools.product((0.0, 1.0), repeat=N)
    assert dict(posterior.marginal()) == pytest.approx(dict.fromkeys(expected, 0.5**N))
    assert 1 < len(runs) <= 1 + 2 * N  # the first path, and one replay for each point on it
    (note,) = posterior.notes
    assert "changed a tensor in place" in note


@pytest.mark.clones("about when branches are cloned again")
@native_only
def test_states_that_the_driver_holds_copy_their_tensors_too():
    model, runs = counting(batched)
    posterior = cp.infer.enumerate(model)()
    flips = [(a, b) for a in (0, 1, 2) for b in (0, 1, 2)]
    ways = {0: 0.25, 1: 0.5, 2: 0.25}
    assert dict(posterior.marginal()) == pytest.approx(
        {(float(a), float(b)): ways[a] * ways[b] for a, b in flips}
    )
    assert len(runs) <= 4


class All(cp.Handler):
    def on_choose(self, msg, k):
        results = []
        for value in msg["args"]:
            results += yield k(value)
        return results

    def on_return(self, value):
        return [value]


@pytest.mark.clones("about when branches are cloned again")
@native_only
def test_continuations_copy_their_tensors_too():
    @counting
    def body():
        total = torch.zeros(N)
        for i in range(N):
            total[i] += yield choose(0, 1)
        return tuple(total.tolist())

    model, runs = body
    results = cp.run(cp.handle(All(), model))
    assert results == list(itertools.product((0.0, 1.0), repeat=N))
    assert len(runs) <= 1 + 2 * N


def plain(x):
    return x.detach().tolist()


def test_a_copied_tensor_keeps_its_aliases_its_layout_and_its_attributes():
    def model():
        x = torch.zeros(2, 3)
        t, row, same = x.t(), x[1], {"x": x}
        half = torch.zeros(2, dtype=torch.float16)
        for i in range(3):
            row[i] += yield choose(1, 2)
            half += i
            t[2, 0] -= 1
        return plain(x), plain(t), plain(row), plain(half), same["x"] is x, t.stride()

    assert_law(model, strategies=("auto", "replay"))


def test_a_distribution_and_a_module_of_the_model_follow_their_tensors():
    def model():
        loc = torch.zeros(1)
        d = torch.distributions.Normal(loc, 1.0)
        for _ in range(3):
            loc.add_((yield choose(1, 2)))
        return d.mean.tolist(), loc.tolist()

    assert_law(model, strategies=("auto", "replay"))


def test_tensors_with_gradients_are_changed_in_place_by_replay_and_their_gradients_flow():
    def model(w):
        total = torch.zeros(1)
        grads = []
        for _ in range(2):
            total += w * (yield choose(1, 2))
            v = total.detach()
            v += 0.5
        (grad,) = torch.autograd.grad(total.sum(), w)
        grads.append(grad.item())
        return total.item(), grads

    assert_law(model, torch.tensor(3.0, requires_grad=True), strategies=("auto", "replay"))


def test_a_tensor_and_an_array_on_one_memory_stay_one():
    def model():
        x = torch.zeros(2)
        array = x.numpy()
        y = torch.from_numpy(array)
        for i in (0, 1, 0):
            array[i] += yield choose(1, 2)
            y += 1
        return x.tolist(), array.tolist(), y.tolist()

    assert_law(model, strategies=("auto", "replay"))


def test_a_view_of_an_argument_that_nobody_changes_is_right():
    data = torch.arange(6.0)

    def model(data):
        view, total = data[2:4], torch.zeros(2)
        for _ in range(3):
            total += view * (yield choose(1, 2))
        return total.tolist(), view.tolist()

    assert_law(model, data, strategies=("auto", "replay"))
    assert data.tolist() == [0, 1, 2, 3, 4, 5]
