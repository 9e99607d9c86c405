"""A mixture: which of these finishing times belong together, and around which times?

Neither the share of the groups nor their centres are known. Enumeration goes through all 2^8
assignments of runners to groups, and `poutine.delayed` integrates the rest out in closed form, so
the answer is exact: no sampling, no variational family, no tuning.
"""

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine

MINUTES = [41.2, 42.0, 40.1, 52.3, 54.8, 43.5, 51.0, 47.2]


def groups(times):
    fast_share = yield cp.sample("share", dist.Beta(2.0, 2.0))
    fast = yield cp.sample("fast", dist.Normal(40.0, 5.0))
    slow = yield cp.sample("slow", dist.Normal(55.0, 5.0))
    is_fast = []
    for i, minutes in enumerate(times):
        is_fast.append((yield cp.sample(f"runner {i}", dist.Flip(fast_share))))
        centre = fast if is_fast[i] else slow
        yield cp.observe(f"time {i}", dist.Normal(centre, 2.0), minutes)
    centres = (yield poutine.posterior(fast)).mean, (yield poutine.posterior(slow)).mean
    return "".join("f" if x else "s" for x in is_fast), *(float(centre) for centre in centres)


def main():
    posterior = cp.infer.enumerate(poutine.delayed(groups))(MINUTES)
    print("minutes  p(fast)")
    for i, minutes in enumerate(MINUTES):
        p = posterior.marginal(f"runner {i}")[True]
        print(f"{minutes:7.1f}  {p:.4f} {'#' * round(20 * p)}")
    for best in posterior.most_probable(2):
        assignment, fast, slow = best.value
        print(f"{assignment}: {best.probability:.4f}, around {fast:.2f} and {slow:.2f}")
    marginal = posterior.marginal()
    fast = sum(p * value[1] for value, p in marginal.items())
    slow = sum(p * value[2] for value, p in marginal.items())
    print(f"centres: {fast:.4f} and {slow:.4f}; log evidence {posterior.log_evidence:.6f}")


if __name__ == "__main__":
    main()
