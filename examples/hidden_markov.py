"""A hidden Markov model: what was the weather, if all that we have is a diary of ice creams?

The model is a loop, and enumeration forks it at each day's weather, so the answer is exact. With
`merge=True`, executions that stand at the same place with the same weather go on as one: they have
one future. That is the forward algorithm, found by the engine in a plain loop; written by hand
beside it, it gives the same number.
"""

import math

import contpoutine as cp
import contpoutine.distributions as dist

START = {"hot": 0.5, "cold": 0.5}
NEXT = {"hot": {"hot": 0.7, "cold": 0.3}, "cold": {"hot": 0.4, "cold": 0.6}}
EATEN = {"hot": {1: 0.2, 2: 0.4, 3: 0.4}, "cold": {1: 0.5, 2: 0.4, 3: 0.1}}


def weather(diary):
    today = yield cp.sample("day 1", dist.Finite(START))
    for number, cones in enumerate(diary, start=1):
        yield cp.observe(f"cones {number}", dist.Finite(EATEN[today]), cones)
        if number < len(diary):
            today = yield cp.sample(f"day {number + 1}", dist.Finite(NEXT[today]))
    return today


def log_evidence_by_hand(diary):
    alpha = {today: START[today] * EATEN[today][diary[0]] for today in START}
    for cones in diary[1:]:
        alpha = {
            today: EATEN[today][cones] * sum(alpha[before] * NEXT[before][today] for before in NEXT)
            for today in NEXT
        }
    return math.log(sum(alpha.values()))


def main():
    diary = [3, 1, 3, 3, 1, 1, 2, 1]
    posterior = cp.infer.enumerate(weather)(diary)
    print("day  cones  p(hot)")
    for number, cones in enumerate(diary, start=1):
        hot = posterior.marginal(f"day {number}")["hot"]
        print(f"{number:3}  {'o' * cones:5}  {hot:.4f} {'#' * round(20 * hot)}")
    best = posterior.most_probable(1)[0]
    days = " ".join(day for _, day in best.choices)
    print(f"most probable: {days} ({best.probability:.4f})")
    print(f"log evidence: {posterior.log_evidence:.10f} in {posterior.branches} branches")
    print(f"by hand:      {log_evidence_by_hand(diary):.10f}")

    months = diary * 12
    merged = cp.infer.enumerate(weather, merge=True)(months)
    print(
        f"{len(months)} days:      {merged.log_evidence:.10f} in {merged.branches} branches, merged"
    )
    print(f"by hand:      {log_evidence_by_hand(months):.10f}")
    print(f"hot on day 2 of {len(months)}: {merged.marginal('day 2')['hot']:.4f}")


if __name__ == "__main__":
    main()
