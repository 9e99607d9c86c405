"""do, reparam, mask, scale, equalize and unwrap: what the laws do not say."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.ambient import AMBIENT
from contpoutine.errors import BadWeightError, BadYieldError, BarrierError, InterventionWarning
from contpoutine.poutine.runtime import default_process_message


def chain():
    x = yield cp.sample("x", dist.Flip(0.25))
    return x, (yield cp.sample("y", dist.Flip(0.75 if x else 0.5)))


# --- do ---------------------------------------------------------------------------------------


def test_an_intervention_leaves_the_sites_own_distribution_as_it_is(capture):
    posterior = cp.infer.enumerate(poutine.do(chain, data={"x": True}), capture=capture)()
    assert posterior.marginal("x")[True] == pytest.approx(0.25)
    assert posterior.marginal()[True, True] == pytest.approx(0.75)


def test_do_composes_with_condition_as_a_counterfactual(capture):
    both = poutine.condition(poutine.do(chain, data={"x": True}), data={"x": False})
    posterior = cp.infer.enumerate(both, capture=capture)()
    assert posterior.log_evidence == pytest.approx(torch.tensor(0.75).log().item())
    assert set(posterior.marginal()) == {(True, True), (True, False)}


def test_a_control_handler_inside_of_do_resumes_with_the_intervention(capture):
    class Twice(cp.Handler):
        def on_sample(self, msg, k):
            value = yield msg
            return (yield k(value)) + (yield k(value))

        def on_return(self, value):
            return [value[0]]

    assert cp.run(poutine.do(cp.handle(Twice(), chain), data={"x": True})) == [True] * 4


def test_two_interventions_on_one_site_are_warned_of_and_the_inner_one_counts():
    twice = poutine.do(poutine.do(chain, data={"x": "inner"}), data={"x": "outer"})
    with pytest.warns(InterventionWarning, match="'x'"):
        assert cp.run(twice)[0] == "inner"


def test_a_number_becomes_a_tensor_where_the_distribution_is_torchs():
    def model():
        return (yield cp.sample("x", dist.Normal(0.0, 1.0)))

    value = cp.run(poutine.do(model, data={"x": 2}))
    assert torch.equal(value, torch.tensor(2.0))


# --- reparam ----------------------------------------------------------------------------------


class Standardised:
    """Writes a normal site as a standard normal one and a computation."""

    def apply(self, msg):
        fn = msg["fn"]
        z = yield cp.sample(msg["name"] + "_std", dist.Normal(torch.zeros_like(fn.loc), 1.0))
        value = fn.loc + fn.scale * z
        return {"fn": dist.Delta(value), "value": value, "is_observed": True}


def normal(loc):
    with cp.plate("data", 3):
        return (yield cp.sample("x", dist.Normal(loc, 2.0)))


@pytest.mark.parametrize("config", [{"x": Standardised()}, lambda msg: CONFIG.get(msg["name"])])
def test_a_reparameterised_site_has_auxiliary_ones_inside_the_same_plates(config):
    torch.manual_seed(0)
    model = poutine.reparam(functools.partial(normal, 5.0), config=config)
    trace = poutine.trace(model).get_trace()
    assert trace.nodes["x_std"]["value"].shape == (3,) and trace.nodes["x"]["is_observed"]
    assert [frame.name for frame in trace.nodes["x_std"]["cond_indep_stack"]] == ["data"]
    assert torch.equal(trace.nodes["x"]["value"], 5.0 + 2.0 * trace.nodes["x_std"]["value"])
    by_hand = dist.Normal(torch.zeros(3), 1.0).log_prob(trace.nodes["x_std"]["value"]).sum()
    assert float(trace.log_prob_sum()) == pytest.approx(float(by_hand))
    again = poutine.trace(poutine.replay(model, trace=trace)).get_trace()
    assert torch.equal(again.nodes["x"]["value"], trace.nodes["x"]["value"])


CONFIG = {"x": Standardised()}


def test_a_reparameteriser_may_look_at_the_models_arguments_and_rewrite_without_sites():
    seen = []

    class Plain:
        def apply(self, msg):
            seen.append(self.args_kwargs)
            return {**msg, "fn": dist.Normal(msg["fn"].loc, 0.001)}

    value = cp.run(poutine.reparam(normal, config={"x": Plain()}), 7.0)
    assert seen == [((7.0,), {})] and bool((value - 7.0).abs().max() < 0.1)


def test_reparam_is_refused_where_its_sites_would_be_out_of_reach(capture):
    with pytest.raises(BarrierError, match="auxiliary site 'x_std' of 'x'"):
        cp.infer.enumerate(poutine.reparam(normal, config=CONFIG), capture=capture)(0.0)
    assert AMBIENT.get() == ()

    class Bad:
        def apply(self, msg):
            yield 3

    with pytest.raises(BadYieldError, match="reparameteriser of site 'x' yielded 3"):
        cp.run(poutine.reparam(normal, config={"x": Bad()}), 0.0)
    with pytest.raises(TypeError, match="config="):
        poutine.reparam(normal)


# --- mask, scale, equalize --------------------------------------------------------------------


def test_get_mask_says_what_a_site_would_get(capture):
    found = []

    def model():
        found.append(poutine.get_mask())
        x = yield cp.sample("x", dist.Flip(0.5))
        with poutine.mask(mask=x):
            yield cp.sample("y", dist.Flip(0.5))
            found.append((x, poutine.get_mask()))
        return x

    cp.infer.enumerate(model, capture=capture)()
    assert None in found and {pair for pair in found if pair} == {(True, True), (False, False)}
    with poutine.mask(mask=torch.tensor([True, False])), poutine.mask(mask=True):
        assert poutine.runtime.get_mask().tolist() == [True, False]


@pytest.mark.parametrize("scale", [0.0, -1.0, torch.tensor([1.0, 0.0])])
def test_a_scale_is_positive(scale):
    with pytest.raises(BadWeightError, match="mask=False"):
        poutine.scale(chain, scale=scale)
    with pytest.raises(TypeError, match="positive number"):
        poutine.scale(chain, scale="2")


@pytest.mark.parametrize("mask", [1, "x", torch.tensor([0.0, 1.0])])
def test_a_mask_is_of_bools(mask):
    with pytest.raises(TypeError, match="bool"):
        poutine.mask(chain, mask=mask)


def test_equalized_sites_are_equal_in_every_branch(capture):
    def model():
        with poutine.equalize(sites="[xy]"):
            first = yield from chain()
            second = yield cp.sample("z", dist.Flip(0.5))
        return *first, second

    for order in ("depth_first", "breadth_first"):
        posterior = cp.infer.enumerate(model, order=order, capture=capture)()
        assert {value[:2] for value in posterior.marginal()} == {(True, True), (False, False)}
        assert posterior.executions == 4
        assert posterior.marginal("x")[True] == pytest.approx(0.25)


def test_uncondition_remembers_what_was_observed_and_leaves_factors_alone(capture):
    def model():
        x = yield cp.sample("x", dist.Flip(0.25), obs=True)
        yield cp.factor("f", 1.0)
        return x, (yield cp.deterministic("d", 3))

    posterior = cp.infer.enumerate(poutine.uncondition(model), capture=capture)()
    assert posterior.marginal()[True, 3] == pytest.approx(0.25)
    assert posterior.log_evidence == pytest.approx(1.0)
    trace = poutine.trace(poutine.uncondition(model)).get_trace()
    assert trace.nodes["x"]["infer"] == {"was_observed": True, "obs": True}


# --- unwrap, forks ----------------------------------------------------------------------------


def test_unwrap_finds_the_model_and_leaves_a_users_decorator_alone():
    @functools.wraps(chain)
    def decorated():
        return (yield from chain())

    wrapped = poutine.trace(poutine.seed(poutine.markov(decorated), rng_seed=0))
    assert poutine.unwrap(wrapped) is decorated and poutine.unwrap(decorated) is decorated
    reparameterised = poutine.reparam(poutine.block(chain), config={})
    assert poutine.unwrap(reparameterised) is chain


class CountingMemo:
    """A fork's memo that shares everything and counts what it is asked."""

    def __init__(self):
        self.asked = 0

    def record(self, old, new):
        pass

    def __call__(self, value):
        self.asked += 1
        return value


@pytest.mark.parametrize(
    "make",
    [
        lambda: poutine.lift(prior={"x": dist.Flip(0.5)}),
        lambda: poutine.seed(rng_seed=0),
        lambda: poutine.equalize(sites="x0|x1"),
        lambda: poutine.enum(first_available_dim=-1),
        lambda: poutine.markov(keep=True),
        lambda: poutine.condition(data={"x0": True}),
        lambda: poutine.do(data={"x0": True}),
        lambda: poutine.scope(prefix="in"),
        lambda: cp.plate("plate", 3),
    ],
)
def test_a_fork_of_a_handler_costs_the_same_however_many_sites_it_has_seen(make):
    asked = []
    for sites in (2, 500):

        def model():
            with make():
                for i in range(sites):
                    yield cp.sample(f"x{i}", dist.Bernoulli(0.5))
                entry = AMBIENT.get()[-1]
                memo = CountingMemo()
                entry.__fork__(memo)
                asked.append(memo.asked)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cp.run(model)
    assert asked[0] == asked[1]


def test_the_default_of_a_message_is_applied_once():
    calls = []
    msg = cp.Message(type="apply", fn=lambda: calls.append(1) or len(calls))
    msg.perform()
    default_process_message(msg)
    default_process_message(msg)
    assert (msg["value"], msg["done"], calls) == (1, True, [1])
