"""From a plain model to the answers of its state graph: nothing in between is made by hand."""

from __future__ import annotations

import math

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.core.native import native
from contpoutine.infer.state_graph import CHOICE
from tests.graphs.drawn import DATA, FIRST, NEXT, SEEN, markov_answers

pytestmark = [
    pytest.mark.skipif(native is None, reason="merging needs the extension"),
    pytest.mark.clones("replay has no states to merge, and these models do not end"),
]

STEP = [dist.Finite(dict(enumerate(row))) for row in (*NEXT, FIRST)]
SYMBOL = [dist.Finite(dict(enumerate(row))) for row in SEEN]


def hidden_markov(steps):
    state = -1
    for t in range(steps):
        state = yield cp.sample("z", STEP[state])
        yield cp.sample("y", SYMBOL[state], obs=DATA[t % len(DATA)])
    return state


def merged(model, *args):
    return cp.infer.enumerate(model, merge=True)(*args)


@pytest.mark.parametrize("steps", [1, 50, 1000])
def test_a_loop_over_hidden_states_agrees_with_forward_backward(steps) -> None:
    evidence, single, pairs = markov_answers(steps)
    p = merged(hidden_markov, steps)
    assert abs(p.log_evidence - evidence) < 1e-10
    for t in range(steps):
        marginal = p.marginal("z", occurrence=t)
        assert max(abs(marginal[z] - float(single[t, z])) for z in range(3)) < 1e-10
    if steps > 1:
        joint = p.joint(("z", 0), ("z", 1))
        assert all(
            abs(joint[a, b] - float(pairs[0, a, b])) < 1e-10 for a in range(3) for b in range(3)
        )
    assert p.executions == 3**steps


def test_gamblers_ruin_on_two_hundred_states() -> None:
    def ruin(n, x, p):
        while 0 < x < n:
            x += 1 if (yield cp.sample("up", dist.Flip(p))) else -1
        return x == n

    for p, start in ((0.5, 50), (0.4, 190)):
        r = (1 - p) / p
        exact = (
            start / 200
            if p == 0.5
            else math.expm1(start * math.log(r)) / math.expm1(200 * math.log(r))
        )
        posterior = merged(ruin, 200, start, p)
        assert abs(posterior.marginal()[True] - exact) < 1e-12
        assert posterior.limit.residual < 1e-14 and "exact in the limit" in repr(posterior)


def test_recursions_need_no_budget() -> None:
    def geometric():
        if (yield cp.sample("stop", dist.Flip(0.25))):
            return 0
        return ((yield geometric()) + 1) % 5

    p = merged(geometric)
    for k in range(5):
        assert p.marginal()[k] == pytest.approx(0.25 * 0.75**k / (1 - 0.75**5), rel=1e-12)

    def sentence(split):
        if (yield cp.sample("split", dist.Flip(split))):
            yield sentence(split)
            yield sentence(split)

    for split in (0.4, 0.6):
        p = merged(sentence, split)
        ends = min(1.0, (1 - split) / split)
        assert math.exp(p.log_evidence) == pytest.approx(ends, rel=1e-12)
        assert p.endless_mass == pytest.approx(1 - ends, abs=1e-12)


def test_a_budget_gives_bounds_that_tighten_around_the_answer() -> None:
    exact = merged(hidden_markov, 6).marginal()
    search = cp.infer.enumerate(hidden_markov, merge=True, order="likely_first", max_executions=2)
    p, width = search(6), 1.0
    for _ in range(6):
        bounds = {value: (low, high) for value, low, high in p.bounds()}
        assert all(low - 1e-12 <= exact[v] <= high + 1e-12 for v, (low, high) in bounds.items())
        wider, width = width, max(high - low for low, high in bounds.values())
        assert width <= wider + 1e-12
        if p.complete:
            break
        p = cp.infer.refine(p, max_executions=2)
    assert width < 0.5


def test_gradients_of_a_model_with_torch_parameters() -> None:
    up = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    table = torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=torch.float64, requires_grad=True)

    def model():
        z = 0
        for t in range(4):
            z = int((yield cp.sample(f"z{t}", dist.Categorical(table[z]))))
            yield cp.sample(f"y{t}", dist.Bernoulli(up if z else 1 - up), obs=torch.tensor(1.0))
        return z

    mine = merged(model).log_evidence_tensor()
    forward = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for _ in range(4):
        forward = (forward @ (table / table.sum(-1, keepdim=True))) * torch.stack([1 - up, up])
    exact = forward.sum().log()
    assert mine.item() == pytest.approx(exact.item(), rel=1e-6)
    for a, b in zip(
        torch.autograd.grad(mine, [up, table]), torch.autograd.grad(exact, [up, table])
    ):
        assert torch.allclose(a, b, rtol=1e-6)


def test_the_picture_of_a_model_shows_its_lines_and_live_values() -> None:
    p = merged(hidden_markov, 5)
    boxes = cp.viz.draw_states(p).picture.boxes
    choices = [box for box in boxes if box.kind == CHOICE]
    assert len(choices) == 13 and len(boxes) == 16
    assert all(box.lines[0].startswith('state = yield cp.sample("z"') for box in choices)
    assert {"t=0", "z=0, t=3", "z=1, t=3", "z=2, t=3"} <= {box.lines[1] for box in choices}
    assert cp.viz.to_networkx(p).number_of_nodes() == len(p.graph)
