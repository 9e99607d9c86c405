"""EnumELBO: closed forms, the enumeration's own evidence, and the sampled ELBO's average."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as pdist
import pyro.infer
import pytest
import torch
from torch.distributions import constraints

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.ambient import AMBIENT
from contpoutine.core.native import native
from contpoutine.errors import (
    BadWeightError,
    DuplicateSiteError,
    GuideMismatchError,
    OverruledError,
    ParamError,
)
from contpoutine.infer import SVI, EnumELBO, Trace_ELBO
from tests.capture.law import WORKING, strategy

DOUBLE = torch.float64


def number(x):
    return torch.tensor(x, dtype=DOUBLE)


@pytest.fixture(params=WORKING)
def capture(request):
    with strategy(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def empty_stores():
    cp.clear_param_store()
    pyro.clear_param_store()
    yield
    cp.clear_param_store()
    pyro.clear_param_store()
    assert AMBIENT.get() == ()


def nothing(*args):
    """A guide that draws nothing: everything is summed out."""
    return
    yield


def check(model, guide, expected, *args):
    """The loss and its gradient at each leaf are those of `expected(store)`, to 1e-9 and 1e-8."""
    loss = EnumELBO().loss_and_grads(model, guide, *args)
    store = cp.get_param_store()
    exact = expected(store)
    leaves = [leaf for _, leaf in store.named_parameters()]
    assert leaves
    grads = torch.autograd.grad(exact, leaves)
    assert loss == pytest.approx(exact.item(), abs=1e-9)
    for leaf, grad in zip(leaves, grads, strict=True):
        torch.testing.assert_close(leaf.grad, grad, rtol=0, atol=1e-8)
    assert EnumELBO().loss(model, guide, *args) == pytest.approx(exact.item(), abs=1e-9)
    assert EnumELBO().differentiable_loss(model, guide, *args).item() == pytest.approx(exact.item())


def log_normal(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)


# --- the evidence of a model, and its gradient ----------------------------------------------


def mixture(x):
    weights = yield cp.param("weights", number([0.2, 0.3, 0.5]), constraint=constraints.simplex)
    locs = yield cp.param("locs", number([-1.0, 0.5, 2.0]))
    scale = yield cp.param("scale", number(0.8), constraint=constraints.positive)
    z = yield cp.sample("z", dist.Categorical(weights))
    yield cp.sample("x", dist.Normal(locs[z], scale), obs=x)


def test_a_mixture(capture):
    x = number(1.2)

    def exact(store):
        terms = store["weights"].log() + log_normal(x, store["locs"], store["scale"])
        return -torch.logsumexp(terms, 0)

    check(mixture, nothing, exact, x)


def hmm(ys):
    rows = yield cp.param("rows", number([[0.6, 0.4], [0.3, 0.7]]), constraint=constraints.simplex)
    means = yield cp.param("means", number([-1.0, 1.0]))
    state = 0
    for t, y in enumerate(ys):
        state = yield cp.sample(f"z{t}", dist.Categorical(rows[state]))
        yield cp.sample(f"y{t}", dist.Normal(means[state], 0.5), obs=y)


def test_a_hidden_markov_model_is_the_forward_algorithm(capture):
    ys = [number(y) for y in (-0.5, 0.9, 1.4, -1.2, 0.1)]

    def exact(store):
        rows, means = store["rows"].log(), store["means"]
        alpha = rows[0]
        for t, y in enumerate(ys):
            if t:
                alpha = torch.logsumexp(alpha[:, None] + rows, 0)
            alpha = alpha + log_normal(y, means, number(0.5))
        return -torch.logsumexp(alpha, 0)

    check(hmm, nothing, exact, ys)


def geometric(n):
    p = yield cp.param("p", number(0.3), constraint=constraints.unit_interval)
    k = 0
    while k < 8 and not (yield cp.sample(f"stop{k}", dist.Bernoulli(p))):
        k += 1
    yield cp.sample("n", dist.Normal(number(float(k)), 1.0), obs=number(n))


def test_a_loop_whose_length_is_drawn(capture):
    def exact(store):
        p = store["p"]
        terms = [
            k * (-p).log1p() + (p.log() if k < 8 else 0.0) + log_normal(2.0, k, number(1.0))
            for k in range(9)
        ]
        return -torch.logsumexp(torch.stack(terms), 0)

    check(geometric, nothing, exact, 2.0)


def test_coins_by_logits_observed_coins_factors_and_plain_sites(capture):
    def model():
        a = yield cp.param("a", number(0.4))
        z = yield cp.sample("z", dist.Bernoulli(logits=a))
        w = yield cp.sample("w", dist.Flip(0.25))
        yield cp.sample("y", dist.Bernoulli(logits=a * z + 0.5), obs=number(1.0))
        yield cp.factor("f", a * w)
        yield cp.sample("c", dist.Categorical(logits=torch.stack([a, 2 * a])), obs=torch.tensor(1))

    def exact(store):
        a = store["a"]
        sig = torch.nn.functional.logsigmoid
        terms = [
            sig(a if z else -a)
            + math.log(0.25 if w else 0.75)
            + sig(a * z + 0.5)
            + a * w
            + (2 * a - torch.logaddexp(a, 2 * a))
            for z in (0, 1)
            for w in (0, 1)
        ]
        return -torch.logsumexp(torch.stack(terms), 0)

    check(model, nothing, exact)


def test_distributions_of_every_other_kind(capture):
    def model():
        rate = yield cp.param("rate", number([1.5, 4.0]), constraint=constraints.positive)
        z = yield cp.sample("z", dist.Bernoulli(number(0.3)))
        yield cp.sample("n", dist.Poisson(rate[z.long()]), obs=number(3.0))
        b = yield cp.sample("b", dist.Bernoulli(rate / 10).to_event(1))
        yield cp.sample("y", dist.Normal(b * rate, 1.0).to_event(1), obs=number([1.0, 2.0]))

    def exact(store):
        rate = store["rate"]
        poisson = torch.distributions.Poisson(rate).log_prob(number(3.0))
        first = torch.logsumexp(number([0.7, 0.3]).log() + poisson, 0)
        y, p = number([1.0, 2.0]), rate / 10
        second = torch.logaddexp(
            (1 - p).log() + log_normal(y, 0.0, number(1.0)),
            p.log() + log_normal(y, rate, number(1.0)),
        ).sum()
        return -(first + second)

    check(model, nothing, exact)


def test_scale_and_mask_count_as_in_the_enumeration(capture):
    class Scaled(cp.Messenger):
        def __init__(self, scale=1.0, mask=None):
            self.scale, self.mask = scale, mask

        def _pyro_sample(self, msg):
            msg["scale"] = msg["scale"] * self.scale
            msg["mask"] = self.mask

    def model():
        p = yield cp.param("p", number(0.3), constraint=constraints.unit_interval)
        z = yield cp.sample("z", dist.Bernoulli(p))
        with Scaled(scale=2.5):
            yield cp.sample("x", dist.Bernoulli(0.2 + 0.5 * z * p), obs=number(1.0))
        with Scaled(mask=torch.tensor([True, False])):
            yield cp.sample("y", dist.Normal(number([1.0, 2.0]) * p, 1.0), obs=number([0.5, 9.0]))
        with Scaled(mask=False):
            yield cp.sample("v", dist.Bernoulli(p), obs=number(1.0))

    def exact(store):
        p = store["p"]
        rest = log_normal(0.5, p, number(1.0))
        terms = [(1 - p).log() + 2.5 * math.log(0.2), p.log() + 2.5 * (0.2 + 0.5 * p).log()]
        return -(torch.logsumexp(torch.stack([*terms]), 0) + rest)

    check(model, nothing, exact)
    posterior = cp.infer.enumerate(model)()
    assert EnumELBO().loss(model, nothing) == pytest.approx(-posterior.log_evidence)


def test_structure_that_depends_on_choices(capture):
    def model():
        p = yield cp.param("p", number(0.3), constraint=constraints.unit_interval)
        if (yield cp.sample("a", dist.Bernoulli(p))):
            b = yield cp.sample("b", dist.Bernoulli(p * p))
            yield cp.sample("y", dist.Bernoulli(0.5 + 0.4 * b), obs=number(1.0))
        else:
            yield cp.sample("y", dist.Bernoulli(p), obs=number(1.0))

    def exact(store):
        p = store["p"]
        return -((1 - p) * p + p * (p * p * 0.9 + (1 - p * p) * 0.5)).log()

    check(model, nothing, exact)


def test_impossible_branches_are_left_out_and_leave_the_gradient_right(capture):
    def model():
        p = yield cp.param("p", number(0.3), constraint=constraints.unit_interval)
        a = yield cp.sample("a", dist.Bernoulli(p))
        b = yield cp.sample("b", dist.Bernoulli(p))
        yield cp.sample("or", dist.Flip(1.0 if a or b else 0.0), obs=True)

    check(model, nothing, lambda store: -(1 - (1 - store["p"]) ** 2).log())


def test_the_loss_is_minus_the_log_evidence(capture):
    ys = [number(y) for y in (-0.5, 0.9, 1.4)]
    loss = EnumELBO().loss(hmm, nothing, ys)
    assert loss == pytest.approx(-cp.infer.enumerate(hmm)(ys).log_evidence, abs=1e-12)


def test_second_derivatives_flow_too():
    def model():
        p = yield cp.param("p", number(0.3))
        z = yield cp.sample("z", dist.Bernoulli(p))
        yield cp.sample("y", dist.Bernoulli(0.2 + 0.6 * z), obs=number(1.0))

    loss = EnumELBO().differentiable_loss(model, nothing)
    leaf = cp.get_param_store()["p"]
    (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, leaf)
    y = 0.2 + 0.6 * 0.3
    assert slope.item() == pytest.approx(-0.6 / y)
    assert curvature.item() == pytest.approx((0.6 / y) ** 2)


def test_parameters_in_single_precision_get_gradients_in_single_precision():
    def model():
        p = yield cp.param("p", 0.3, constraint=constraints.unit_interval)
        z = yield cp.sample("z", dist.Bernoulli(p))
        yield cp.sample("y", dist.Normal(z, 1.0), obs=1.0)

    EnumELBO().loss_and_grads(model, nothing)
    leaf = cp.get_param_store()["p"].unconstrained()
    assert leaf.dtype is leaf.grad.dtype is torch.float32


# --- guides with choices of their own -------------------------------------------------------


def coins(x):
    p = yield cp.param("p", number(0.3), constraint=constraints.unit_interval)
    a = yield cp.sample("a", dist.Bernoulli(p))
    b = yield cp.sample("b", dist.Bernoulli(0.2 + 0.5 * a))
    yield cp.sample("x", dist.Normal(a + 2 * b, 1.0), obs=x)


def coins_guide(x):
    q = yield cp.param("q", number([0.4, 0.6, 0.7]), constraint=constraints.unit_interval)
    a = yield cp.sample("a", dist.Bernoulli(q[0]))
    yield cp.sample("b", dist.Bernoulli(q[1] if a else q[2]))


def coins_exact(store, x, given):
    p, q = store["p"], store["q"]
    total = number(0.0)
    for a in (0, 1):
        for b in (0, 1):
            qb = q[1] if a else q[2]
            weight = (q[0] if a else 1 - q[0]) * (qb if b else 1 - qb)
            log_p = (p if a else 1 - p).log() + log_normal(x, a + 2 * b, number(1.0))
            pb = 0.2 + 0.5 * a
            total = total + weight * (log_p + math.log(pb if b else 1 - pb) - weight.log())
    return -total


def test_the_expectation_over_a_guide_is_exact(capture):
    x = number(1.7)
    check(coins, coins_guide, lambda store: coins_exact(store, x, None), x)


def test_what_the_guide_leaves_open_is_summed_out(capture):
    x = number(1.7)

    def guide(x):
        q = yield cp.param("q", number(0.4), constraint=constraints.unit_interval)
        yield cp.sample("a", dist.Bernoulli(q))

    def exact(store):
        p, q = store["p"], store["q"]
        total = number(0.0)
        for a in (0, 1):
            weight, pb = (q if a else 1 - q), 0.2 + 0.5 * a
            inner = torch.logaddexp(
                math.log(1 - pb) + log_normal(x, a, number(1.0)),
                math.log(pb) + log_normal(x, a + 2, number(1.0)),
            )
            total = total + weight * ((p if a else 1 - p).log() + inner - weight.log())
        return -total

    check(coins, guide, exact, x)


def test_guides_over_python_values(capture):
    def model(x):
        kind = yield cp.sample("kind", dist.Finite({"cat": 0.25, "dog": 0.75}))
        loc = yield cp.param("loc", number(1.0))
        yield cp.sample("x", dist.Normal(loc if kind == "cat" else -loc, 1.0), obs=x)

    def guide(x):
        yield cp.sample("kind", dist.Finite({"cat": 0.5, "dog": 0.5}))

    def exact(store):
        loc, one = store["loc"], number(1.0)
        terms = [
            math.log(0.25) + log_normal(0.5, loc, one),
            math.log(0.75) + log_normal(0.5, -loc, one),
        ]
        return -0.5 * (terms[0] + terms[1] - 2 * math.log(0.5))

    check(model, guide, exact, number(0.5))


def test_the_best_guide_makes_the_bound_tight():
    def model():
        a = yield cp.sample("a", dist.Bernoulli(number(0.3)))
        yield cp.sample("x", dist.Normal(2 * a, number(1.0)), obs=number(1.5))

    def guide():
        q = yield cp.param("q", number(0.5), constraint=constraints.unit_interval)
        yield cp.sample("a", dist.Bernoulli(q))

    svi = SVI(model, guide, cp.optim.Adam({"lr": 0.1}), EnumELBO())
    losses = [svi.step() for _ in range(200)]
    posterior = cp.infer.enumerate(model)()
    assert losses[-1] == pytest.approx(-posterior.log_evidence, abs=1e-5)
    expected = posterior.marginal("a")[number(1.0)]
    assert cp.get_param_store()["q"].item() == pytest.approx(expected, abs=1e-3)


def test_svi_moves_the_parameters_of_model_and_guide(capture):
    svi = SVI(coins, coins_guide, cp.optim.SGD({"lr": 0.1}), EnumELBO())
    svi.step(number(1.7))
    assert cp.get_param_store()["p"].item() != pytest.approx(0.3, abs=1e-4)
    assert all(
        abs(q - start) > 1e-5 for q, start in zip(cp.get_param_store()["q"], (0.4, 0.6, 0.7))
    )


# --- with draws -------------------------------------------------------------------------------


def joint(d, sample, param):
    z = yield sample("z", d.Bernoulli(number(0.3)))
    x = yield sample("x", d.Normal(z, number(1.0)))
    yield sample("y", d.Normal(x + z, number(0.5)), obs=number(1.25))


def joint_guide(d, sample, param):
    q = yield param("q", number(0.6), constraint=constraints.unit_interval)
    loc = yield param("loc", number([0.1, 0.4]))
    z = yield sample("z", d.Bernoulli(q), infer={"enumerate": "sequential"})
    yield sample("x", d.Normal(loc[0] + loc[1] * z, number(0.7)))


def ours(body):
    def model():
        return (yield from body(dist, cp.sample, cp.param))

    return model


def theirs(body):
    def model():
        run, value = body(pdist, pyro.sample, pyro.param), None
        while True:
            try:
                value = run.send(value)
            except StopIteration as stop:
                return stop.value

    return model


def test_continuous_draws_are_averaged_to_the_exact_bound():
    torch.manual_seed(0)
    elbo = EnumELBO(num_particles=400)
    loss = elbo.loss_and_grads(ours(joint), ours(joint_guide))

    def exact(q, loc):
        total = number(0.0)
        for z in (0.0, 1.0):
            weight, m, s = (q if z else 1 - q), loc[0] + loc[1] * z, number(0.7)
            log_p = math.log(0.3 if z else 0.7)
            log_p = log_p - 0.5 * ((m - z) ** 2 + s**2) - 0.5 * math.log(2 * math.pi)
            log_p = (
                log_p - 2.0 * ((m + z - 1.25) ** 2 + s**2) - math.log(0.5 * (2 * math.pi) ** 0.5)
            )
            entropy = s.log() + 0.5 * math.log(2 * math.pi * math.e)
            total = total + weight * (log_p + entropy - weight.log())
        return -total

    store = cp.get_param_store()
    expected = exact(store["q"], store["loc"])
    assert loss == pytest.approx(expected.item(), abs=0.2)
    grads = torch.autograd.grad(expected, [leaf for _, leaf in store.named_parameters()])
    for (_, leaf), grad in zip(store.named_parameters(), grads, strict=True):
        torch.testing.assert_close(leaf.grad, grad, rtol=0, atol=0.25)


def test_the_same_estimate_as_pyro_where_nothing_is_drawn():
    def model(d, sample, param):
        z = yield sample("z", d.Categorical(number([0.2, 0.5, 0.3])))
        yield sample("y", d.Normal(z.double(), number(0.5)), obs=number(1.25))

    def guide(d, sample, param):
        q = yield param("q", number([0.3, 0.3, 0.4]), constraint=constraints.simplex)
        yield sample("z", d.Categorical(q), infer={"enumerate": "sequential"})

    loss = EnumELBO().loss_and_grads(ours(model), ours(guide))
    expected = pyro.infer.TraceEnum_ELBO(max_plate_nesting=0).loss_and_grads(
        theirs(model), theirs(guide)
    )
    assert loss == pytest.approx(expected, abs=1e-9)
    (_, mine), (_, pyros) = (
        *cp.get_param_store().named_parameters(),
        *pyro.get_param_store().named_parameters(),
    )
    torch.testing.assert_close(mine.grad, pyros.grad, rtol=0, atol=1e-8)


def test_a_site_that_is_not_to_be_enumerated_gets_the_score_function():
    def model():
        z = yield cp.sample("z", dist.Bernoulli(0.25))
        b = yield cp.sample("b", dist.Bernoulli(0.5))
        yield cp.factor("f", -2.0 * z + b)

    def guide():
        q = yield cp.param("q", number(0.4), constraint=constraints.unit_interval)
        z = yield cp.sample("z", dist.Bernoulli(q), infer={"enumerate": None})
        yield cp.sample("b", dist.Bernoulli(0.5 + 0.25 * z * q))

    torch.manual_seed(0)
    EnumELBO(num_particles=500).loss_and_grads(model, guide)
    store = cp.get_param_store()
    q, total = store["q"], number(0.0)
    for z in (0, 1):
        for b in (0, 1):
            qb = 0.5 + 0.25 * z * q
            weight = (q if z else 1 - q) * (qb if b else 1 - qb)
            log_p = math.log(0.25 if z else 0.75) + math.log(0.5) - 2.0 * z + b
            total = total + weight * (log_p - weight.log())
    (expected,) = torch.autograd.grad(-total, q.unconstrained())
    assert q.unconstrained().grad.item() == pytest.approx(expected.item(), abs=0.12)


def test_guides_without_choices_give_the_sampled_elbo():
    def model():
        x = yield cp.sample("x", dist.Normal(number(0.0), 1.0))
        yield cp.sample("y", dist.Normal(x, 1.0), obs=number(2.0))

    def guide():
        loc = yield cp.param("loc", number(0.5))
        yield cp.sample("x", dist.Normal(loc, 0.7))

    torch.manual_seed(4)
    loss = EnumELBO().loss_and_grads(model, guide)
    leaf = cp.get_param_store()["loc"]
    grad = leaf.grad.clone()
    leaf.grad = None
    torch.manual_seed(4)
    assert loss == pytest.approx(Trace_ELBO().loss_and_grads(model, guide))
    torch.testing.assert_close(leaf.grad, grad)


def test_auxiliary_sites_of_a_guide_are_its_own_affair(capture):
    def guide(x):
        q = yield cp.param("q", number(0.4), constraint=constraints.unit_interval)
        yield cp.sample("u", dist.Bernoulli(q), infer={"is_auxiliary": True})
        yield cp.sample("a", dist.Bernoulli(q))
        yield cp.sample("b", dist.Bernoulli(q))

    assert math.isfinite(EnumELBO().loss(coins, guide, number(1.0)))


# --- handlers -------------------------------------------------------------------------------


def test_handlers_around_model_and_guide_apply(capture):
    def free():
        p = yield cp.param("p", number(0.3), constraint=constraints.unit_interval)
        a = yield cp.sample("a", dist.Bernoulli(p))
        yield cp.sample("x", dist.Normal(a, 1.0))

    model = poutine.condition(free, data={"x": number(0.5)})

    def exact(store):
        p, one = store["p"], number(1.0)
        return -torch.logaddexp(
            (1 - p).log() + log_normal(0.5, 0.0, one), p.log() + log_normal(0.5, 1.0, one)
        )

    check(model, nothing, exact)


def test_parameters_are_captured_from_outside_as_in_the_seed(capture):
    x = number(1.7)
    with poutine.trace() as captured, poutine.block(hide_fn=lambda node: node["type"] != "param"):
        loss = EnumELBO().differentiable_loss(coins, coins_guide, x)
    store = cp.get_param_store()
    assert loss.item() == pytest.approx(coins_exact(store, x, None).item(), abs=1e-9)
    leaves = {node["value"].unconstrained() for node in captured.trace.nodes.values()}
    assert leaves == {leaf for _, leaf in store.named_parameters()}


def test_a_handler_outside_that_scales_applies(capture):
    class Half(cp.Messenger):
        def _pyro_sample(self, msg):
            msg["scale"] = 0.5 * msg["scale"]

    x = number(1.7)
    whole = EnumELBO().loss(coins, coins_guide, x)
    with Half():
        half = EnumELBO().loss(coins, coins_guide, x)
    assert half == pytest.approx(whole / 2)


@pytest.mark.parametrize("data", [{"a": number(1.0)}, {"b": number(0.0)}])
def test_a_handler_outside_that_decides_what_is_enumerated_is_refused(data, capture):
    with pytest.raises(OverruledError, match="a handler around EnumELBO decides site"):
        with poutine.condition(data=data):
            EnumELBO().loss(coins, nothing, number(1.0))


def test_a_handler_outside_that_decides_what_is_drawn_is_refused():
    with pytest.raises(OverruledError, match="decides site 'x'"):
        with poutine.condition(data={"x": number(0.5)}):
            EnumELBO().loss(ours(joint), ours(joint_guide))


# --- bad input ------------------------------------------------------------------------------


def test_a_continuous_site_that_no_guide_draws_is_named():
    with pytest.raises(GuideMismatchError, match="site 'x'.*drawn by no guide"):
        EnumELBO().loss(ours(joint), nothing)
    assert AMBIENT.get() == ()


def test_a_guide_site_that_the_model_does_not_have_is_named():
    def guide(x):
        yield cp.sample("aa", dist.Bernoulli(0.5))

    with pytest.raises(GuideMismatchError, match="draws site 'aa'"):
        EnumELBO().loss(coins, guide, number(1.0))


def test_what_the_guide_makes_possible_and_the_model_impossible_is_an_error():
    def model():
        p = yield cp.param("p", number(0.5), constraint=constraints.unit_interval)
        a = yield cp.sample("a", dist.Bernoulli(p))
        yield cp.sample("y", dist.Flip(1.0 if a else 0.0), obs=True)

    def guide():
        yield cp.sample("a", dist.Bernoulli(0.5))

    svi = SVI(model, guide, cp.optim.Adam({"lr": 0.1}), EnumELBO())
    with pytest.raises(BadWeightError, match=r"no execution of the model .*with a=tensor\(0"):
        svi.step()
    assert cp.get_param_store()["p"].item() == pytest.approx(0.5)


def test_a_guide_that_observes_is_refused():
    def guide(x):
        a = yield cp.sample("a", dist.Bernoulli(0.5))
        yield cp.sample("b", dist.Bernoulli(0.5))
        yield cp.factor("f", -math.inf if a else 0.0)

    with pytest.raises(BadWeightError, match="add up to 0.5 instead of 1"):
        EnumELBO().loss(coins, guide, number(1.0))


@pytest.mark.parametrize("where", ["model", "guide"])
def test_two_sites_of_one_name_are_refused(where):
    def once():
        yield cp.sample("a", dist.Bernoulli(0.5))

    def twice():
        yield cp.sample("a", dist.Bernoulli(0.5))
        yield cp.sample("a", dist.Bernoulli(0.5))

    model, guide = (twice, once) if where == "model" else (once, twice)
    with pytest.raises(DuplicateSiteError, match="two sites named 'a'"):
        EnumELBO().loss(model, guide)


def test_a_value_that_is_changed_in_place_is_refused():
    def model():
        z = yield cp.sample("z", dist.Bernoulli(number(0.5)))
        z += 1.0
        yield cp.sample("y", dist.Normal(z, 1.0), obs=number(1.0))

    with pytest.raises(ParamError, match="changed the value of site 'z' in place"):
        EnumELBO().loss(model, nothing)


# --- plates ---------------------------------------------------------------------------------

YS = number([0.3, -1.2, 2.0])


def plated(ys, loop):
    p = yield cp.param("p", number(0.4), constraint=constraints.unit_interval)
    loc = yield cp.param("loc", number([-1.0, 1.0]))
    plate = cp.plate("data", 3)
    if loop:
        for i in plate:
            z = yield cp.sample(f"z{i}", dist.Bernoulli(p))
            yield cp.sample(f"y{i}", dist.Normal(loc[z.long()], 1.0), obs=ys[i])
    else:
        with plate:
            z = yield cp.sample("z", dist.Bernoulli(p.expand(3)))
            yield cp.sample("y", dist.Normal(loc[z.long()], 1.0), obs=ys)


def plated_exact(store):
    p, loc, one = store["p"], store["loc"], number(1.0)
    return -torch.logaddexp(
        (1 - p).log() + log_normal(YS, loc[0], one), p.log() + log_normal(YS, loc[1], one)
    ).sum()


@pytest.mark.parametrize("loop", [True, False])
def test_plates_in_loops_and_at_once(loop, capture):
    check(plated, nothing, plated_exact, YS, loop)


def test_a_guide_inside_a_plate(capture):
    def guide(ys, loop):
        q = yield cp.param("q", number([0.2, 0.5, 0.7]), constraint=constraints.unit_interval)
        with cp.plate("data", 3):
            yield cp.sample("z", dist.Bernoulli(q))

    def exact(store):
        p, loc, q, one = store["p"], store["loc"], store["q"], number(1.0)
        low = (1 - q) * ((1 - p).log() + log_normal(YS, loc[0], one) - (1 - q).log())
        return -(low + q * (p.log() + log_normal(YS, loc[1], one) - q.log())).sum()

    check(plated, guide, exact, YS, False)


def test_a_scaled_guide_is_weighted_by_its_own_probabilities(capture):
    class Scaled(cp.Messenger):
        def _pyro_sample(self, msg):
            msg["scale"] = 3.0 * msg["scale"]

    def model():
        with Scaled():
            a = yield cp.sample("a", dist.Bernoulli(0.3))
            yield cp.sample("b", dist.Flip(0.5))
        yield cp.sample("y", dist.Normal(2 * a, 1.0), obs=number(1.0))

    def guide():
        q = yield cp.param("q", number(0.4), constraint=constraints.unit_interval)
        with Scaled():
            yield cp.sample("a", dist.Bernoulli(q))
            yield cp.sample("b", dist.Flip(0.25))

    def exact(store):
        q, total = store["q"], number(0.0)
        for a in (0, 1):
            for b in (0, 1):
                weight = (q if a else 1 - q) * (0.25 if b else 0.75)
                ratio = math.log(0.3 if a else 0.7) + math.log(0.5) - weight.log()
                total = total + weight * (3.0 * ratio + log_normal(1.0, 2.0 * a, number(1.0)))
        return -total

    check(model, guide, exact)


def test_a_subsample_is_that_of_the_guide(capture):
    seen = []

    def model(ys):
        for i in cp.plate("data", 3, subsample_size=1):
            z = yield cp.sample(f"z{i}", dist.Bernoulli(0.3))
            yield cp.sample(f"y{i}", dist.Normal(z, 1.0), obs=ys[i])

    def guide(ys):
        q = yield cp.param("q", number(0.4), constraint=constraints.unit_interval)
        for i in cp.plate("data", 3, subsample_size=1):
            seen.append(int(i))
            yield cp.sample(f"z{i}", dist.Bernoulli(q))

    def exact(i):
        q = number(0.4)
        terms = [
            weight * (math.log(p) + log_normal(YS[i], z, number(1.0)) - weight.log())
            for z, weight, p in ((0.0, 1 - q, 0.7), (1.0, q, 0.3))
        ]
        return -3.0 * sum(terms).item()

    torch.manual_seed(0)
    for _ in range(4):
        loss = EnumELBO().loss(model, guide, YS)
        assert loss == pytest.approx(exact(seen[-1]), abs=1e-9)
    assert len(set(seen)) > 1


# --- on the state graph -----------------------------------------------------------------------

needs_keys = pytest.mark.skipif(native is None, reason="states are merged by the C extension")


@needs_keys
def test_merging_gives_the_same_loss_and_gradients():
    x = number(1.7)
    for model, guide, args in (
        (mixture, nothing, (x,)),
        (hmm, nothing, ([number(y) for y in (-0.5, 0.9, 1.4)],)),
        (geometric, nothing, (2.0,)),
        (coins, coins_guide, (x,)),
        (ours(joint), ours(joint_guide), ()),
    ):
        found = []
        for merge in (False, True):
            cp.clear_param_store()
            torch.manual_seed(0)
            loss = EnumELBO(2, merge=merge).loss_and_grads(model, guide, *args)
            grads = [leaf.grad for _, leaf in cp.get_param_store().named_parameters()]
            found.append((loss, grads))
        assert found[0][0] == pytest.approx(found[1][0], abs=1e-9)
        for one, other in zip(found[0][1], found[1][1], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


@pytest.mark.clones("replay has no states to merge, and there are 2 ** 60 executions")
@needs_keys
def test_a_mixture_over_much_data_is_linear_in_the_data():
    ys = torch.linspace(-3.0, 3.0, 60, dtype=DOUBLE)

    def model(ys):
        p = yield cp.param("p", number(0.4), constraint=constraints.unit_interval)
        loc = yield cp.param("loc", number([-1.0, 1.0]))
        for i in range(len(ys)):
            z = yield cp.sample(f"z{i}", dist.Bernoulli(p))
            yield cp.sample(f"y{i}", dist.Normal(loc[z.long()], 1.0), obs=ys[i])

    loss = EnumELBO(merge=True).loss_and_grads(model, nothing, ys)
    store = cp.get_param_store()
    p, loc, one = store["p"], store["loc"], number(1.0)
    exact = -torch.logaddexp(
        (1 - p).log() + log_normal(ys, loc[0], one), p.log() + log_normal(ys, loc[1], one)
    ).sum()
    leaves = [leaf for _, leaf in store.named_parameters()]
    assert loss == pytest.approx(exact.item(), abs=1e-8)
    for leaf, grad in zip(leaves, torch.autograd.grad(exact, leaves), strict=True):
        torch.testing.assert_close(leaf.grad, grad, rtol=0, atol=1e-7)


@needs_keys
def test_merging_refuses_what_does_not_match():
    def guide(x):
        yield cp.sample("aa", dist.Bernoulli(0.5))

    with pytest.raises(GuideMismatchError, match="performs 0 sites.*drawn 1 for it: aa"):
        EnumELBO(merge=True).loss(coins, guide, number(1.0))
    with pytest.raises(GuideMismatchError, match="drawn by no guide"):
        EnumELBO(merge=True).loss(ours(joint), nothing)

    def never():
        yield cp.factor("f", -math.inf)

    with pytest.raises(BadWeightError, match="no execution of the model"):
        EnumELBO(merge=True).loss(never, nothing)
