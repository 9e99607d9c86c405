"""The handler: its law, its three uses, other handlers around and inside it, and what it refuses."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
import contpoutine.testing
from contpoutine import poutine
from contpoutine.errors import (
    BarrierError,
    HandlerStackError,
    NotEnumerableError,
    OutsideSupportError,
    SymbolicValueError,
)

# --- the law ----------------------------------------------------------------------------------
#
# Delaying changes the order in which values are drawn, and not their joint distribution: the sites
# of a delayed run, numbers taken at the end included, weigh together what the plain model weighs
# at the same values.


def chain():
    x = yield cp.sample("x", dist.Normal(0.3, 1.5))
    y = yield cp.sample("y", dist.Normal(2 * x - 1, 0.7))
    yield cp.sample("seen", dist.Normal(y + x / 4, 0.5), obs=1.25)
    z = yield cp.sample("z", dist.Normal(-y, 1.0))
    return {"x": x, "y": y, "z": z}


def coins():
    p = yield cp.sample("p", dist.Beta(2.0, 1.5))
    out = {"p": p}
    for i in range(4):
        out[f"fall{i}"] = yield cp.sample(f"fall{i}", dist.Flip(1 - p if i % 2 else p))
    yield cp.sample("seen", dist.Bernoulli(p), obs=1.0)
    return out


def counts():
    rate = yield cp.sample("rate", dist.Gamma(3.0, 2.0))
    n = yield cp.sample("n", dist.Poisson(rate))
    yield cp.sample("seen", dist.Poisson(2 * rate), obs=3)
    return {"rate": rate, "n": n}


def words():
    theta = yield cp.sample("theta", dist.Dirichlet([1.0, 0.5, 2.0]))
    out = {"theta": theta}
    for i in range(3):
        out[f"w{i}"] = yield cp.sample(f"w{i}", dist.Categorical(theta))
    yield cp.sample("seen", dist.Categorical(theta), obs=2)
    return out


def taken_midway():
    x = yield cp.sample("x", dist.Normal(0.0, 1.0))
    y = yield cp.sample("y", dist.Normal(x, 1.0))
    x = yield poutine.realize(x)
    z = yield cp.sample("z", dist.Normal(2 * x + y, 0.5))
    yield cp.sample("seen", dist.Normal(z - y, 1.0), obs=0.5)
    return {"x": x, "y": y, "z": z}


def branching():
    up = yield cp.sample("up", dist.Flip(0.4))
    loc = yield cp.sample("loc", dist.Normal(1.0 if up else -1.0, 1.0))
    if up:
        loc2 = yield cp.sample("loc2", dist.Normal(loc, 1.0))
    else:
        loc2 = loc + 1
    yield cp.sample("seen", dist.Normal(loc2, 1.0), obs=0.3)
    return {"up": up, "loc": loc, **({"loc2": loc2} if up else {})}


def regression():
    a = yield cp.sample("a", dist.Normal(0.0, 1.0))
    b = yield cp.sample("b", dist.Normal(0.0, 1.0))
    for i, x in enumerate([-1.0, 0.5, 2.0]):
        yield cp.sample(f"y{i}", dist.Normal(a * x + b, 0.5), obs=x + 0.1)
    return {"a": a, "b": b}


LAWFUL = [chain, coins, counts, words, taken_midway, branching, regression]


@pytest.mark.parametrize("model", LAWFUL, ids=lambda model: model.__name__)
def test_a_delayed_run_weighs_what_the_plain_model_weighs(model):
    for seed in range(5):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            delayed = poutine.trace(poutine.delayed(model)).get_trace()
        values = delayed.nodes["_RETURN"]["value"]
        plain = poutine.trace(poutine.condition(model, data=values)).get_trace()
        assert delayed.log_prob_sum().item() == pytest.approx(
            plain.log_prob_sum().item(), rel=1e-5, abs=1e-5
        )


def test_a_model_runs_the_same_without_the_handler():
    for model in LAWFUL:
        model = poutine.condition(model, data={"up": True})
        values = cp.run(model)
        assert values.keys() == cp.run(poutine.delayed(model)).keys()
        assert all(isinstance(x, bool | torch.Tensor) for x in values.values())


# --- three uses -------------------------------------------------------------------------------


def around(x):
    mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
    yield cp.sample("x", dist.Normal(mu, 1.0), obs=x)
    return mu


def test_a_block_keeps_what_it_knows():
    with poutine.delayed() as handler:
        mu = cp.run(around, 2.0)
    posterior = handler.posterior(mu)
    assert (posterior.loc, posterior.scale**2) == pytest.approx((1.0, 0.5))
    assert handler.posterior(3 * mu + 1).loc == pytest.approx(4.0)
    assert handler.posterior(7).values == (7,)


def test_a_decorator_and_a_function_take_the_numbers_of_what_is_returned():
    @poutine.delayed()
    def decorated(x):
        mu = yield from around(x)
        return [mu, (mu, {"twice": 2 * mu}), "mu"]

    first, (second, third), text = cp.run(decorated, 2.0)
    assert isinstance(first, torch.Tensor) and first is second and text == "mu"
    assert third["twice"] == pytest.approx(2 * first.item())
    assert isinstance(cp.run(poutine.delayed(around), 2.0), torch.Tensor)


def test_a_model_may_call_itself():
    @poutine.delayed
    def sum_of(n):
        x = yield cp.sample(f"x{n}", dist.Normal(1.0, 1.0))
        rest = (yield sum_of(n - 1)) if n else 0.0
        yield cp.sample(f"y{n}", dist.Normal(x, 1e-3), obs=1.0)
        return x + rest

    assert cp.run(sum_of, 3).item() == pytest.approx(4.0, abs=0.05)


def test_inside_a_model_it_covers_a_part():
    def model():
        p = yield cp.sample("p", dist.Flip(0.5))
        with poutine.delayed():
            mu = yield cp.sample("mu", dist.Normal(float(p), 1.0))
            yield cp.sample("x", dist.Normal(mu, 1.0), obs=1.0)
            mean = (yield poutine.posterior(mu)).loc.item()
        free = yield cp.sample("free", dist.Flip(0.5))
        return mean, free

    posterior = cp.infer.enumerate(model)()
    assert sorted(posterior.marginal()) == [(0.5, False), (0.5, True), (1.0, False), (1.0, True)]
    ratio = posterior.marginal()[1.0, True] / posterior.marginal()[0.5, True]
    assert ratio == pytest.approx(math.exp(0.25))


# --- other handlers ---------------------------------------------------------------------------


def test_trace_further_out_has_marginals_and_weighs_the_evidence():
    trace = poutine.trace(poutine.delayed(around)).get_trace(2.0)
    assert list(trace) == ["_INPUT", "mu", "x", "mu.value", "_RETURN"]
    assert repr(trace.nodes["mu"]["value"]) == "<mu, delayed>"
    evidence = trace.log_prob_sum(lambda name, node: name in ("mu", "x")).item()
    assert evidence == pytest.approx(-0.5 * math.log(4 * math.pi) - 1.0, abs=1e-12)
    trace.compute_log_prob()
    assert trace.nodes["mu"]["log_prob"].item() == 0.0
    pickled = pickle.loads(pickle.dumps(trace))
    assert repr(pickled.nodes["mu"]["value"]) == "<mu, delayed>"


def test_trace_inside_sees_the_same():
    trace_in = poutine.trace(around)
    cp.run(poutine.delayed(trace_in), 2.0)
    assert repr(trace_in.trace.nodes["mu"]["value"]) == "<mu, delayed>"
    assert repr(trace_in.trace.nodes["x"]["fn"]).startswith("Normal(loc: 0.0, scale: 1.414")


@pytest.mark.parametrize("inside", [True, False])
def test_condition_counts_on_either_side(inside):
    def model():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        y = yield cp.sample("y", dist.Normal(mu, 1.0))
        yield cp.sample("z", dist.Normal(y, 1.0))
        posterior = yield poutine.posterior(mu)
        return posterior.loc.item() if isinstance(posterior, dist.Normal) else posterior.values[0]

    def conditioned(data):
        if inside:
            return poutine.delayed(poutine.condition(model, data=data))
        return poutine.condition(poutine.delayed(model), data=data)

    assert cp.run(conditioned({"y": 3.0})) == pytest.approx(1.5)
    assert cp.run(conditioned({"z": 3.0})) == pytest.approx(1.0)
    for data, variance in (({"y": 3.0}, 2.0), ({"z": 3.0}, 3.0), ({"y": 3.0, "mu": 1.0}, None)):
        trace = poutine.trace(conditioned(data)).get_trace()
        nodes = trace.nodes
        found = sum(
            trace.log_prob_sum(lambda name, node, site=site: name == site).item() for site in data
        )
        if variance is None:
            normal = torch.distributions.Normal(0.0, 1.0)
            expected = normal.log_prob(torch.tensor(1.0)) + normal.log_prob(torch.tensor(2.0))
        else:
            expected = torch.distributions.Normal(0.0, variance**0.5).log_prob(torch.tensor(3.0))
        assert found == pytest.approx(float(expected), abs=1e-6)
        assert all(nodes[site]["is_observed"] for site in data)


def test_replay_gives_the_numbers_again_and_leaves_what_was_symbolic_symbolic():
    delayed = poutine.delayed(chain)
    trace = poutine.trace(delayed).get_trace()
    again = poutine.trace(poutine.replay(delayed, trace=trace)).get_trace()
    assert again.nodes["_RETURN"]["value"] == trace.nodes["_RETURN"]["value"]
    assert again.log_prob_sum().item() == pytest.approx(trace.log_prob_sum().item())


def test_replay_works_inside_as_well():
    trace = poutine.trace(poutine.delayed(chain)).get_trace()
    again = poutine.delayed(poutine.replay(chain, trace=trace))
    assert cp.run(again).keys() == {"x", "y", "z"}


def test_a_symbolic_value_can_be_named():
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0))
        yield cp.deterministic("twice", 2 * x)

    trace = poutine.trace(poutine.delayed(model)).get_trace()
    assert repr(trace.nodes["twice"]["value"]) == "<2 * x, delayed>"
    assert trace.log_prob_sum().item() == 0.0
    assert cp.infer.enumerate(poutine.delayed(model))().log_evidence == 0.0


def test_an_intervention_is_no_evidence():
    def model():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        x = yield cp.sample("x", dist.Normal(mu, 1.0))
        y = yield cp.sample("y", dist.Normal(x, 1.0), obs=3.0)
        return (yield poutine.posterior(mu)), x, y

    done = poutine.delayed(poutine.do(model, data={"x": 1.0, "y": 5.0}))
    posterior, x, y = cp.run(done)
    assert (posterior.loc, posterior.scale, x, y) == (0.0, 1.0, 1.0, 5.0)
    evidence = poutine.trace(done).get_trace().log_prob_sum().item()
    assert evidence == pytest.approx(-0.5 * math.log(2 * math.pi) - 2.0)  # y around x, set to 1

    on_mu = poutine.do(poutine.delayed(model), data={"mu": 2.0})
    assert cp.run(poutine.condition(on_mu, data={"x": 0.0}))[0].values == (2.0,)
    with pytest.raises(SymbolicValueError, match="Install that handler inside"):
        cp.run(poutine.do(poutine.delayed(model), data={"x": 1.0}))


def test_handlers_of_every_kind_go_around_and_inside():
    def model():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        yield cp.sample("x", dist.Normal(mu, 1.0), obs=2.0)
        return (yield poutine.posterior(mu)).loc.item()

    wraps = [
        lambda fn: poutine.seed(fn, rng_seed=1),
        lambda fn: poutine.scope(fn, prefix="part"),
        lambda fn: poutine.infer_config(fn, config_fn=lambda msg: {}),
        lambda fn: poutine.broadcast(fn),
        lambda fn: poutine.markov(fn),
        lambda fn: poutine.mask(fn, mask=True),
        lambda fn: poutine.scale(fn, scale=1.0),
    ]
    for wrap in wraps:
        assert cp.run(wrap(poutine.delayed(model))) == pytest.approx(1.0)
        assert cp.run(poutine.delayed(wrap(model))) == pytest.approx(1.0)
    for hidden in (
        poutine.mask(poutine.delayed(model), mask=False),
        poutine.delayed(poutine.mask(model, mask=False)),
        poutine.delayed(poutine.uncondition(model)),
    ):
        assert cp.run(hidden) == 0.0
    trace = poutine.trace(poutine.delayed(model)).get_trace()
    trace.detach_()
    trace.compute_score_parts()
    assert "mu dist" in trace.format_shapes()


def test_the_queue_explores_a_delayed_model(capture):
    import queue

    def model():
        p = yield cp.sample("p", dist.Beta(1.0, 1.0))
        a = yield cp.sample("a", dist.Flip(p))
        b = yield cp.sample("b", dist.Flip(p))
        return a + b

    frontier = queue.Queue()
    frontier.put(poutine.Trace())
    explored = poutine.queue(poutine.delayed(model), queue=frontier)
    weights = {0: 0.0, 1: 0.0, 2: 0.0}
    while not frontier.empty():
        trace = poutine.trace(explored).get_trace()
        weights[trace.nodes["_RETURN"]["value"]] += trace.log_prob_sum().exp().item()
    assert weights == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3})


def test_a_control_handler_resumes_a_delayed_model_many_times(capture):
    """Each resumption learns from its own answer, in a state of its own."""
    guess = cp.operation("guess")

    class Try(cp.Handler):
        def on_guess(self, msg, k):
            return (yield k.each(msg["args"]))

    def model():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        x = yield guess(-2.0, 0.0, 4.0)
        yield cp.sample("x", dist.Normal(mu, 1.0), obs=x)
        return (yield poutine.posterior(mu)).loc.item()

    assert cp.run(cp.handle(Try(), poutine.delayed(model))) == pytest.approx([-1.0, 0.0, 2.0])

    class TrySites(cp.Handler):
        def on_sample(self, msg, k):
            if msg["name"] == "x":
                return (yield k.each([-2.0, 0.0, 4.0]))
            return (yield k((yield msg)))

    def drawing():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        yield cp.sample("x", dist.Normal(mu, 1.0))
        return (yield poutine.posterior(mu)).loc.item()

    assert cp.run(cp.handle(TrySites(), poutine.delayed(drawing))) == pytest.approx(
        [-1.0, 0.0, 2.0]
    )


def test_branches_do_not_learn_from_each_other(capture):
    def model():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        p = yield cp.sample("p", dist.Beta(1.0, 1.0))
        held = [mu, p]
        seen = []
        for i in range(3):
            up = yield cp.sample(f"up{i}", dist.Flip(held[1]))
            yield cp.sample(f"x{i}", dist.Normal(held[0], 1.0), obs=1.0 if up else -1.0)
            seen.append(up)
        mean = (yield poutine.posterior(mu)).loc.item()
        ones = (yield poutine.posterior(p)).concentration1.item()
        return tuple(seen), round(mean, 6), ones

    for order in ("depth_first", "breadth_first", "likely_first"):
        posterior = cp.infer.enumerate(poutine.delayed(model), capture=capture, order=order)()
        assert len(posterior.marginal()) == 8
        for (seen, mean, ones), _ in posterior.marginal().items():
            assert mean == pytest.approx(sum(1 if up else -1 for up in seen) / 4)
            assert ones == 1.0 + sum(seen)
        if capture == "clone":
            assert not posterior.notes


def test_two_handlers_know_their_own():
    def inner(a):
        b = yield cp.sample("b", dist.Normal(0.0, 1.0))
        yield cp.sample("about a", dist.Normal(a, 1.0), obs=2.0)
        yield cp.sample("about b", dist.Normal(b, 1.0), obs=4.0)
        return (yield poutine.posterior(a)).loc.item(), (yield poutine.posterior(b)).loc.item()

    def model():
        a = yield cp.sample("a", dist.Normal(0.0, 1.0))
        return (yield poutine.delayed(inner)(a))

    assert cp.run(poutine.delayed(model)) == pytest.approx((1.0, 2.0))


def test_a_realized_value_is_one_number_from_then_on():
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0))
        y = yield cp.sample("y", dist.Normal(x, 1.0))
        one = yield poutine.realize(x)
        two = yield from poutine.realize(x)
        total = yield poutine.realize(x + y)
        y = yield poutine.realize(y)
        return one, two, total, y

    trace = poutine.trace(poutine.delayed(model)).get_trace()
    one, two, total, y = trace.nodes["_RETURN"]["value"]
    assert one is two and total.item() == pytest.approx((one + y).item())
    assert list(trace)[1:-1] == ["x", "y", "x.value", "y.value"]
    assert trace.nodes["y.value"]["fn"].loc == pytest.approx(one.item())


def test_a_realized_site_can_be_named_and_enumerated_on_a_grid():
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0))
        yield cp.sample("y", dist.Normal(x, 1.0), obs=2.0)
        return (yield poutine.realize(x, name="x at last"))

    chosen = poutine.condition(poutine.delayed(model), data={"x at last": 1.0})
    assert cp.run(chosen) == 1.0
    with pytest.raises(NotEnumerableError, match="'x at last'"):
        cp.infer.enumerate(poutine.delayed(model))()


def test_a_site_can_be_left_alone():
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0), infer={"delayed": False})
        y = yield cp.sample("y", dist.Normal(x, 1.0))
        z = yield cp.sample("z", dist.Normal(y, 1.0), infer={"delayed": False})
        assert isinstance(x, torch.Tensor) and isinstance(z, torch.Tensor)
        return (yield poutine.posterior(y)).loc.item(), (x + z).item() / 2

    mean, expected = cp.run(poutine.delayed(model))
    assert mean == pytest.approx(expected, abs=1e-6)


def test_other_sites_are_drawn_as_usual():
    def model():
        batch = yield cp.sample("batch", dist.Normal(torch.zeros(3), 1.0))
        scale = yield cp.sample("scale", dist.Exponential(1.0))
        x = yield cp.sample("x", dist.Normal(batch[0], scale))
        return batch, scale, x

    batch, scale, x = cp.run(poutine.delayed(model))
    assert batch.shape == (3,) and isinstance(scale, torch.Tensor) and isinstance(x, torch.Tensor)


def test_what_is_hidden_by_block_is_drawn():
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0))
        return isinstance(x, torch.Tensor)

    assert cp.run(poutine.delayed(poutine.block(model)))
    assert cp.run(poutine.block(poutine.delayed(model))) is False


def test_a_mask_of_false_teaches_nothing():
    def model():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        with Masked():
            yield cp.sample("x", dist.Normal(mu, 1.0), obs=5.0)
        return (yield poutine.posterior(mu)).loc.item()

    class Masked(cp.Messenger):
        def _process_message(self, msg):
            if msg["type"] == "sample":
                msg["mask"] = False

    assert cp.run(poutine.delayed(model)) == 0.0
    posterior = cp.infer.enumerate(poutine.delayed(model))()
    assert posterior.log_evidence == 0.0


# --- inference further out --------------------------------------------------------------------


@pytest.fixture
def empty_store():
    cp.clear_param_store()
    yield
    cp.clear_param_store()


def nothing():
    return
    yield


def test_the_elbo_without_a_guide_is_the_evidence(empty_store):
    """Empirical Bayes: SVI moves what the prior was given, and samples nothing."""

    def model():
        loc = yield cp.param("loc", torch.tensor(0.5, dtype=torch.float64))
        mu = yield cp.sample("mu", dist.Normal(loc, 1.0))
        for i, x in enumerate([2.0, 3.0]):
            yield cp.sample(f"x{i}", dist.Normal(mu, 1.0), obs=x)

    delayed = poutine.delayed(model)
    elbo = cp.infer.Trace_ELBO()
    loss = elbo.differentiable_loss(delayed, nothing)
    cov = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    off = torch.tensor([2.0, 3.0], dtype=torch.float64) - 0.5
    pull = torch.linalg.solve(cov, off)
    expected = 0.5 * off @ pull + 0.5 * cov.logdet() + math.log(2 * math.pi)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    loss.backward()
    gradient = cp.get_param_store()["loc"].grad.item()
    assert gradient == pytest.approx(-pull.sum().item(), abs=1e-12)

    svi = cp.infer.SVI(delayed, nothing, cp.optim.Adam({"lr": 0.1}), elbo)
    losses = [svi.step() for _ in range(150)]
    assert cp.get_param_store()["loc"].item() == pytest.approx(2.5, abs=0.02)
    assert losses[-1] < losses[0]


def test_a_guide_draws_a_part_and_the_rest_is_integrated_out(empty_store):
    def model():
        a = yield cp.sample("a", dist.Normal(0.0, 1.0))
        b = yield cp.sample("b", dist.Normal(a, 1.0))
        yield cp.sample("x", dist.Normal(b, 1.0), obs=1.5)

    def guide():
        yield cp.sample("a", dist.Normal(0.5, 0.8))

    torch.manual_seed(3)
    loss = cp.infer.Trace_ELBO().loss(poutine.delayed(model), guide)
    torch.manual_seed(3)
    a = poutine.trace(guide).get_trace().nodes["a"]["value"]
    normal = torch.distributions.Normal
    expected = normal(0.0, 1.0).log_prob(a) - normal(0.5, 0.8).log_prob(a)
    expected = expected + normal(a, 2.0**0.5).log_prob(torch.tensor(1.5))
    assert -loss == pytest.approx(expected.item(), abs=1e-5)


def test_the_enumerated_elbo_sums_choices_out_and_delays_the_rest(empty_store):
    def model(loc=None):
        if loc is None:
            loc = yield cp.param("loc", torch.tensor(0.5, dtype=torch.float64))
        mu = yield cp.sample("mu", dist.Normal(loc, 1.0))
        z = yield cp.sample("z", dist.Flip(0.3))
        yield cp.sample("x", dist.Normal(mu, 1.0 if z else 3.0), obs=4.0)

    delayed = poutine.delayed(model)
    loss = cp.infer.EnumELBO().differentiable_loss(delayed, nothing)
    loss.backward()
    gradient = cp.get_param_store()["loc"].grad.item()
    below, at, above = (
        cp.infer.enumerate(delayed)(loc).log_evidence for loc in (0.5 - 1e-5, 0.5, 0.5 + 1e-5)
    )
    assert loss.item() == pytest.approx(-at, abs=1e-12)
    assert gradient == pytest.approx(-(above - below) / 2e-5, abs=1e-6)


def test_a_delayed_model_keeps_the_law_of_resumption():
    def model():
        p = yield cp.sample("p", dist.Beta(1.0, 1.0))
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        seen = []
        for i in range(2):
            seen.append((yield cp.sample(f"z{i}", dist.Flip(p))))
            yield cp.sample(f"x{i}", dist.Normal(mu, 1.0), obs=float(seen[i]))
        mean, ones = (yield poutine.posterior(mu)).loc, (yield poutine.posterior(p)).concentration1
        return seen, mean.item(), ones.item()

    outcomes = cp.testing.assert_fork_law(poutine.delayed(model))
    assert len(outcomes) == 4


def test_an_expression_over_two_families_has_no_posterior():
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0))
        p = yield cp.sample("p", dist.Beta(1.0, 1.0))
        return (yield poutine.posterior(x + p))

    with pytest.raises(SymbolicValueError, match="no distribution in closed form"):
        cp.run(poutine.delayed(model))


# --- what is refused --------------------------------------------------------------------------

USES = {
    "a comparison": lambda x, y: x == 1.0,
    "`gt`": lambda x, y: x > 0,
    "a truth value": lambda x, y: 1 if x else 0,
    "float": lambda x, y: float(x),
    "`pow`": lambda x, y: x**2,
    "`rtruediv`": lambda x, y: 1 / x,
    "a product with another symbolic value": lambda x, y: x * y,
    "the attribute 'exp'": lambda x, y: x.exp(),
    "torch's exp": lambda x, y: torch.exp(x),
    "torch's stack": lambda x, y: torch.stack([x, y]),
    "`abs`": lambda x, y: abs(x),
    "an index": lambda x, y: x[0],
    "a loop": lambda x, y: list(x),
    "arithmetic with tensor": lambda x, y: x + torch.ones(2),
    "arithmetic with 'a'": lambda x, y: x + "a",
    "`index`": lambda x, y: [1, 2][x],
    "exactly": None,
}
del USES["exactly"]


@pytest.mark.parametrize("what", USES)
def test_a_use_that_needs_the_number_says_so(what):
    def model():
        x = yield cp.sample("x site", dist.Normal(0.0, 1.0))
        y = yield cp.sample("y", dist.Normal(x, 1.0))
        return USES[what](x, y)

    with pytest.raises(SymbolicValueError) as refused:
        cp.run(poutine.delayed(model))
    text = str(refused.value)
    assert "site 'x site'" in text and what in text and "poutine.realize(x)" in text
    assert "test_delayed_messenger.py:" in text


def test_numbers_of_every_kind_can_be_added_and_multiplied():
    def model(number):
        x = yield cp.sample("x", dist.Normal(1.0, 1.0))
        y = (number * x + number) * number - x / number - number
        y = number - (-y + (number - x))
        return (yield poutine.posterior(+y))

    for number in (2, 2.0, np.float64(2.0), np.int32(2), torch.tensor(2.0), torch.tensor(2)):
        found = cp.run(poutine.delayed(model), number)
        # y = 2 - (-(4x + 4 - x/2 - 2) + 2 - x) = 4.5 x + 2
        assert (found.loc.item(), found.scale.item()) == pytest.approx((6.5, 4.5))


def bad_child(make):
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0))
        p = yield cp.sample("p", dist.Beta(1.0, 1.0))
        g = yield cp.sample("g", dist.Gamma(1.0, 1.0))
        d = yield cp.sample("d", dist.Dirichlet([1.0, 1.0]))
        yield cp.sample("bad", make(x, p, g, d))

    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda x, p, g, d: dist.Normal(0.0, g),
        lambda x, p, g, d: dist.Normal(x, g),
        lambda x, p, g, d: dist.Normal(p, 1.0),
        lambda x, p, g, d: dist.Normal(x + g, 1.0),
        lambda x, p, g, d: dist.Normal(x, torch.ones(2)),
        lambda x, p, g, d: dist.Flip(x),
        lambda x, p, g, d: dist.Flip(2 * p),
        lambda x, p, g, d: dist.Flip(p + 0.5),
        lambda x, p, g, d: dist.Bernoulli(logits=x),
        lambda x, p, g, d: dist.Poisson(-1 * g),
        lambda x, p, g, d: dist.Poisson(g + 1),
        lambda x, p, g, d: dist.Poisson(p),
        lambda x, p, g, d: dist.Exponential(g),
        lambda x, p, g, d: dist.Categorical(2 * d),
        lambda x, p, g, d: dist.Categorical(p),
        lambda x, p, g, d: dist.Categorical(logits=d),
        lambda x, p, g, d: dist.Beta(g, 1.0),
        lambda x, p, g, d: dist.Finite({0: p, 1: 0.5}),
        lambda x, p, g, d: dist.Categorical([p, 1 - p]),
        lambda x, p, g, d: torch.distributions.Normal(x, 1.0),
    ],
)
def test_a_site_without_a_closed_form_is_refused_and_nothing_is_lost(make):
    with pytest.raises((SymbolicValueError, cp.errors.DistributionError)):
        cp.run(poutine.delayed(bad_child(make)))
    with pytest.raises((SymbolicValueError, cp.errors.DistributionError)):
        cp.infer.enumerate(poutine.delayed(bad_child(make)))()


def test_the_refusal_names_distribution_site_and_remedy():
    with pytest.raises(SymbolicValueError) as refused:
        cp.run(poutine.delayed(bad_child(lambda x, p, g, d: dist.Normal(x, g))))
    text = str(refused.value)
    assert "Normal(loc=<x, delayed>, scale=<g, delayed>)" in text
    assert "`x = yield poutine.realize(x)`" in text
    assert any("site 'bad'" in note for note in refused.value.__notes__)


def test_a_symbolic_value_cannot_be_observed():
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0))
        yield cp.sample("y", dist.Normal(0.0, 1.0), obs=x)

    with pytest.raises(SymbolicValueError, match="'y'"):
        cp.run(poutine.delayed(model))


def test_symbols_of_two_handlers_do_not_mix():
    def model():
        with poutine.delayed():
            a = yield cp.sample("a", dist.Normal(0.0, 1.0))
            with poutine.delayed():
                b = yield cp.sample("b", dist.Normal(0.0, 1.0))
                return a + b

    with pytest.raises(SymbolicValueError, match="two different"):
        cp.run(model)


def test_a_symbol_does_not_outlive_its_handler():
    with poutine.delayed():
        x = cp.run(around, 1.0)

    def later():
        return (yield cp.sample("y", dist.Normal(x, 1.0)))

    with pytest.raises(SymbolicValueError, match="lives inside"):
        cp.run(later)
    with pytest.raises(SymbolicValueError, match="lives inside"):
        cp.infer.enumerate(later)()
    with poutine.delayed() as another, pytest.raises(SymbolicValueError, match="lives inside"):
        cp.run(later)
    with pytest.raises(SymbolicValueError, match="another"):
        another.posterior(x)

    def asks():
        return (yield poutine.posterior(x))

    with pytest.raises(SymbolicValueError, match="another"):
        cp.run(asks)

    def takes():
        return (yield poutine.realize(x))

    with pytest.raises(SymbolicValueError, match="lives inside"):
        cp.run(takes)


def test_around_an_enumeration_it_would_mix_branches_and_is_refused():
    def model():
        p = yield cp.sample("p", dist.Beta(1.0, 1.0))
        yield cp.sample("x", dist.Flip(p))

    with poutine.delayed(), pytest.raises(BarrierError, match="Install it inside"):
        cp.infer.enumerate(model)()


def test_a_handler_made_outside_is_right_in_every_branch(capture):
    outside = poutine.delayed()

    def model():
        with outside as known:
            mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
            up = yield cp.sample("up", dist.Flip(0.5))
            yield cp.sample("x", dist.Normal(mu, 1.0), obs=1.0 if up else -1.0)
            yield cp.sample("later", dist.Flip(0.5))
            inside = outside.posterior(mu).loc.item()
            with outside:
                with pytest.raises(SymbolicValueError, match="another"):
                    outside.posterior(mu)
        return up, inside, known.posterior(mu).loc.item()

    for order in ("depth_first", "breadth_first"):
        found = cp.infer.enumerate(model, capture=capture, order=order)().marginal()
        assert dict(found) == {(True, 0.5, 0.5): 0.5, (False, -0.5, -0.5): 0.5}


def test_what_a_block_knows_stays_with_it():
    handler = poutine.delayed()
    with handler as known:
        mu = cp.run(around, 2.0)
    assert known.posterior(mu).loc == 1.0
    with pytest.raises(SymbolicValueError, match="not installed here"):
        handler.posterior(mu)
    with pytest.raises(HandlerStackError, match="one block"):
        known.__enter__()
    with pytest.raises(HandlerStackError):
        handler.__exit__(None, None, None)


class Scaled(cp.Messenger):
    def __init__(self, **fields):
        self.fields = fields

    def _process_message(self, msg):
        if msg["type"] == "sample":
            msg.update(self.fields)


@pytest.mark.parametrize("fields", [{"scale": 2.0}, {"mask": torch.tensor(True)}])
@pytest.mark.parametrize("inside", [True, False])
def test_scale_and_masks_have_no_closed_form(fields, inside):
    scaled = Scaled(**fields)
    model = poutine.delayed(scaled(around)) if inside else scaled(poutine.delayed(around))
    with pytest.raises(SymbolicValueError, match="scaled by"):
        cp.run(model, 1.0)


def test_a_batch_that_is_not_observed_is_refused():
    def model():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        yield cp.sample("x", dist.Normal(mu, 1.0).expand([3]))

    with pytest.raises(SymbolicValueError, match="one by one"):
        cp.run(poutine.delayed(model))
    data = {"x": torch.tensor([1.0, 2.0, 3.0])}
    cp.run(poutine.delayed(poutine.condition(model, data=data)))
    with pytest.raises(SymbolicValueError, match="'x'"):
        cp.run(poutine.condition(poutine.delayed(model), data=data))
    with pytest.raises(SymbolicValueError, match="'x'"):
        cp.run(poutine.delayed(poutine.condition(model, data={"x": torch.ones(2)})))


def test_plates_inside_are_understood_and_plates_around_are_refused():
    data = torch.tensor([0.3, 0.4, 0.5])

    def vectorised():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        with cp.plate("data", 3):
            yield cp.sample("x", dist.Normal(mu, 0.5), obs=data)
        return (yield poutine.posterior(mu))

    def looped():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        for i in cp.plate("data", 3):
            yield cp.sample(f"x{i}", dist.Normal(mu, 0.5), obs=data[i])
        return (yield poutine.posterior(mu))

    for model in (vectorised, looped):
        found = cp.run(poutine.delayed(model))
        assert found.loc.item() == pytest.approx(4 * 1.2 / 13, abs=1e-6)
        assert found.scale.item() == pytest.approx(13**-0.5, abs=1e-6)

    def around_it(part):
        with cp.plate("outside", 3):
            return (yield poutine.block(poutine.delayed(part), hide=["p"])())

    def prior():
        yield cp.sample("mu", dist.Normal(0.0, 1.0))

    def coin():
        p = yield cp.sample("p", dist.Beta(1.0, 1.0))
        yield cp.sample("x", dist.Bernoulli(p), obs=1.0)

    def unobserved():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        with cp.plate("data", 3):
            yield cp.sample("x", dist.Normal(mu, 0.5))

    def of_another_size():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        with cp.plate("data", 4):
            yield cp.sample("x", dist.Normal(mu, 0.5), obs=data)

    for model in (unobserved, of_another_size):
        with pytest.raises(SymbolicValueError, match="batch"):
            cp.run(poutine.delayed(model))
    for part in (prior, coin):
        with pytest.raises(SymbolicValueError, match="further out"):
            cp.run(around_it, part)


def test_a_batch_that_comes_from_further_out_is_refused():
    def model():
        mu = yield cp.sample("mu", dist.Normal(0.0, 1.0))
        yield cp.sample("x", dist.Normal(mu, 1.0))

    late = poutine.condition(poutine.delayed(model), data={"x": torch.ones(3)})
    with pytest.raises(SymbolicValueError, match="further out"):
        cp.run(late)


@pytest.mark.parametrize(
    ("name", "value"),
    [("heads", 0.5), ("heads", 2), ("count", -1), ("count", 1.5), ("word", 2), ("word", -1)],
)
def test_a_value_outside_the_support_is_refused_by_name(name, value):
    def model():
        p = yield cp.sample("p", dist.Beta(1.0, 1.0))
        g = yield cp.sample("g", dist.Gamma(1.0, 1.0))
        d = yield cp.sample("d", dist.Dirichlet([1.0, 1.0]))
        yield cp.sample("heads", dist.Bernoulli(p))
        yield cp.sample("count", dist.Poisson(g))
        yield cp.sample("word", dist.Categorical(d))

    with pytest.raises(OutsideSupportError) as refused:
        cp.run(poutine.delayed(poutine.condition(model, data={name: value})))
    assert any(repr(name) in note for note in refused.value.__notes__)


def test_a_forgotten_yield_before_realize_is_found():
    def model():
        x = yield cp.sample("x", dist.Normal(0.0, 1.0))
        poutine.realize(x)
        yield cp.sample("y", dist.Normal(x, 1.0))

    with pytest.raises(cp.errors.UnperformedEffectError, match=r"x\.value"):
        cp.run(poutine.delayed(model))
