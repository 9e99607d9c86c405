"""The small models of examples/ print what brute force and closed forms say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch

import contpoutine as cp
from tests.capture.law import WORKING, strategy
from tests.examples.conftest import load


@pytest.fixture(params=WORKING)
def capture(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test under each capture strategy."""
    with strategy(request.param):
        yield request.param


# --- coin


def test_the_coin_is_as_biased_as_the_sum_over_the_grid_says(capture):
    coin = load("coin")
    falls = [letter == "h" for letter in "hhthhhthhh"]
    posterior = cp.infer.enumerate(coin.coin, capture=capture)(falls)
    weights = {p: p**8 * (1 - p) ** 2 / 19 for p in coin.BIASES}
    evidence = sum(weights.values())
    assert posterior.log_evidence == pytest.approx(math.log(evidence))
    mean = sum(p * weight for p, weight in weights.items()) / evidence
    assert posterior.marginal("bias").mean == pytest.approx(mean)
    assert posterior.marginal("next")[True] == pytest.approx(mean)


def test_the_coin_prints_its_posterior(printed):
    lines = printed("coin").splitlines()
    assert lines[0] == "Posterior (exact): 38 executions, 57 branches"
    assert lines[-2:] == [
        "after 8 heads of 10: bias 0.7499, most likely 0.8",
        "heads next: 0.7499",
    ]


# --- hidden Markov model


def brute_force(hmm, diary):
    """Weights of all paths, multiplied out."""
    paths = {}
    for path in itertools.product(hmm.START, repeat=len(diary)):
        weight = hmm.START[path[0]]
        for before, today in itertools.pairwise(path):
            weight *= hmm.NEXT[before][today]
        for today, cones in zip(path, diary):
            weight *= hmm.EATEN[today][cones]
        paths[path] = weight
    return paths


@pytest.mark.parametrize("merge", [False, True])
def test_the_weather_is_what_multiplying_out_all_paths_gives(capture, merge):
    hmm = load("hidden_markov")
    diary = [3, 1, 3, 3, 1, 1, 2]
    posterior = cp.infer.enumerate(hmm.weather, capture=capture, merge=merge)(diary)
    paths = brute_force(hmm, diary)
    evidence = sum(paths.values())
    assert posterior.log_evidence == pytest.approx(math.log(evidence), abs=1e-12)
    assert hmm.log_evidence_by_hand(diary) == pytest.approx(math.log(evidence), abs=1e-12)
    for place in range(len(diary)):
        hot = sum(weight for path, weight in paths.items() if path[place] == "hot") / evidence
        assert posterior.marginal(f"day {place + 1}")["hot"] == pytest.approx(hot)
    best = posterior.most_probable(1)[0]
    assert tuple(day for _, day in best.choices) == max(paths, key=paths.__getitem__)


def test_the_weather_prints_its_diary(printed):
    lines = printed("hidden_markov").splitlines()
    assert lines[1] == "  1  ooo    0.7732 ###############"
    assert lines[8] == "  8  o      0.3267 #######"
    assert lines[9:] == [
        "most probable: hot hot hot hot cold cold cold cold (0.0890)",
        "log evidence: -9.4345125289 in 510 branches",
        "by hand:      -9.4345125289",
        "96 days:      -113.2380329258 in 382 branches, merged",
        "by hand:      -113.2380329258",
        "hot on day 2 of 96: 0.5116",
    ]


# --- n queens


def safe(columns):
    pairs = itertools.combinations(enumerate(columns), 2)
    return all(a != b and abs(a - b) != j - i for (i, a), (j, b) in pairs)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_the_queens_are_those_of_trying_every_permutation(capture, n):
    queens = load("queens")
    expected = [list(p) for p in itertools.permutations(range(n)) if safe(p)]
    assert cp.run(cp.handle(queens.All(), queens.queens), n) == expected
    first = expected[0] if expected else None
    assert cp.run(cp.handle(queens.First(), queens.queens), n) == first
    assert cp.run(cp.handle(queens.Tally(), queens.queens), n)[0] == len(expected)


def test_the_queens_print_a_board(printed):
    lines = printed("queens").splitlines()
    columns = [line.split().index("Q") for line in lines[:8]]
    assert len(columns) == 8 and safe(columns)
    assert lines[8:] == [
        "four queens: [1, 3, 0, 2] [2, 0, 3, 1]",
        "4 queens: 2 solutions, 44 dead ends",
        "5 queens: 10 solutions, 167 dead ends",
        "6 queens: 4 solutions, 742 dead ends",
        "7 queens: 40 solutions, 3,033 dead ends",
    ]


# --- mixture


def test_the_mixture_is_the_sum_over_all_assignments(printed):
    mixture = load("mixture")
    times = torch.tensor(mixture.MINUTES, dtype=torch.float64)
    eye = torch.eye(len(times), dtype=torch.float64)
    weights, fast_means, slow_means = [], [], []
    assignments = list(itertools.product((True, False), repeat=len(times)))
    for assignment in assignments:
        fast = torch.tensor(assignment, dtype=torch.float64)
        slow = 1.0 - fast
        n = int(fast.sum())
        # Beta(2, 2) and its coins; two normal centres and their times
        log_weight = sum(map(math.lgamma, (2 + n, 2 + len(times) - n, 4)))
        log_weight -= math.lgamma(4 + len(times))
        mean = 40.0 * fast + 55.0 * slow
        cov = 25.0 * (torch.outer(fast, fast) + torch.outer(slow, slow)) + 4.0 * eye
        normal = torch.distributions.MultivariateNormal(mean, cov)
        weights.append(log_weight + float(normal.log_prob(times)))
        gain = torch.linalg.solve(cov, times - mean)
        fast_means.append(40.0 + 25.0 * float(fast @ gain))
        slow_means.append(55.0 + 25.0 * float(slow @ gain))
    log_weights = torch.tensor(weights, dtype=torch.float64)
    evidence = float(log_weights.logsumexp(0))
    probabilities = (log_weights - evidence).exp()

    lines = printed("mixture").splitlines()
    for i in range(len(times)):
        is_fast = torch.tensor([assignment[i] for assignment in assignments])
        assert lines[1 + i].split()[1] == f"{float(probabilities[is_fast].sum()):.4f}"
    best = int(probabilities.argmax())
    named = "".join("f" if x else "s" for x in assignments[best])
    assert lines[9] == (
        f"{named}: {float(probabilities[best]):.4f}, "
        f"around {fast_means[best]:.2f} and {slow_means[best]:.2f}"
    )
    fast = float(probabilities @ torch.tensor(fast_means, dtype=torch.float64))
    slow = float(probabilities @ torch.tensor(slow_means, dtype=torch.float64))
    assert lines[11] == f"centres: {fast:.4f} and {slow:.4f}; log evidence {evidence:.6f}"


# --- regression


def test_the_regression_comes_close_to_the_exact_posterior(printed):
    regression = load("regression")
    x = torch.tensor(regression.DEGREES, dtype=torch.float64)
    y = torch.tensor(regression.SOLD, dtype=torch.float64)
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    prior_mean = torch.tensor([0.0, 30.0], dtype=torch.float64)
    cov = torch.linalg.inv(torch.eye(2, dtype=torch.float64) / 100.0 + design.T @ design / 4.0)
    mean = cov @ (prior_mean / 100.0 + design.T @ y / 4.0)
    marginal = torch.distributions.MultivariateNormal(
        design @ prior_mean,
        100.0 * design @ design.T + 4.0 * torch.eye(len(x), dtype=torch.float64),
    )

    lines = printed("regression").splitlines()
    cp.clear_param_store()
    assert lines[-1].endswith(f" {-float(marginal.log_prob(y)):.2f}")
    for i, line in enumerate(lines[-3:-1]):
        _, exact_loc, _, exact_scale, loc, _, scale = line.split()
        assert exact_loc == f"{float(mean[i]):.2f}"
        assert exact_scale == f"{float(cov[i, i].sqrt()):.2f}"
        assert float(loc) == pytest.approx(float(mean[i]), abs=0.1)
        assert float(scale) == pytest.approx(float(cov[i, i].sqrt()), abs=0.1)
    losses = [float(line.split()[1]) for line in lines[1:6]]
    assert losses[0] > 80.0 and losses[-1] == pytest.approx(-float(marginal.log_prob(y)), abs=1.0)
