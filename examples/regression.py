"""Bayesian linear regression: fitted by SVI, and held against the exact posterior.

How much ice cream does a kiosk sell, for each degree above a mild day? The guide is a family of
independent normals, and SVI looks for its best member. This model is one of those that
`poutine.delayed` solves in closed form, so we can see how close it came; most models are not.
"""

import torch
from torch.distributions import constraints

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine

DEGREES = [-6.0, -4.0, -3.0, -1.0, 0.0, 2.0, 3.0, 4.0, 5.0]
SOLD = [11.0, 18.0, 17.0, 27.0, 31.0, 38.0, 45.0, 43.0, 53.0]


def sales(degrees, sold):
    slope = yield cp.sample("slope", dist.Normal(0.0, 10.0))
    usual = yield cp.sample("usual", dist.Normal(30.0, 10.0))
    for i, (x, y) in enumerate(zip(degrees, sold, strict=True)):
        yield cp.observe(f"day {i}", dist.Normal(slope * x + usual, 2.0), y)
    return (yield poutine.posterior(slope)), (yield poutine.posterior(usual))


def guide(degrees, sold):
    for name, start in (("slope", 0.0), ("usual", 30.0)):
        loc = yield cp.param(f"{name} loc", torch.tensor(start))
        scale = yield cp.param(f"{name} scale", torch.tensor(1.0), constraint=constraints.positive)
        yield cp.sample(name, dist.Normal(loc, scale))


def main():
    exact = poutine.trace(poutine.delayed(sales)).get_trace(DEGREES, SOLD)
    slope, usual = exact.nodes["_RETURN"]["value"]

    cp.clear_param_store()
    torch.manual_seed(0)
    optimizer = cp.optim.ClippedAdam({"lr": 0.2, "lrd": 0.985})
    svi = cp.infer.SVI(sales, guide, optimizer, cp.infer.Trace_ELBO())
    print(" step    loss")
    for step in range(401):
        loss = svi.step(DEGREES, SOLD)
        if step % 100 == 0:
            print(f"{step:5} {loss:7.2f}")

    learned = cp.get_param_store()
    print("        exact            by SVI")
    for name, posterior in (("slope", slope), ("usual", usual)):
        loc, scale = learned[f"{name} loc"].item(), learned[f"{name} scale"].item()
        print(f"{name}  {posterior.loc:6.2f} ± {posterior.scale:.2f}    {loc:6.2f} ± {scale:.2f}")
    print(f"minus log evidence, which no loss goes below on average: {-exact.log_prob_sum():.2f}")


if __name__ == "__main__":
    main()
