"""Pyro's guide to Poutine, for generator models: each of its code blocks, in its order.

Two things differ from the original all the way through. A model yields its effects, `x = yield
cp.sample(...)`, and a model is run by `cp.run(model, ...)`, as calling it only makes a generator.
Everything else has Pyro's names and does what it does there; each block prints what it found.
"""

import queue

import torch
from torch.distributions import constraints

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.message import Message
from contpoutine.poutine.condition_messenger import ConditionMessenger
from contpoutine.poutine.runtime import apply_stack, effectful
from contpoutine.poutine.trace_messenger import TraceMessenger

DATA = {"measurement": 9.5, "weight": 8.23}  # plain numbers will do, wherever a tensor would


def title(text):
    print(f"\n{text}\n{'-' * len(text)}")


# --- A model: an object, and a scale that does not quite tell its weight.


def scale(guess):
    weight = yield cp.sample("weight", dist.Normal(guess, 1.0))
    return (yield cp.sample("measurement", dist.Normal(weight, 0.75)))


# --- The log-joint by hand. It has to know the model by heart.


def log_joint_by_hand(guess, weight, measurement):
    logp = dist.Normal(guess, 1.0).log_prob(torch.tensor(weight)).sum()
    return logp + dist.Normal(weight, 0.75).log_prob(torch.tensor(measurement)).sum()


# --- The log-joint of any model, by two handlers.


def make_log_joint(model):
    def _log_joint(cond_data, *args, **kwargs):
        conditioned_model = poutine.condition(model, data=cond_data)
        trace = poutine.trace(conditioned_model).get_trace(*args, **kwargs)
        return trace.log_prob_sum()

    return _log_joint


# --- The same with the lid off: the handlers are context managers, a trace is a dictionary.


def make_log_joint_2(model):
    def _log_joint(cond_data, *args, **kwargs):
        with TraceMessenger() as tracer:
            with ConditionMessenger(data=cond_data):
                cp.run(model, *args, **kwargs)

        logp = 0.0
        for name, node in tracer.trace.nodes.items():
            if node["type"] == "sample":
                if node["is_observed"]:
                    assert node["value"] is cond_data[name]
                logp = logp + node["fn"].log_prob(node["value"]).sum()
        return logp

    return _log_joint


# --- The same as one handler that adds up while the model runs.


class LogJointMessenger(poutine.messenger.Messenger):
    def __init__(self, cond_data):
        self.data = cond_data

    def __call__(self, fn):  # a Messenger has one; ours gives the sum in place of fn's value
        def _fn(*args, **kwargs):
            with self:
                yield from fn(*args, **kwargs)
                return self.logp.clone()

        return _fn

    def __enter__(self):
        self.logp = torch.tensor(0.0)
        return super().__enter__()  # installs the handler

    def __exit__(self, exc_type, exc_value, traceback):
        self.logp = torch.tensor(0.0)
        return super().__exit__(exc_type, exc_value, traceback)

    def _pyro_sample(self, msg):
        assert msg["name"] in self.data
        msg["value"] = self.data[msg["name"]]
        msg["is_observed"] = True  # nobody further out draws over it
        self.logp = self.logp + (msg["scale"] * msg["fn"].log_prob(msg["value"])).sum()


# --- The usual boilerplate: one name for the three uses.


def log_joint(model=None, cond_data=None):
    msngr = LogJointMessenger(cond_data=cond_data)
    return msngr(model) if model is not None else msngr


# --- What the base class does with a message: it looks for a method named after its type. And what
#     the stack does: innermost handler first on the way up, outermost first on the way down.


class Loud(poutine.messenger.Messenger):
    def __init__(self, name, heard):
        self.name, self.heard = name, heard

    def _process_message(self, msg):
        self.heard.append(f"{self.name} up")
        super()._process_message(msg)  # calls _pyro_sample, as the type is "sample"

    def _pyro_sample(self, msg):
        self.heard.append(f"{self.name} sample")

    def _postprocess_message(self, msg):
        self.heard.append(f"{self.name} down")


def both_ways():
    heard = []
    with Loud("outer", heard), Loud("inner", heard):
        apply_stack(Message(type="sample", name="x", fn=dist.Flip(0.5)))
    return heard


# --- Weighing on the way down, when other handlers have had their say about the value.


class LogJointMessenger2(LogJointMessenger):
    def _pyro_sample(self, msg):
        if msg["name"] in self.data:
            msg["value"] = self.data[msg["name"]]
            msg["done"] = True

    def _pyro_post_sample(self, msg):
        assert msg["done"]  # value and distribution will not change any more
        self.logp = self.logp + (msg["scale"] * msg["fn"].log_prob(msg["value"])).sum()


# --- A message as it is born.


def first_message():
    seen = []

    class Keep(poutine.messenger.Messenger):
        def _pyro_sample(self, msg):
            seen.append(dict(msg))

    def model():
        yield cp.sample("x", dist.Bernoulli(0.5), infer={"enumerate": "parallel"}, obs=None)

    with Keep():
        cp.run(model)
    return seen[0]


# --- Variational inference from three handlers: an ELBO, ...


def monte_carlo_elbo(model, guide, batch, *args, **kwargs):
    conditioned_model = poutine.condition(model, data=batch)
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    replayed = poutine.replay(conditioned_model, trace=guide_trace)
    model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)

    elbo = 0.0
    for name, node in model_trace.nodes.items():
        if node["type"] == "sample":
            elbo = elbo + node["fn"].log_prob(node["value"]).sum()
            if not node["is_observed"]:
                elbo = elbo - guide_trace.nodes[name]["fn"].log_prob(node["value"]).sum()
    return -elbo


# --- ... and a training loop. A trace finds the parameters, as everything else is blocked.


def train(model, guide, data, optimizer, *args):
    for batch in data:
        with poutine.trace() as param_capture:
            with poutine.block(hide_fn=lambda node: node["type"] != "param"):
                loss = monte_carlo_elbo(model, guide, batch, *args)
        loss.backward()
        params = {node["value"].unconstrained() for node in param_capture.trace.nodes.values()}
        optimizer.step(params)
        cp.infer.util.zero_grads(params)


def scale_guide(guess):
    loc = yield cp.param("loc", torch.tensor(guess))
    spread = yield cp.param("spread", torch.tensor(1.0), constraint=constraints.positive)
    return (yield cp.sample("weight", dist.Normal(loc, spread)))


# --- Exact inference by enumeration, from `queue`: each call gives one more execution.


def sequential_discrete_marginal(model, data, site_name="_RETURN"):
    q = queue.Queue()
    q.put(poutine.Trace())
    conditioned_model = poutine.condition(model, data=data)
    enum_model = poutine.queue(conditioned_model, queue=q)

    samples, log_weights = [], []
    while not q.empty():
        trace = poutine.trace(enum_model).get_trace()
        samples.append(trace.nodes[site_name]["value"])
        log_weights.append(trace.log_prob_sum())

    log_joints = torch.stack(log_weights, 0)
    log_joints = log_joints - dist.util.logsumexp(log_joints, dim=0)
    return dist.Empirical(torch.stack(samples, 0), log_joints)


def two_coins():
    a = yield cp.sample("a", dist.Bernoulli(0.3))
    b = yield cp.sample("b", dist.Bernoulli(0.6))
    yield cp.sample("y", dist.Normal(a + b, 1.0))
    return a + b


# --- Lazy evaluation. (examples/lazy.py goes on from here.)


class LazyValue:
    def __init__(self, fn, *args, **kwargs):
        self._expr = (fn, args, kwargs)
        self._value = None

    def __str__(self):
        fn, args, _ = self._expr
        name = fn.__name__ if hasattr(fn, "__name__") else str(fn)
        return f"({' '.join([name, *map(str, args)])})"

    def evaluate(self):
        if self._value is None:
            fn, args, kwargs = self._expr
            args = tuple(evaluated(arg) for arg in args)
            kwargs = {key: evaluated(value) for key, value in kwargs.items()}
            self._value = evaluated(fn)(*args, **kwargs)
        return self._value


def evaluated(x):
    return x.evaluate() if isinstance(x, LazyValue) else x


class LazyMessenger(poutine.messenger.Messenger):
    def _process_message(self, msg):
        if msg["type"] in ("apply", "sample") and not msg["done"]:
            msg["done"] = True
            msg["value"] = LazyValue(msg["fn"], *msg["args"], **msg["kwargs"])


@effectful(type="apply")
def add(x, y):
    return x + y


@effectful(type="apply")
def mul(x, y):
    return x * y


@effectful(type="apply")
def sigmoid(x):
    return torch.sigmoid(x)


@effectful(type="apply")
def normal(loc, scale):
    return dist.Normal(loc, scale)


def biased_scale(guess):
    weight = yield cp.sample("weight", (yield normal(guess, 1.0)))
    tolerance = yield cp.sample("tolerance", (yield normal(0.0, 0.25)))
    loc = yield add((yield mul(weight, 0.8)), 1.0)
    return (yield cp.sample("measurement", (yield normal(loc, (yield sigmoid(tolerance))))))


def main():
    title("The log-joint of scale at weight 8.23, measurement 9.5, guess 8.5")
    print(f"by hand                {log_joint_by_hand(8.5, 8.23, 9.5):.4f}")
    print(f"condition and trace    {make_log_joint(scale)(DATA, 8.5):.4f}")
    print(f"context managers       {make_log_joint_2(scale)(DATA, 8.5):.4f}")
    with LogJointMessenger(cond_data=DATA) as m:
        cp.run(scale, 8.5)
        print(f"a Messenger, with      {m.logp:.4f}")
    print(f"a Messenger, called    {cp.run(LogJointMessenger(cond_data=DATA)(scale), 8.5):.4f}")
    print(f"a function for both    {cp.run(log_joint(scale, cond_data=DATA), 8.5):.4f}")
    with LogJointMessenger2(cond_data=DATA) as m:
        cp.run(scale, 8.5)
        print(f"on the way down        {m.logp:.4f}")

    title("The stack, there and back")
    print(*both_ways(), sep=", ")

    title("A message as it is born")
    for key, value in first_message().items():
        print(f"{key:17} {value!r}")

    title("Variational inference: the posterior of weight is Normal(9.14, 0.60)")
    cp.clear_param_store()
    torch.manual_seed(0)
    optimizer = cp.optim.ClippedAdam({"lr": 0.05, "lrd": 0.993})
    train(scale, scale_guide, [{"measurement": 9.5}] * 700, optimizer, 8.5)
    loc, spread = (cp.get_param_store()[name].item() for name in ("loc", "spread"))
    print(f"learned: Normal({loc:.2f}, {spread:.2f})")

    title("Exact inference: a + b of two coins, 0.3 and 0.6, when Normal(a + b, 1) came out at 1.5")
    marginal = sequential_discrete_marginal(two_coins, {"y": 1.5})
    exact = cp.infer.enumerate(poutine.condition(two_coins, data={"y": 1.5}))().marginal()
    for total in (0.0, 1.0, 2.0):
        p = marginal.log_prob(torch.tensor(total)).exp()
        print(f"{total:.0f}: {p:.6f} by queue, {exact[torch.tensor(total)]:.6f} by enumerate")

    title("Lazy evaluation")
    with LazyMessenger():
        v = cp.run(biased_scale, 8.5)
    print(v)
    torch.manual_seed(0)
    print(f"evaluated: {v.evaluate():.4f}")


if __name__ == "__main__":
    main()
