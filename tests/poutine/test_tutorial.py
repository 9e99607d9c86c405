"""The tutorial's own functions, on generator models: what they do is what they did in Pyro.

A function is written as the tutorial has it; where its text leaves lines out, they are filled in,
and where it runs a model by calling it, the model is run by `cp.run`.
"""

from __future__ import annotations

import math

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.poutine.condition_messenger import ConditionMessenger
from contpoutine.poutine.trace_messenger import TraceMessenger


def scale(guess):
    weight = yield cp.sample("weight", dist.Normal(guess, 1.0))
    return (yield cp.sample("measurement", dist.Normal(weight, 0.75)))


def by_hand(guess, weight, measurement):
    normal = torch.distributions.Normal
    return (
        normal(guess, 1.0).log_prob(weight).sum() + normal(weight, 0.75).log_prob(measurement).sum()
    )


# --- a first look ---------------------------------------------------------------------------


def make_log_joint(model):
    def _log_joint(cond_data, *args, **kwargs):
        conditioned_model = poutine.condition(model, data=cond_data)
        trace = poutine.trace(conditioned_model).get_trace(*args, **kwargs)
        return trace.log_prob_sum()

    return _log_joint


def make_log_joint_2(model):
    def _log_joint(cond_data, *args, **kwargs):
        with TraceMessenger() as tracer:
            with ConditionMessenger(data=cond_data):
                cp.run(model, *args, **kwargs)

        trace = tracer.trace
        logp = 0.0
        for node in trace.nodes.values():
            if node["type"] == "sample":
                if node["is_observed"]:
                    assert node["value"] is cond_data[node["name"]]
                logp = logp + node["fn"].log_prob(node["value"]).sum()
        return logp

    return _log_joint


class LogJointMessenger(poutine.messenger.Messenger):
    def __init__(self, cond_data):
        self.data = cond_data

    def __call__(self, fn):
        def _fn(*args, **kwargs):
            with self:
                yield from fn(*args, **kwargs)
                return self.logp.clone()

        return _fn

    def __enter__(self):
        self.logp = torch.tensor(0.0)
        return super().__enter__()

    def __exit__(self, exc_type, exc_value, traceback):
        self.logp = torch.tensor(0.0)
        return super().__exit__(exc_type, exc_value, traceback)

    def _pyro_sample(self, msg):
        assert msg["name"] in self.data
        msg["value"] = self.data[msg["name"]]
        msg["is_observed"] = True
        self.logp = self.logp + (msg["scale"] * msg["fn"].log_prob(msg["value"])).sum()


class LogJointMessenger2(LogJointMessenger):
    def _pyro_sample(self, msg):
        if msg["name"] in self.data:
            msg["value"] = self.data[msg["name"]]
            msg["done"] = True

    def _pyro_post_sample(self, msg):
        assert msg["done"]
        self.logp = self.logp + (msg["scale"] * msg["fn"].log_prob(msg["value"])).sum()


def log_joint(model=None, cond_data=None):
    msngr = LogJointMessenger(cond_data=cond_data)
    return msngr(model) if model is not None else msngr


def test_four_ways_to_the_log_joint_agree():
    data = {"measurement": torch.tensor(9.5), "weight": torch.tensor(8.23)}
    expected = by_hand(torch.tensor(8.5), data["weight"], data["measurement"])
    found = [
        make_log_joint(scale)(data, torch.tensor(8.5)),
        make_log_joint_2(scale)(data, torch.tensor(8.5)),
        make_log_joint_2(scale)({"measurement": 9.5, "weight": 8.23}, 8.5),
        cp.run(LogJointMessenger(cond_data=data)(scale), torch.tensor(8.5)),
        cp.run(LogJointMessenger2(cond_data=data)(scale), torch.tensor(8.5)),
        cp.run(log_joint(scale, cond_data=data), 8.5),
    ]
    for value in found:
        assert torch.allclose(value, expected)


def test_a_users_messenger_is_right_under_enumeration(capture):
    def model():
        a = yield cp.sample("a", dist.Flip(0.25))
        b = yield cp.sample("b", dist.Flip(0.5 if a else 0.125))
        return a, b

    def weighed():
        value = None

        def keep():
            nonlocal value
            value = yield from model()

        logp = yield from LogJointMessenger2({})(keep)()
        return value, float(logp)

    leaves = cp.infer.enumerate(weighed, capture=capture)().marginal()
    assert len(leaves) == 4
    for (_, logp), probability in leaves.items():
        assert math.exp(logp) == pytest.approx(probability)


# --- inference made of handlers -------------------------------------------------------------


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


def test_the_elbo_of_the_exact_posterior_is_the_evidence():
    def guide(guess):  # the posterior of weight, given measurement = 9.5
        precision = 1.0 + 1.0 / 0.75**2
        loc = (guess + 9.5 / 0.75**2) / precision
        return (yield cp.sample("weight", dist.Normal(loc, precision**-0.5)))

    batch = {"measurement": torch.tensor(9.5)}
    evidence = torch.distributions.Normal(8.5, math.sqrt(1.0 + 0.75**2)).log_prob(
        batch["measurement"]
    )
    for _ in range(5):
        assert torch.allclose(monte_carlo_elbo(scale, guide, batch, 8.5), -evidence, atol=1e-5)


def sequential_discrete_marginal(model, data, site_name="_RETURN"):
    import queue  # queue data structures

    q = queue.Queue()  # Instantiate a first-in first-out queue
    q.put(poutine.Trace())  # seed the queue with an empty trace

    # as before, we fix the values of observed random variables with poutine.condition
    # assuming data is a dictionary whose keys are names of sample sites in model
    conditioned_model = poutine.condition(model, data=data)

    # we wrap the conditioned model in a poutine.queue,
    # which repeatedly pushes and pops partially completed executions from a Queue()
    # to perform breadth-first enumeration over the set of values of all discrete sample sites
    enum_model = poutine.queue(conditioned_model, queue=q)

    # actually perform the enumeration by repeatedly tracing enum_model
    # and accumulate samples and trace log-probabilities for postprocessing
    samples, log_weights = [], []
    while not q.empty():
        trace = poutine.trace(enum_model).get_trace()
        samples.append(trace.nodes[site_name]["value"])
        log_weights.append(trace.log_prob_sum())

    # we take the samples and log-joints and turn them into a histogram:
    samples = torch.stack(samples, 0)
    log_weights = torch.stack(log_weights, 0)
    log_weights = log_weights - dist.util.logsumexp(log_weights, dim=0)
    return dist.Empirical(samples, log_weights)


EXACT = {0.0: 0.125158, 1.0: 0.656131, 2.0: 0.218710}


def test_sequential_discrete_marginal_with_torch_distributions(capture):
    def model():
        a = yield cp.sample("a", dist.Bernoulli(0.3))
        b = yield cp.sample("b", dist.Bernoulli(0.6))
        yield cp.sample("y", dist.Normal(a + b, 1.0))
        return a + b

    data = {"y": torch.tensor(1.5)}
    marginal = sequential_discrete_marginal(model, data)
    for value, probability in EXACT.items():
        found = marginal.log_prob(torch.tensor(value)).exp()
        assert float(found) == pytest.approx(probability, abs=1e-6)
    a = sequential_discrete_marginal(model, data, site_name="a")
    exact = cp.infer.enumerate(poutine.condition(model, data=data))().marginal("a")
    assert float(a.log_prob(torch.tensor(1.0)).exp()) == pytest.approx(exact[torch.tensor(1.0)])


def test_sequential_discrete_marginal_with_finite_distributions(capture):
    """`torch.stack` wants tensors, so a model of flips returns one; its sites hold plain values."""

    def model():
        a = yield cp.sample("a", dist.Flip(0.3))
        b = yield cp.sample("b", dist.Flip(0.6))
        yield cp.sample("y", dist.Normal(a + b, 1.0))
        return torch.tensor(float(a + b))

    marginal = sequential_discrete_marginal(model, {"y": 1.5})
    for value, probability in EXACT.items():
        found = marginal.log_prob(torch.tensor(value)).exp()
        assert float(found) == pytest.approx(probability, abs=1e-6)


# --- lazy evaluation ------------------------------------------------------------------------


class LazyValue:
    def __init__(self, fn, *args, **kwargs):
        self._expr = (fn, args, kwargs)
        self._value = None

    def __str__(self):
        return "({} {})".format(str(self._expr[0]), " ".join(map(str, self._expr[1])))

    def evaluate(self):
        if self._value is None:
            fn, args, kwargs = self._expr
            fn = fn.evaluate() if isinstance(fn, LazyValue) else fn
            args = tuple(arg.evaluate() if isinstance(arg, LazyValue) else arg for arg in args)
            kwargs = {k: v.evaluate() if isinstance(v, LazyValue) else v for k, v in kwargs.items()}
            self._value = fn(*args, **kwargs)
        return self._value


class LazyMessenger(poutine.messenger.Messenger):
    def _process_message(self, msg):
        if msg["type"] in ("apply", "sample") and not msg["done"]:
            msg["done"] = True
            msg["value"] = LazyValue(msg["fn"], *msg["args"], **msg["kwargs"])


@poutine.runtime.effectful(type="apply")
def add(x, y):
    return x + y


@poutine.runtime.effectful(type="apply")
def mul(x, y):
    return x * y


@poutine.runtime.effectful(type="apply")
def sigmoid(x):
    return torch.sigmoid(x)


@poutine.runtime.effectful(type="apply")
def normal(loc, scale):
    return dist.Normal(loc, scale)


def biased_scale(guess):
    weight = yield cp.sample("weight", (yield normal(guess, 1.0)))
    tolerance = yield cp.sample("tolerance", (yield normal(0.0, 0.25)))
    biased = yield add((yield mul(weight, 0.8)), 1.0)
    spread = yield sigmoid(tolerance)
    return (yield cp.sample("measurement", (yield normal(biased, spread))))


def test_lazy_evaluation_builds_an_expression():
    with LazyMessenger():
        v = cp.run(biased_scale, 8.5)
    text = str(v)
    assert text.startswith("((<function normal at ") and text.count("<function normal") == 3
    assert "8.5 1.0" in text and "0.0 0.25" in text
    assert isinstance(v.evaluate(), torch.Tensor)
