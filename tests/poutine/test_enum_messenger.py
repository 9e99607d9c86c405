"""enum and markov keep Pyro's books; where continuations go through the values, enum is refused."""

from __future__ import annotations

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.errors import HandlerStackError, NotEnumerableError, NotSupportedError
from tests.models.twice import OURS, PYROS, assert_same, signature

PARALLEL = {"enumerate": "parallel"}


def mixture(L):
    which = yield L.sample("which", L.d.Bernoulli(0.25), infer=PARALLEL)
    with L.plate("data", 3):
        z = yield L.sample("z", L.d.Categorical(torch.ones(4)), infer=PARALLEL)
        yield L.sample("x", L.d.Normal(z + which, 1.0), obs=torch.arange(3.0))
        yield L.sample("e", L.d.Bernoulli(0.5), infer={"enumerate": "parallel", "expand": True})
    yield L.sample("plain", L.d.Bernoulli(0.5))


def hidden_markov(L):
    z = torch.tensor(0)
    table = torch.tensor([[0.7, 0.3], [0.4, 0.6]])
    for t in L.poutine.markov(range(5)):
        z = yield L.sample(f"z{t}", L.d.Categorical(table[z]), infer=PARALLEL)
        yield L.sample(f"y{t}", L.d.Normal(z.float(), 1.0), obs=torch.tensor(0.5))


def two_axes(L):
    g = yield L.sample("g", L.d.Bernoulli(0.5), infer=PARALLEL)
    for i in L.poutine.markov(range(2)):
        x = torch.tensor(0.0)
        for j in L.poutine.markov(range(2), history=2):
            x = yield L.sample(f"x{i}{j}", L.d.Bernoulli(0.25 + 0.25 * (x + g)), infer=PARALLEL)


def events(L):
    one = yield L.sample("one", L.d.OneHotCategorical(torch.ones(3)), infer=PARALLEL)
    yield L.sample("x", L.d.Normal(one, 1.0).to_event(1), obs=torch.zeros(3))


BODIES = [mixture, hidden_markov, two_axes, events]


def books(trace):
    keys = ("_enumerate_dim", "_dim_to_id", "_markov_depth", "_markov_scope")
    return {
        name: {key: node["infer"].get(key) for key in keys}
        for name, node in trace.nodes.items()
        if node["type"] == "sample" and type(node["fn"]).__name__ != "_Subsample"
    }


@pytest.mark.parametrize("body", BODIES)
def test_parallel_enumeration_is_pyros(body):
    found = []
    for L in (OURS, PYROS):
        first = -2 if body is mixture else -1
        trace = L.trace(L.poutine.enum(L.model(body), first_available_dim=first))
        found.append((signature(trace), books(trace), trace))
    assert_same(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    for _, _, trace in found:
        trace.compute_log_prob()
        trace.pack_tensors()
    for name in found[0][1]:
        mine, pyros = [trace.nodes[name]["packed"] for _, _, trace in found]
        assert mine["log_prob"]._pyro_dims == pyros["log_prob"]._pyro_dims
        assert torch.allclose(mine["log_prob"], pyros["log_prob"])


def test_a_model_goes_on_where_its_guide_has_ended():
    def dims(L):
        def guide(L):
            yield L.sample("a", L.d.Bernoulli(0.5), infer=PARALLEL)

        def model(L):
            yield L.sample("b", L.d.Bernoulli(0.5), infer=PARALLEL)

        L.trace(L.poutine.enum(L.model(guide), first_available_dim=-3))
        return L.trace(L.poutine.enum(L.model(model))).nodes["b"]["infer"]

    assert dims(OURS) == dims(PYROS)


def test_what_has_no_meaning_is_refused_by_name(capture):
    def model(infer=PARALLEL, fn=None):
        yield cp.sample("x", dist.Bernoulli(0.5) if fn is None else fn, infer=infer)

    enumerated = poutine.enum(model, first_available_dim=-1)
    with pytest.raises(NotSupportedError, match="'x'.*inside of infer.enumerate"):
        cp.infer.enumerate(enumerated, capture=capture)()
    with pytest.raises(NotSupportedError, match="tensor Monte Carlo"):
        cp.run(enumerated, {**PARALLEL, "num_samples": 10})
    with pytest.raises(NotEnumerableError, match="no finite support"):
        cp.run(enumerated, PARALLEL, dist.Normal(0.0, 1.0))
    with pytest.raises(ValueError, match="counted from the right"):
        poutine.enum(model, first_available_dim=0)
    with pytest.raises(NotSupportedError, match="infer.enumerate"):
        poutine.collapse(model)
    with pytest.raises(NotSupportedError, match="dim and name"):
        poutine.markov(model, dim=-1)
    with pytest.raises(ValueError, match="history"):
        poutine.markov(model, history=-1)
    sequential = {"enumerate": "sequential"}
    assert cp.infer.enumerate(enumerated, capture=capture)(sequential).executions == 2


# --- markov -----------------------------------------------------------------------------------


def loop(L):
    for t in L.poutine.markov(range(4), history=2):
        yield L.sample(f"a{t}", L.d.Bernoulli(0.5))
        yield L.sample(f"b{t}", L.d.Bernoulli(0.5))


def contexts(L):
    m, kept = L.poutine.markov(history=0), L.poutine.markov(keep=True)
    with m:
        yield L.sample("a", L.d.Bernoulli(0.5))
        with m, kept:
            yield L.sample("b", L.d.Bernoulli(0.5))
            with kept:
                yield L.sample("c", L.d.Bernoulli(0.5))
            with kept:
                yield L.sample("d", L.d.Bernoulli(0.5))
    with kept:
        yield L.sample("e", L.d.Bernoulli(0.5))


@pytest.mark.parametrize("body", [loop, contexts])
def test_markov_scopes_are_pyros_also_in_every_branch(body, capture):
    pyros = books(PYROS.trace(PYROS.model(body)))
    assert books(OURS.trace(OURS.model(body))) == pyros
    found = []

    def model():
        with poutine.trace() as tr:
            yield from body(OURS)
        found.append(books(tr.trace))

    cp.infer.enumerate(model, capture=capture, order="breadth_first")()
    assert len(found) == 2 ** len(pyros) and all(scopes == pyros for scopes in found)


@pytest.mark.parametrize("keep", [False, True])
def test_a_decorated_recursive_model_has_pyros_scopes(keep, capture):
    def make(L):
        if L is OURS:

            @L.poutine.markov(history=1, keep=keep)
            def tree(depth, path):
                yield L.sample("x" + path, L.d.Bernoulli(0.5))
                if depth:
                    yield from tree(depth - 1, path + "l")
                    yield from tree(depth - 1, path + "r")

            return lambda: tree(2, "")
        import pyro

        @L.poutine.markov(history=1, keep=keep)
        def theirs(depth, path):
            pyro.sample("x" + path, L.d.Bernoulli(0.5))
            if depth:
                theirs(depth - 1, path + "l")
                theirs(depth - 1, path + "r")

        return lambda: theirs(2, "")

    pyros = books(PYROS.trace(make(PYROS)))
    mine = make(OURS)
    assert books(OURS.trace(mine)) == pyros == books(OURS.trace(mine))
    found = []

    def model():
        with poutine.trace() as tr:
            yield from mine()
        found.append(books(tr.trace))

    cp.infer.enumerate(model, capture=capture, order="breadth_first")()
    assert len(found) == 2**7 and all(scopes == pyros for scopes in found)


def test_a_markov_context_is_left_where_it_was_entered():
    with pytest.raises(HandlerStackError, match="not entered here"):
        poutine.markov().__exit__(None, None, None)
