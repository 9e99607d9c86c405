"""Lazy evaluation: a handler turns values into recipes, and only what is needed is ever drawn.

Pyro's tutorial ends with a `LazyMessenger`: under it a model computes an expression in place of a
value. Here it composes with tracing and conditioning, and then with enumeration, where laziness
pays: a choice that nobody looks at is not made, so the execution tree loses whole dimensions.
"""

import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine


class LazyValue:
    """A recipe: call `fn` with these arguments, which may be recipes themselves."""

    def __init__(self, fn, *args, **kwargs):
        self.fn, self.args, self.kwargs = fn, args, kwargs
        self.site = None  # the name of the sample site that it stands for, if any
        self.done, self.value = False, None

    def __str__(self):
        if self.site is not None and not isinstance(self.fn, LazyValue):
            return self.site
        name = getattr(self.fn, "__name__", None) or str(self.fn)
        given = ", ".join(map(str, self.args))
        return f"~{name}" if self.site is not None else f"{name}({given})"


class LazyMessenger(cp.Messenger):
    """Gives recipes in place of the values of sample sites and of `apply` operations."""

    def _process_message(self, msg):
        wanted_now = msg["infer"].get("lazy") is False
        decided = msg["done"] or msg["is_observed"] or msg["value"] is not None
        if msg["type"] in ("apply", "sample") and not decided and not wanted_now:
            recipe = LazyValue(msg["fn"], *msg["args"], **msg["kwargs"])
            recipe.site = msg["name"] if msg["type"] == "sample" else None
            msg["value"], msg["done"], msg["stop"] = recipe, True, True


def force(x):
    """Follow a recipe, once: its sample sites are performed now. Write `x = yield force(x)`."""
    if not isinstance(x, LazyValue):
        return x
    if not x.done:
        fn = yield from force(x.fn)
        args = []
        for arg in x.args:
            args.append((yield from force(arg)))
        if x.site is None:
            x.value = fn(*args, **x.kwargs)
        else:
            x.value = yield cp.sample(x.site, fn, *args, infer={"lazy": False}, **x.kwargs)
        x.done = True
    return x.value


def operation(fn):
    """An ordinary function that `LazyMessenger` can put off."""
    return cp.effectful(fn, type="apply")


@operation
def add(x, y):
    return x + y


@operation
def mul(x, y):
    return x * y


@operation
def sigmoid(x):
    return torch.sigmoid(torch.as_tensor(x))


@operation
def normal(loc, scale):
    return dist.Normal(loc, scale)


def biased_scale(guess):
    weight = yield cp.sample("weight", (yield normal(guess, 1.0)))
    tolerance = yield cp.sample("tolerance", (yield normal(0.0, 0.25)))
    shown = yield add((yield mul(weight, 0.8)), 1.0)
    return (yield cp.sample("measurement", (yield normal(shown, (yield sigmoid(tolerance))))))


def settled(trace):
    """The trace with the recipes in it followed, so that it can be weighed."""
    for node in trace.nodes.values():
        if node["type"] == "sample":
            node["fn"], node["value"] = cp.run(force, node["fn"]), cp.run(force, node["value"])
    return trace


# --- Choices that nobody looks at.


def corridor(length):
    """Doors, open or shut. How many can we pass, and where do we stand when one is locked?

    Every door is drawn before the walk begins, as one writes such a model; but the walk looks at a
    door only when it stands in front of it.
    """
    doors = []
    for i in range(length):
        doors.append((yield cp.sample(f"door{i}", dist.Flip(0.75))))
    for i, door in enumerate(doors):
        if not (yield force(door)):
            return i
    return length


def main():
    with LazyMessenger():
        recipe = cp.run(biased_scale, 8.5)
    print("recipe:   ", recipe.fn)
    with poutine.trace() as drawn:
        cp.run(force, recipe)
    print("drawn:    ", ", ".join(drawn.trace.stochastic_nodes))

    data = {"weight": 8.23, "tolerance": 0.1, "measurement": 9.5}
    with poutine.trace() as observed, LazyMessenger():
        cp.run(poutine.condition(biased_scale, data=data), 8.5)
    print("observed: ", observed.trace.nodes["measurement"]["fn"])
    print(f"log-joint: {settled(observed.trace).log_prob_sum():.4f}")

    eager = cp.infer.enumerate(corridor)(12)
    lazy = cp.infer.enumerate(LazyMessenger()(corridor))(12)
    for name, found in (("eager", eager), ("lazy", lazy)):
        mean = found.marginal().mean
        print(f"{name}: {found.branches:,} branches, {mean:.6f} doors passed on average")


if __name__ == "__main__":
    main()
