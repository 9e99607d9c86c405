"""Models for the laws of the handlers, written once for this library and for pyro-ppl.

`data` makes every continuous draw of a model an observation, so that what is left can be
enumerated: then each branch is held against Pyro's execution with the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Case:
    body: Callable[..., Any]
    data: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self.body.__name__


def scale_and_weight(L):
    weight = yield L.sample("weight", L.d.Normal(8.5, 1.0))
    return (yield L.sample("measurement", L.d.Normal(weight, 0.75), obs=torch.tensor(9.5)))


def coins(L):
    a = yield L.sample("a", L.d.Bernoulli(0.3))
    b = yield L.sample("b", L.d.Bernoulli(0.6))
    yield L.sample("y", L.d.Normal(a + b, 1.0), obs=torch.tensor(1.5))
    return a + b


def chain(L):
    state = 0
    transition = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.25, 0.25, 0.5]])
    for t in range(3):
        z = yield L.sample(f"z{t}", L.d.Categorical(transition[state]))
        state = int(z)
        yield L.sample(f"y{t}", L.d.Normal(z.float(), 0.5), obs=torch.tensor(0.5 * t))
    return z


def markov_chain(L):
    z = torch.tensor(0.0)
    for t in L.poutine.markov(range(4)):
        z = yield L.sample(f"m{t}", L.d.Bernoulli(0.25 + 0.5 * z))
        yield L.sample(f"y{t}", L.d.Normal(z, 1.0), obs=torch.tensor(0.5))
    return z


def geometric(L):
    n = 0
    while n < 4 and (yield L.sample(f"more{n}", L.d.Bernoulli(0.5))) == 1.0:
        n += 1
    return torch.tensor(n)


def recursion(L):
    def tree(depth, path):
        if depth == 0 or (yield L.sample(f"stop{path}", L.d.Bernoulli(0.4))) == 1.0:
            return torch.tensor(1.0)
        left = yield from tree(depth - 1, path + "l")
        right = yield from tree(depth - 1, path + "r")
        return left + right

    return (yield from tree(2, ""))


def unequal(L):
    kind = yield L.sample("kind", L.d.Categorical(torch.tensor([0.2, 0.3, 0.5])))
    if kind == 0:
        return kind
    x = yield L.sample("x", L.d.Bernoulli(torch.tensor(0.25)))
    if kind == 2 and x == 1:
        return 10 * (yield L.sample("z", L.d.Categorical(torch.ones(2)))) + kind
    return x + kind


def hierarchical(L):
    scale = yield L.sample("scale", L.d.Gamma(torch.tensor(2.0), torch.tensor(1.0)))
    loc = yield L.sample("loc", L.d.Normal(torch.zeros(3), scale).to_event(1))
    yield L.sample("x", L.d.Normal(loc, torch.ones(3)), obs=torch.arange(3.0))
    return loc.sum()


def mixture(L):
    with L.plate("data", 3):
        z = yield L.sample("z", L.d.Categorical(torch.tensor([0.25, 0.75])))
        loc = torch.tensor([-1.0, 2.0])[z]
        yield L.sample("x", L.d.Normal(loc, 1.0), obs=torch.tensor([-1.0, 0.0, 2.0]))
    return z.sum()


def beta_bernoulli(L):
    p = yield L.sample("p", L.d.Beta(2.0, 2.0))
    with L.plate("data", 4):
        yield L.sample("x", L.d.Bernoulli(p), obs=torch.tensor([1.0, 0.0, 1.0, 1.0]))
    return p


def nested_plates(L):
    a = yield L.sample("a", L.d.Bernoulli(0.5))
    with L.plate("outer", 2, dim=-2):
        x = yield L.sample("x", L.d.Bernoulli(torch.tensor([[0.2], [0.7]])))
        with L.plate("inner", 3, dim=-1):
            yield L.sample("y", L.d.Normal(x + a, 1.0), obs=torch.ones(2, 3))
    return x.sum()


def loops_and_batches(L):
    total = torch.tensor(0.0)
    for i in L.plate("steps", 2):
        s = yield L.sample(f"s{i}", L.d.Bernoulli(0.25))
        total = total + s
        with L.plate(f"batch{i}", 2):
            yield L.sample(f"y{i}", L.d.Normal(total, 1.0), obs=torch.tensor([0.0, 1.0]))
    return total


def crossing_plates(L):
    rows, columns = L.plate("rows", 2, dim=-2), L.plate("columns", 2, dim=-1)
    with columns:
        c = yield L.sample("c", L.d.Bernoulli(0.4))
    with rows:
        r = yield L.sample("r", L.d.Bernoulli(0.6))
    with rows, columns:
        yield L.sample("x", L.d.Normal(r - c, 1.0), obs=torch.zeros(2, 2))
    return c.sum() + r.sum()


def subsampled(L):
    b = yield L.sample("b", L.d.Bernoulli(0.5))
    data = torch.arange(6.0)
    with L.plate("data", 6, subsample=torch.tensor([4, 1])):
        part = yield L.subsample(data, event_dim=0)
        yield L.sample("x", L.d.Normal(b, 1.0), obs=part)
    return b


def factors(L):
    x = yield L.sample("x", L.d.Bernoulli(0.5))
    yield L.factor("prefer", 0.75 * x)
    with L.plate("data", 3):
        yield L.factor("each", 0.1 * x)
    return x


def computed(L):
    x = yield L.sample("x", L.d.Bernoulli(0.5))
    twice = yield L.deterministic("twice", 2.0 * x)
    yield L.sample("y", L.d.Normal(twice, 1.0), obs=torch.tensor(1.0))
    return twice


def masked_inside(L):
    x = yield L.sample("x", L.d.Bernoulli(0.5))
    with L.poutine.mask(mask=torch.tensor([True, False, True])), L.plate("data", 3):
        yield L.sample("y", L.d.Normal(x, 1.0), obs=torch.arange(3.0))
        z = yield L.sample("z", L.d.Bernoulli(0.25))
    with L.poutine.mask(mask=False):
        yield L.sample("w", L.d.Normal(x, 1.0), obs=torch.tensor(9.0))
    return z.sum()


def scaled_inside(L):
    x = yield L.sample("x", L.d.Bernoulli(0.5))
    with L.poutine.scale(scale=0.5):
        y = yield L.sample("y", L.d.Bernoulli(0.25))
        with L.plate("data", 3), L.poutine.scale(scale=torch.tensor([1.0, 2.0, 3.0])):
            yield L.sample("z", L.d.Normal(x + y, 1.0), obs=torch.arange(3.0))
    return x + y


def hidden_inside(L):
    x = yield L.sample("x", L.d.Bernoulli(0.5))
    with L.poutine.block(hide=["noise"]):
        yield L.sample("noise", L.d.Normal(0.0, 1.0), obs=torch.tensor(0.5))
    yield L.sample("y", L.d.Normal(x, 1.0), obs=torch.tensor(0.5))
    return x


def regression(L):
    slope = yield L.sample("slope", L.d.Normal(0.0, 1.0))
    offset = yield L.sample("offset", L.d.Normal(0.0, 1.0))
    noise = yield L.sample("noise", L.d.LogNormal(0.0, 0.5))
    x = torch.linspace(-1.0, 1.0, 5)
    with L.plate("data", 5):
        yield L.sample("y", L.d.Normal(slope * x + offset, noise), obs=2.0 * x)
    return slope


def events(L):
    probs = yield L.sample("probs", L.d.Dirichlet(torch.ones(3)))
    one = yield L.sample("one", L.d.OneHotCategorical(probs))
    yield L.sample(
        "seen", L.d.MultivariateNormal(torch.zeros(3), torch.eye(3)), obs=one + torch.ones(3)
    )
    return one


def counts(L):
    n = yield L.sample("n", L.d.Binomial(3, torch.tensor(0.5)))
    yield L.sample("k", L.d.Poisson(n + 1.0), obs=torch.tensor(2.0))
    return n


def changing_plate(L):
    kind = yield L.sample("kind", L.d.Bernoulli(0.3))
    with L.plate("data", 1 + int(kind)) as ind:
        x = yield L.sample("x", L.d.Bernoulli(0.4))
        yield L.sample("y", L.d.Normal(x, 1.0), obs=ind.float())
    return x.sum()


CORPUS = [
    Case(scale_and_weight, {"weight": torch.tensor(8.23)}),
    Case(coins),
    Case(chain),
    Case(markov_chain),
    Case(geometric),
    Case(recursion),
    Case(unequal),
    Case(hierarchical, {"scale": torch.tensor(1.5), "loc": torch.tensor([0.5, -1.0, 2.0])}),
    Case(mixture),
    Case(beta_bernoulli, {"p": torch.tensor(0.6)}),
    Case(nested_plates),
    Case(loops_and_batches),
    Case(crossing_plates),
    Case(subsampled),
    Case(factors),
    Case(computed),
    Case(masked_inside),
    Case(scaled_inside),
    Case(hidden_inside),
    Case(
        regression,
        {"slope": torch.tensor(1.5), "offset": torch.tensor(0.1), "noise": torch.tensor(0.4)},
    ),
    Case(events, {"probs": torch.tensor([0.2, 0.3, 0.5])}),
    Case(counts),
    Case(changing_plate),
]
