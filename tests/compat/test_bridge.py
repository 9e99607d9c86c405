"""Models of the real Pyro under the handlers of this library, and enumerated, as they are."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import threading

import pyro
import pyro.distributions as dist
import pyro.poutine as theirs
import pytest
import torch

import contpoutine as cp
from contpoutine import poutine
from contpoutine.compat.bridge import STATE
from contpoutine.errors import BarrierError, GreenletError, NotEnumerableError, TraceMismatchError

ORDERS = ("depth_first", "breadth_first", "likely_first")
every_order = pytest.mark.parametrize("order", ORDERS)


@pytest.fixture(autouse=True)
def _clean():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    assert STATE.is_fresh(STATE.take())
    assert not poutine.runtime.am_i_wrapped()


def sprinkler():
    rain = pyro.sample("rain", dist.Bernoulli(0.2))
    on = pyro.sample("sprinkler", dist.Bernoulli(0.01 if rain else 0.4))
    wet = 0.99 if rain and on else 0.9 if on else 0.8 if rain else 0.0
    pyro.sample("wet", dist.Bernoulli(wet), obs=torch.tensor(1.0))
    return bool(rain)


def by_condition(model, supports):
    """The joint weight of each combination of values, by Pyro's own handlers."""
    weights = {}
    for values in itertools.product(*supports.values()):
        data = {name: torch.tensor(v) for name, v in zip(supports, values, strict=True)}
        trace = theirs.trace(theirs.condition(model, data=data)).get_trace()
        weights[values] = float(trace.log_prob_sum().exp())
    return weights


@every_order
def test_a_model_is_enumerated_as_it_stands(order):
    posterior = cp.infer.enumerate(sprinkler, order=order)()
    weights = by_condition(sprinkler, {"rain": (0.0, 1.0), "sprinkler": (0.0, 1.0)})
    total = sum(weights.values())
    assert posterior.log_evidence == pytest.approx(math.log(total), abs=1e-6)
    rainy = sum(weight for (rain, _), weight in weights.items() if rain) / total
    assert posterior.marginal()[True] == pytest.approx(rainy, abs=1e-6)
    assert posterior.marginal("rain")[torch.tensor(1.0)] == pytest.approx(rainy, abs=1e-6)


def test_each_element_in_a_plate_is_enumerated_by_itself():
    def model():
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.1, 0.2, 0.3])))
            pyro.sample("x", dist.Bernoulli(0.2 + 0.6 * z), obs=torch.tensor([1.0, 0.0, 1.0]))
        return tuple(z.tolist())

    posterior = cp.infer.enumerate(model)()
    assert len(posterior.marginal()) == 8
    exact = 1.0
    for p, seen in ((0.1, 1), (0.2, 0), (0.3, 1)):
        exact *= p * (0.8 if seen else 0.2) + (1 - p) * (0.2 if seen else 0.8)
    assert posterior.log_evidence == pytest.approx(math.log(exact), abs=1e-5)


def test_a_site_with_an_event_dimension_is_enumerated():
    def model():
        x = pyro.sample("x", dist.Bernoulli(torch.tensor([0.5, 0.25])).to_event(1))
        return tuple(x.tolist())

    marginal = cp.infer.enumerate(model)().marginal()
    assert marginal[1.0, 1.0] == pytest.approx(0.125)
    assert len(marginal) == 4


def test_a_loop_over_a_plate_factors_masks_and_scales():
    def model():
        total = 0.0
        for i in pyro.plate("loop", 2):
            total += float(pyro.sample(f"x{i}", dist.Bernoulli(0.5)))
        pyro.factor("prefer", torch.tensor(total))
        with theirs.mask(mask=False):
            pyro.sample("masked", dist.Bernoulli(0.5), obs=torch.tensor(1.0))
        with theirs.scale(scale=2.0):
            pyro.sample("scaled", dist.Bernoulli(0.5), obs=torch.tensor(1.0))
        pyro.deterministic("total", torch.tensor(total))
        return total

    posterior = cp.infer.enumerate(model)()
    exact = {n: math.comb(2, n) * 0.25 * math.exp(n) * 0.25 for n in range(3)}
    assert posterior.log_evidence == pytest.approx(math.log(sum(exact.values())), abs=1e-5)
    for n in range(3):
        expected = exact[n] / sum(exact.values())
        assert posterior.marginal()[float(n)] == pytest.approx(expected, abs=1e-5)
        assert posterior.marginal("total")[torch.tensor(float(n))] == pytest.approx(
            expected, abs=1e-5
        )


def test_parameters_and_modules_are_those_of_pyro():
    class Net(pyro.nn.PyroModule):
        def __init__(self):
            super().__init__()
            self.linear = pyro.nn.PyroModule[torch.nn.Linear](1, 1)
            self.p = pyro.nn.PyroParam(
                torch.tensor(0.25), constraint=torch.distributions.constraints.unit_interval
            )

        def forward(self):
            x = pyro.sample("x", dist.Bernoulli(self.p))
            return float(x)

    def model(net):
        scale = pyro.param("scale", torch.tensor(1.0))
        assert scale.requires_grad
        return net(), pyro.sample("y", dist.Categorical(torch.ones(3) * scale)).item()

    net = Net()
    marginal = cp.infer.enumerate(model)(net).marginal()
    assert marginal[1.0, 2] == pytest.approx(0.25 / 3, abs=1e-6)
    assert list(pyro.get_param_store()) == ["scale"] or "p" in pyro.get_param_store()


def test_handlers_of_this_library_act_on_it():
    conditioned = poutine.condition(sprinkler, data={"sprinkler": torch.tensor(0.0)})
    trace = poutine.trace(conditioned).get_trace()
    assert list(trace.nodes) == ["_INPUT", "rain", "sprinkler", "wet", "_RETURN"]
    assert trace.nodes["sprinkler"]["is_observed"]
    mine = cp.infer.enumerate(conditioned)()
    rain = by_condition(conditioned, {"rain": (0.0, 1.0)})
    assert mine.log_evidence == pytest.approx(math.log(sum(rain.values())), abs=1e-6)
    drawn = poutine.trace(sprinkler).get_trace()
    again = poutine.trace(poutine.replay(sprinkler, trace=drawn)).get_trace()
    assert again.nodes["rain"]["value"] is drawn.nodes["rain"]["value"]
    with pytest.raises(TraceMismatchError, match=f"{__file__}:.*in sprinkler"):
        poutine.trace(poutine.replay(sprinkler, trace=trace)).get_trace()


def test_a_control_handler_takes_its_sites():
    class Both(cp.Handler):
        def on_sample(self, msg, k):
            if msg["is_observed"]:
                return (yield k(msg["value"]))
            return (yield k(torch.tensor(0.0))) + (yield k(torch.tensor(1.0)))

        def on_return(self, value):
            return [value]

    assert cp.run(cp.handle(Both(), sprinkler)) == [False, False, True, True]


def test_pyros_own_handlers_inside_of_a_model_act_in_each_branch():
    def model():
        with theirs.trace() as tr, theirs.condition(data={"b": torch.tensor(1.0)}):
            a = pyro.sample("a", dist.Bernoulli(0.5))
            pyro.sample("b", dist.Bernoulli(0.9 if a else 0.1))
            c = pyro.sample("c", dist.Bernoulli(0.5))
        assert tr.trace.nodes["b"]["is_observed"] and tr.trace.nodes["c"]["value"] is c
        return tuple(tr.trace.nodes), float(a), float(c)

    marginal = cp.infer.enumerate(model)().marginal()
    assert len(marginal) == 4
    assert marginal[("a", "b", "c"), 1.0, 0.0] == pytest.approx(0.45, abs=1e-6)


@every_order
def test_it_can_be_enumerated_inside_of_a_plate_and_a_trace_of_pyros_own(order):
    with theirs.trace() as tr, pyro.plate("outer", 2, dim=-1):
        posterior = cp.infer.enumerate(sprinkler, order=order)()
        pyro.sample("after", dist.Bernoulli(0.5))
    assert posterior.branches == 6
    assert list(tr.trace.nodes) == ["outer", "after"]
    assert tr.trace.nodes["after"]["value"].shape == (2,)


def test_plates_of_two_suspended_branches_do_not_meet():
    def model():
        with pyro.plate("first", 2, dim=-1):
            x = pyro.sample("x", dist.Bernoulli(0.5))
            with pyro.plate("second", 2, dim=-2):
                y = pyro.sample("y", dist.Bernoulli(0.5))
        with pyro.plate("third", 2):
            z = pyro.sample("z", dist.Bernoulli(0.5))
        return x.shape, y.shape, z.shape

    for order in ORDERS:
        marginal = cp.infer.enumerate(model, order=order, max_executions=20)().marginal()
        assert list(marginal) == [((2,), (2, 2), (2,))]


def test_the_values_drawn_are_those_of_pyro_under_one_seed():
    def model():
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 4, subsample_size=2) as ind:
            x = pyro.sample("x", dist.Normal(loc, 1.0))
        return loc, ind, x

    pyro.set_rng_seed(3)
    expected = theirs.trace(model).get_trace()
    pyro.set_rng_seed(3)
    found = poutine.trace(model).get_trace()
    assert list(found.nodes) == list(expected.nodes)
    for name in ("loc", "data", "x"):
        assert torch.equal(found.nodes[name]["value"], expected.nodes[name]["value"])
    assert float(found.log_prob_sum()) == pytest.approx(float(expected.log_prob_sum()))
    pyro.set_rng_seed(3)
    for mine, its in zip(cp.run(model), expected.nodes["_RETURN"]["value"], strict=True):
        assert torch.equal(mine, its)


def test_pyros_handlers_further_out_see_a_model_that_only_messengers_are_around():
    with theirs.trace() as outer:
        inner = poutine.trace(sprinkler).get_trace()
    for name in ("rain", "sprinkler", "wet"):
        assert outer.trace.nodes[name]["value"] is inner.nodes[name]["value"]


def test_a_with_block_sees_pyros_sites():
    with poutine.condition(data={"rain": torch.tensor(1.0)}), poutine.trace() as tr:
        assert sprinkler() is True
    assert list(tr.trace.nodes) == ["rain", "sprinkler", "wet"]


def test_the_three_kinds_of_model_call_each_other():
    import contpoutine.compat.pyro as mine

    def generator():
        x = yield cp.sample("x", cp.distributions.Flip(0.5))
        return x, (yield cp.call(real))

    def real():
        y = bool(pyro.sample("y", dist.Bernoulli(0.5)))
        return y, direct()

    def direct():
        return mine.sample("z", cp.distributions.Flip(0.5)), cp.run(last)

    def last():
        return (yield cp.sample("w", cp.distributions.Flip(0.5)))

    for model in (generator, real, direct):
        marginal = cp.infer.enumerate(model)().marginal()
        assert set(map(float, dict(marginal.items()).values())) == {
            {generator: 1 / 16, real: 1 / 8, direct: 1 / 4}[model]
        }


def test_an_error_in_the_model_leaves_both_stacks_as_they_were():
    def model():
        with pyro.plate("data", 2), theirs.trace():
            pyro.sample("x", dist.Bernoulli(0.5))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        cp.infer.enumerate(model)()


def test_a_random_subsample_and_a_continuous_site_are_refused_by_name():
    def subsampled():
        with pyro.plate("data", 10, subsample_size=2):
            pyro.sample("x", dist.Bernoulli(0.5))

    def continuous():
        pyro.sample("height", dist.Normal(0.0, 1.0))

    with pytest.raises(NotEnumerableError, match="data"):
        cp.infer.enumerate(subsampled)()
    with pytest.raises(NotEnumerableError, match="height"):
        cp.infer.enumerate(continuous)()


def test_a_pyro_model_called_plainly_in_a_generator_is_not_drawn_at_random():
    def model():
        yield cp.sample("x", cp.distributions.Flip(0.5))
        return sprinkler()

    with pytest.raises(BarrierError, match="rain"):
        cp.infer.enumerate(model)()


def test_a_model_that_imports_pyro_while_it_runs_is_told_to_do_so_before():
    code = """
import contpoutine as cp
def model():
    import pyro, pyro.distributions as dist
    return bool(pyro.sample("x", dist.Bernoulli(0.5)))
try:
    cp.infer.enumerate(model)()
except cp.errors.LateImportError as error:
    print(error)
print(cp.infer.enumerate(model)().marginal()[True])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Import pyro before the model runs" in done.stdout
    assert done.stdout.splitlines()[-1] == "0.5"


def test_models_of_pyro_on_two_threads_at_once_are_refused_and_never_mixed_up():
    inside, go_on = threading.Event(), threading.Event()
    outcomes = {}

    def slow():
        x = pyro.sample("x", dist.Bernoulli(0.5))
        inside.set()
        assert go_on.wait(30)
        return bool(x)

    def work(name, model):
        try:
            outcomes[name] = len(cp.infer.enumerate(model)().marginal())
        except GreenletError as error:
            outcomes[name] = str(error)

    first = threading.Thread(target=work, args=("first", slow))
    first.start()
    assert inside.wait(30)
    second = threading.Thread(target=work, args=("second", sprinkler))
    second.start()
    second.join()
    go_on.set()
    first.join()
    assert outcomes["first"] == 2
    assert "rain" in outcomes["second"] and "another thread" in outcomes["second"]
    work("third", sprinkler)
    assert outcomes["third"] == 2


def test_a_seeded_function_draws_what_the_seeded_generator_draws():
    from contpoutine.compat import pyro as direct

    def function():
        return [direct.sample(f"x{i}", cp.distributions.RandInt(0, 1000)) for i in range(5)]

    def generator():
        drawn = []
        for i in range(5):
            drawn.append((yield cp.sample(f"x{i}", cp.distributions.RandInt(0, 1000))))
        return drawn

    both = [cp.run(poutine.seed(model, rng_seed=1)) for model in (function, generator)]
    assert both[0] == both[1] and len(set(both[0])) == 5
