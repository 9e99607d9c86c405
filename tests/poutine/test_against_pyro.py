"""The same models in Pyro and here: the same executions in the same order, the same numbers."""

from __future__ import annotations

import heapq
import itertools
import queue

import pyro
import pyro.distributions as pdist
import pytest
import torch
from pyro import poutine as pyro_poutine

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine

# --- each model twice -----------------------------------------------------------------------


def coins(d, sample):
    a = yield sample("a", d.Bernoulli(0.3))
    b = yield sample("b", d.Bernoulli(0.6))
    yield sample("y", d.Normal(a + b, 1.0), obs=torch.tensor(1.5))
    return a + b


def chain(d, sample):
    state, path = 0, []
    transition = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.25, 0.25, 0.5]])
    for t in range(3):
        z = yield sample(f"z{t}", d.Categorical(transition[state]))
        state = int(z)
        yield sample(f"y{t}", d.Normal(z.float(), 0.5), obs=torch.tensor(0.5 * t))
        path.append(z)
    return torch.stack(path)


def geometric(d, sample):
    n = 0
    while n < 5 and (yield sample(f"more{n}", d.Bernoulli(0.5))) == 1.0:
        n += 1
    return torch.tensor(n)


def unequal(d, sample):
    kind = yield sample("kind", d.Categorical(torch.tensor([0.2, 0.3, 0.5])))
    if kind == 0:
        return kind
    x = yield sample("x", d.Bernoulli(torch.tensor(0.25)))
    if kind == 2 and x == 1:
        return 10 * (yield sample("z", d.Categorical(torch.ones(2)))) + kind
    return x + kind


def ours(body):
    return lambda: body(dist, cp.sample)


def theirs(body):
    """The same generator as a Pyro model: each request is performed at once."""

    def model():
        run = body(pdist, lambda *args, **kwargs: (args, kwargs))
        value = None
        while True:
            try:
                args, kwargs = run.send(value)
            except StopIteration as stop:
                return stop.value
            value = pyro.sample(*args, **kwargs)

    return model


class LikelyFirst:
    def __init__(self):
        self._heap, self._count = [], itertools.count()

    def put(self, trace):
        heapq.heappush(self._heap, (-float(trace.log_prob_sum()), next(self._count), trace))

    def get(self):
        return heapq.heappop(self._heap)[2]

    def empty(self):
        return not self._heap


def explored(library, model, make_queue):
    partial = make_queue()
    partial.put(library.Trace() if library is poutine else pyro_poutine.Trace())
    queued = library.queue(model, queue=partial)
    found = []
    while not partial.empty():
        trace = library.trace(queued).get_trace()
        values = [
            (name, node["is_observed"], node["value"].tolist())
            for name, node in trace.nodes.items()
            if node["type"] == "sample"
        ]
        found.append((values, trace.nodes["_RETURN"]["value"].tolist(), trace.log_prob_sum()))
    return found


@pytest.mark.parametrize("make_queue", [queue.Queue, queue.LifoQueue, LikelyFirst])
@pytest.mark.parametrize("body", [coins, chain, geometric, unequal])
def test_the_queue_gives_pyros_traces_in_pyros_order(body, make_queue, capture):
    mine = explored(poutine, ours(body), make_queue)
    pyros = explored(pyro_poutine, theirs(body), make_queue)
    assert [(values, result) for values, result, _ in mine] == [
        (values, result) for values, result, _ in pyros
    ]
    weights = torch.stack([log_prob for _, _, log_prob in mine]).float()
    assert torch.allclose(weights, torch.stack([log_prob for _, _, log_prob in pyros]), atol=1e-5)


# --- the other handlers ---------------------------------------------------------------------


def continuous(d, sample):
    scale = yield sample("scale", d.Gamma(torch.tensor(2.0), torch.tensor(1.0)))
    loc = yield sample("loc", d.Normal(torch.zeros(3), scale).to_event(1))
    yield sample("x", d.Normal(loc, torch.ones(3)), obs=torch.arange(3.0))
    return loc.sum()


DATA = {"scale": torch.tensor(1.5), "loc": torch.tensor([0.5, -1.0, 2.0])}


@pytest.mark.parametrize("names", [(), ("scale",), ("scale", "loc")])
def test_condition_gives_pyros_values_and_log_probabilities(names):
    data = {name: DATA[name] for name in names}
    mine = poutine.trace(poutine.condition(ours(continuous), data=data)).get_trace()
    pyros = pyro_poutine.trace(
        pyro_poutine.condition(
            pyro_poutine.replay(theirs(continuous), trace=as_pyro(mine, names)), data=data
        )
    ).get_trace()
    assert mine.observation_nodes == pyros.observation_nodes
    assert mine.stochastic_nodes == pyros.stochastic_nodes
    for name in mine.stochastic_nodes + mine.observation_nodes:
        assert torch.equal(mine.nodes[name]["value"], pyros.nodes[name]["value"])
    assert torch.allclose(mine.log_prob_sum(), pyros.log_prob_sum())
    mine.compute_log_prob()
    pyros.compute_log_prob()
    for name in mine.stochastic_nodes + mine.observation_nodes:
        for field in ("log_prob", "unscaled_log_prob", "log_prob_sum"):
            assert torch.allclose(mine.nodes[name][field], pyros.nodes[name][field])


def as_pyro(trace, leave_out):
    """A Pyro trace of the unobserved sites."""
    made = pyro_poutine.Trace()
    for name in trace.stochastic_nodes:
        if name not in leave_out:
            made.add_node(name, **trace.nodes[name])
    return made


def test_replay_gives_pyros_values_and_log_probabilities():
    first = pyro_poutine.trace(theirs(continuous)).get_trace()
    known = poutine.Trace()
    for name in first.stochastic_nodes:
        known.add_node(name, **first.nodes[name])
    again = poutine.trace(poutine.replay(ours(continuous), trace=known)).get_trace()
    assert torch.equal(again.nodes["_RETURN"]["value"], first.nodes["_RETURN"]["value"])
    assert torch.allclose(again.log_prob_sum(), first.log_prob_sum())


def test_gradients_of_the_log_joint_are_pyros():
    def loss(library, model):
        scale = torch.tensor(1.5, requires_grad=True)
        data = {"scale": scale, "loc": DATA["loc"]}
        library.trace(library.condition(model, data=data)).get_trace().log_prob_sum().backward()
        return scale.grad

    mine, pyros = loss(poutine, ours(continuous)), loss(pyro_poutine, theirs(continuous))
    assert torch.allclose(mine, pyros)
