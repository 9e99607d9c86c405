"""SVI and the sampled ELBO: Pyro's numbers, closed forms, and the seed's own training loop."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as pdist
import pyro.infer
import pyro.optim
import pytest
import torch
from torch.distributions import constraints

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.ambient import AMBIENT
from contpoutine.errors import BadWeightError, GuideMismatchError, ParamError
from contpoutine.infer import SVI, Trace_ELBO
from contpoutine.infer.util import torch_item, zero_grads


@pytest.fixture(autouse=True)
def empty_stores():
    cp.clear_param_store()
    pyro.clear_param_store()
    yield
    cp.clear_param_store()
    pyro.clear_param_store()
    assert AMBIENT.get() == ()


# --- each pair twice: as a generator, and as Pyro runs it ------------------------------------


def scale_model(d, sample, param, guess):
    weight = yield sample("weight", d.Normal(guess, torch.tensor(1.0)))
    yield sample("measurement", d.Normal(weight, torch.tensor(0.75)), obs=torch.tensor(9.5))


def scale_guide(d, sample, param, guess):
    a = yield param("a", guess.clone())
    b = yield param("b", torch.tensor(0.5), constraint=constraints.positive)
    yield sample("weight", d.Normal(a, b))


def coin_model(d, sample, param, guess):
    p = yield param("prior", torch.tensor(0.3), constraint=constraints.unit_interval)
    z = yield sample("z", d.Bernoulli(p))
    x = yield sample("x", d.Normal(z, torch.tensor(1.0)))
    yield sample("y", d.Normal(x + z, torch.tensor(0.5)), obs=torch.tensor(1.25))


def coin_guide(d, sample, param, guess):
    q = yield param("q", torch.tensor(0.6), constraint=constraints.unit_interval)
    loc = yield param("loc", torch.zeros(2))
    z = yield sample("z", d.Bernoulli(q))
    yield sample("x", d.Normal(loc[0] + loc[1] * z, torch.tensor(0.7)))


def batch_model(d, sample, param, guess):
    z = yield sample("z", d.Normal(torch.zeros(3), torch.ones(3)).to_event(1))
    seen = torch.tensor([True, False, True])
    yield sample("n", d.Poisson(z.exp().sum()), obs=torch.tensor(4.0))
    yield sample("y", d.Normal(z, torch.ones(3)).mask(seen).to_event(1), obs=guess)


def batch_guide(d, sample, param, guess):
    loc = yield param("loc", torch.tensor([0.1, 0.2, 0.3]))
    scale = yield param("scale", torch.ones(3), constraint=constraints.positive)
    yield sample("z", d.Normal(loc, scale).to_event(1))


PAIRS = {
    "scale": (scale_model, scale_guide),
    "coin": (coin_model, coin_guide),
    "batch": (batch_model, batch_guide),
}


def ours(body):
    def model(guess):
        return (yield from body(dist, cp.sample, cp.param, guess))

    return model


def theirs(body):
    """Drive a generator by hand, so that each of its sites is one of Pyro's."""

    def model(guess):
        run = body(pdist, pyro.sample, pyro.param, guess)
        value = None
        while True:
            try:
                value = run.send(value)
            except StopIteration as stop:
                return stop.value

    return model


GUESS = torch.tensor(8.5)


@pytest.mark.parametrize("particles", [1, 4])
@pytest.mark.parametrize("pair", PAIRS)
def test_loss_and_gradients_are_those_of_pyro_under_the_same_seed(pair, particles):
    model, guide = PAIRS[pair]
    torch.manual_seed(3)
    loss = Trace_ELBO(num_particles=particles).loss_and_grads(ours(model), ours(guide), GUESS)
    torch.manual_seed(3)
    pyros = pyro.infer.Trace_ELBO(num_particles=particles)
    expected = pyros.loss_and_grads(theirs(model), theirs(guide), GUESS)
    assert loss == pytest.approx(expected, rel=1e-6)
    mine = dict(cp.get_param_store().named_parameters())
    assert mine.keys() == pyro.get_param_store().keys()
    for name, leaf in pyro.get_param_store().named_parameters():
        torch.testing.assert_close(mine[name].grad, leaf.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_loss_without_gradients_is_that_of_pyro(pair):
    model, guide = PAIRS[pair]
    torch.manual_seed(5)
    loss = Trace_ELBO(num_particles=3).loss(ours(model), ours(guide), GUESS)
    torch.manual_seed(5)
    pyros = pyro.infer.Trace_ELBO(num_particles=3)
    assert loss == pytest.approx(pyros.loss(theirs(model), theirs(guide), GUESS), rel=1e-6)


@pytest.mark.parametrize("name", ["Adam", "ClippedAdam"])
@pytest.mark.parametrize("pair", PAIRS)
def test_training_takes_the_path_of_pyro(pair, name):
    model, guide = PAIRS[pair]
    torch.manual_seed(7)
    svi = SVI(ours(model), ours(guide), getattr(cp.optim, name)({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(GUESS) for _ in range(12)]
    torch.manual_seed(7)
    pyros = pyro.infer.SVI(
        theirs(model),
        theirs(guide),
        getattr(pyro.optim, name)({"lr": 0.05}),
        pyro.infer.Trace_ELBO(),
    )
    assert losses == pytest.approx([pyros.step(GUESS) for _ in range(12)], rel=1e-4)
    for name, value in pyro.get_param_store().items():
        torch.testing.assert_close(cp.get_param_store()[name], value, rtol=1e-4, atol=1e-4)


def test_the_differentiable_loss_has_the_same_value_and_gradient():
    model, guide = ours(coin_model), ours(coin_guide)
    torch.manual_seed(1)
    loss = Trace_ELBO(2).differentiable_loss(model, guide, GUESS)
    loss.backward()
    grads = [leaf.grad.clone() for _, leaf in cp.get_param_store().named_parameters()]
    zero_grads(leaf for _, leaf in cp.get_param_store().named_parameters())
    torch.manual_seed(1)
    assert loss.item() == pytest.approx(Trace_ELBO(2).loss_and_grads(model, guide, GUESS))
    for grad, (_, leaf) in zip(grads, cp.get_param_store().named_parameters(), strict=True):
        torch.testing.assert_close(leaf.grad, grad)


def test_the_score_function_gradient_is_right_on_average():
    def model():
        z = yield cp.sample("z", dist.Bernoulli(0.25))
        yield cp.factor("f", -2.0 * z)

    def guide():
        q = yield cp.param("q", torch.tensor(0.4, dtype=torch.float64), constraints.unit_interval)
        yield cp.sample("z", dist.Bernoulli(q))

    torch.manual_seed(0)
    Trace_ELBO(num_particles=1000).loss_and_grads(model, guide)
    q = 0.4
    slope = -(math.log(0.25 / 0.75) - 2.0 - math.log(q / (1 - q)))
    exact = slope * q * (1 - q)
    leaf = cp.get_param_store()["q"].unconstrained()
    assert leaf.grad.item() == pytest.approx(exact, abs=0.1)


def test_gradients_of_a_model_parameter_are_learned_too():
    def model(x):
        p = yield cp.param("p", 0.5, constraint=constraints.unit_interval)
        yield cp.sample("x", dist.Bernoulli(p).expand([4]).to_event(1), obs=x)

    def guide(x):
        return
        yield

    svi = SVI(model, guide, cp.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(100):
        svi.step(torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert cp.get_param_store()["p"].item() == pytest.approx(0.75, abs=0.01)


# --- the seed -------------------------------------------------------------------------------


def scale(guess):
    weight = yield cp.sample("weight", dist.Normal(guess, 1.0))
    return (yield cp.sample("measurement", dist.Normal(weight, 0.75)))


def scale_posterior_guide(guess):
    a = yield cp.param("a", torch.tensor(float(guess)))
    b = yield cp.param("b", torch.tensor(1.0), constraint=constraints.positive)
    return (yield cp.sample("weight", dist.Normal(a, b)))


def monte_carlo_elbo(model, guide, batch, *args, **kwargs):
    conditioned_model = poutine.condition(model, data=batch)
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    model_trace = poutine.trace(poutine.replay(conditioned_model, trace=guide_trace)).get_trace(
        *args, **kwargs
    )
    elbo = 0.0
    for name, node in model_trace.nodes.items():
        if node["type"] == "sample":
            elbo = elbo + node["fn"].log_prob(node["value"]).sum()
            if not node["is_observed"]:
                elbo = elbo - guide_trace.nodes[name]["fn"].log_prob(node["value"]).sum()
    return -elbo


def train(model, guide, data, optimizer):
    for batch in data:
        with poutine.trace() as param_capture:
            with poutine.block(hide_fn=lambda node: node["type"] != "param"):
                loss = monte_carlo_elbo(model, guide, batch, 8.5)
        loss.backward()
        params = set(node["value"].unconstrained() for node in param_capture.trace.nodes.values())
        optimizer.step(params)
        cp.infer.util.zero_grads(params)


def test_the_training_loop_of_the_seed_learns_the_posterior():
    torch.manual_seed(0)
    train(
        scale,
        scale_posterior_guide,
        [{"measurement": 9.5}] * 700,
        cp.optim.ClippedAdam({"lr": 0.05, "lrd": 0.996}),
    )
    store = cp.get_param_store()
    assert store["a"].item() == pytest.approx(9.14, abs=0.05)
    assert store["b"].item() == pytest.approx(0.60, abs=0.05)


def test_the_loop_of_the_seed_takes_the_same_steps_as_svi():
    torch.manual_seed(2)
    train(scale, scale_posterior_guide, [{"measurement": 9.5}] * 20, cp.optim.Adam({}))
    by_hand = {name: value.item() for name, value in cp.get_param_store().items()}
    cp.clear_param_store()
    torch.manual_seed(2)
    model = poutine.condition(scale, data={"measurement": 9.5})
    svi = SVI(model, scale_posterior_guide, cp.optim.Adam({}), Trace_ELBO())
    for _ in range(20):
        svi.step(8.5)
    assert {n: v.item() for n, v in cp.get_param_store().items()} == pytest.approx(by_hand)


def test_svi_takes_a_loss_that_is_a_function():
    def loss(model, guide, *args):
        return monte_carlo_elbo(model, guide, {"measurement": 9.5}, *args)

    torch.manual_seed(0)
    svi = SVI(scale, scale_posterior_guide, cp.optim.Adam({"lr": 0.1}), loss)
    first = cp.get_param_store()
    assert isinstance(svi.step(8.5), float) and isinstance(svi.evaluate_loss(8.5), float)
    assert first["a"].item() != 8.5


# --- what a step leaves ----------------------------------------------------------------------


def test_a_step_moves_only_the_parameters_that_were_read():
    other = cp.get_param_store().setdefault("other", 1.0).unconstrained()
    other.grad = torch.tensor(5.0)
    svi = SVI(
        poutine.condition(scale, data={"measurement": 9.5}),
        scale_posterior_guide,
        cp.optim.Adam({"lr": 0.1}),
        Trace_ELBO(),
    )
    svi.step(8.5)
    assert other.item() == 1.0 and other.grad.item() == 5.0
    assert cp.get_param_store()["a"].unconstrained().grad.item() == 0.0


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_loss_that_is_no_number_changes_nothing(bad):
    def model():
        loc = yield cp.param("loc", 1.0)
        yield cp.sample("x", dist.Normal(loc, 1.0), obs=torch.tensor(bad))

    def guide():
        return
        yield

    svi = SVI(model, guide, cp.optim.Adam({"lr": 0.1}), Trace_ELBO())
    with pytest.raises(BadWeightError, match="log-probability of site 'x'"):
        svi.step()
    assert cp.get_param_store()["loc"].item() == 1.0
    assert AMBIENT.get() == ()


def test_an_error_in_a_model_restores_everything():
    def model():
        with poutine.condition(data={}):
            yield cp.param("s", -1.0, constraint=constraints.positive)

    svi = SVI(model, model, cp.optim.Adam({}), Trace_ELBO())
    with pytest.raises(ParamError):
        svi.step()
    assert AMBIENT.get() == () and len(cp.get_param_store()) == 0


# --- bad input ------------------------------------------------------------------------------


def test_a_model_site_that_the_guide_does_not_draw_is_named():
    def guide(guess):
        yield cp.sample("wieght", dist.Normal(guess, 1.0))

    model = poutine.condition(scale, data={"measurement": 9.5})
    with pytest.raises(GuideMismatchError, match="'weight' of the model scale.*mean 'wieght'"):
        Trace_ELBO().loss(model, guide, 8.5)


def test_a_guide_site_that_the_model_does_not_have_is_named():
    def guide(guess):
        yield cp.sample("weight", dist.Normal(guess, 1.0))
        yield cp.sample("extra", dist.Normal(0.0, 1.0))

    model = poutine.condition(scale, data={"measurement": 9.5})
    with pytest.raises(GuideMismatchError, match="draws site 'extra'.*is_auxiliary"):
        Trace_ELBO().loss(model, guide, 8.5)


def test_an_auxiliary_site_of_the_guide_is_its_own_affair():
    def guide(guess):
        u = yield cp.sample("u", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        yield cp.sample("weight", dist.Normal(u, 1.0))

    model = poutine.condition(scale, data={"measurement": 9.5})
    assert math.isfinite(Trace_ELBO().loss(model, guide, 8.5))


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_a_number_of_particles_is_one_or_more(n):
    with pytest.raises(ValueError, match="num_particles"):
        Trace_ELBO(num_particles=n)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((None, scale, cp.optim.Adam(), Trace_ELBO()), "a model"),
        ((scale, 1, cp.optim.Adam(), Trace_ELBO()), "a guide"),
        ((scale, scale, torch.optim.Adam, Trace_ELBO()), "an optimiser from contpoutine.optim"),
        ((scale, scale, cp.optim.Adam(), Trace_ELBO), r"Trace_ELBO\(\), not the class"),
        ((scale, scale, cp.optim.Adam(), "elbo"), "a loss"),
    ],
)
def test_svi_says_what_it_needs(arguments, says):
    with pytest.raises(TypeError, match=says):
        SVI(*arguments)


def test_torch_item_takes_the_number_out():
    assert torch_item(torch.tensor(2.0)) == 2.0 and torch_item(3) == 3


# --- plates ---------------------------------------------------------------------------------

DATA = torch.tensor([0.3, -1.2, 2.0, 0.7])


def plated_model(d, sample, param, plate):
    p = yield param("p", torch.tensor(0.4), constraint=constraints.unit_interval)
    w = yield sample("w", d.Bernoulli(p))
    with plate("data", 4):
        z = yield sample("z", d.Bernoulli(p.expand(4)))
        x = yield sample("x", d.Normal(z + w, torch.tensor(1.0)))
        yield sample("y", d.Normal(x, torch.tensor(0.5)), obs=DATA)


def plated_guide(d, sample, param, plate):
    q = yield param("q", torch.full((4,), 0.6), constraint=constraints.unit_interval)
    r = yield param("r", torch.tensor(0.3), constraint=constraints.unit_interval)
    loc = yield param("loc", torch.zeros(4))
    yield sample("w", d.Bernoulli(r))
    with plate("data", 4):
        z = yield sample("z", d.Bernoulli(q))
        yield sample("x", d.Normal(loc + z, torch.tensor(0.7)))


def test_under_plates_each_slice_has_a_score_function_of_its_own_as_in_pyro():
    def theirs(body):
        def model():
            run, value = body(pdist, pyro.sample, pyro.param, pyro.plate), None
            while True:
                try:
                    value = run.send(value)
                except StopIteration as stop:
                    return stop.value

        return model

    def ours(body):
        return lambda: (yield from body(dist, cp.sample, cp.param, cp.plate))

    torch.manual_seed(1)
    loss = Trace_ELBO(2).loss_and_grads(ours(plated_model), ours(plated_guide))
    torch.manual_seed(1)
    pyros = pyro.infer.Trace_ELBO(2).loss_and_grads(theirs(plated_model), theirs(plated_guide))
    assert loss == pytest.approx(pyros, rel=1e-6)
    mine = dict(cp.get_param_store().named_parameters())
    for name, leaf in pyro.get_param_store().named_parameters():
        torch.testing.assert_close(mine[name].grad, leaf.grad, rtol=1e-4, atol=1e-4)
