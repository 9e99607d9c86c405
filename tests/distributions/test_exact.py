"""Float64 log-probabilities against torch in float64 and against arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contpoutine.distributions.exact import (
    categories_from_logits,
    categories_from_probs,
    coin_from_logit,
    coin_from_prob,
    log_sum_exp,
    softplus,
)

logits = st.floats(-700, 700)


@given(st.floats(1e-10, 1 - 1e-10))
def test_a_coin_agrees_with_torch_in_float64(p) -> None:
    d = torch.distributions.Bernoulli(torch.tensor(p, dtype=torch.float64))
    expected = d.log_prob(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    assert coin_from_prob(p) == pytest.approx(tuple(expected), rel=1e-9, abs=1e-14)


@given(logits)
def test_a_coin_from_a_logit_agrees_with_torch_in_float64(x) -> None:
    d = torch.distributions.Bernoulli(logits=torch.tensor(x, dtype=torch.float64))
    expected = d.log_prob(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    assert coin_from_logit(x) == pytest.approx(tuple(expected), rel=1e-12, abs=1e-14)


@given(st.lists(logits, min_size=1, max_size=6))
def test_categories_from_logits_agree_with_torch(row) -> None:
    expected = torch.tensor(row, dtype=torch.float64).log_softmax(-1).tolist()
    assert categories_from_logits(row) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert log_sum_exp(categories_from_logits(row)) == pytest.approx(0.0, abs=1e-12)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6).filter(lambda row: sum(row) > 1e-300))
def test_categories_from_probs_are_normalised(row) -> None:
    log_probs = categories_from_probs(row)
    assert math.fsum(map(math.exp, log_probs)) == pytest.approx(1.0, abs=1e-12)
    assert all((x == -math.inf) == (p == 0) for x, p in zip(log_probs, row, strict=True))


def test_certainty_is_exact() -> None:
    assert coin_from_prob(0.0) == (0.0, -math.inf)
    assert coin_from_prob(1.0) == (-math.inf, 0.0)
    assert coin_from_logit(math.inf) == (-math.inf, 0.0)
    assert coin_from_logit(-math.inf) == (0.0, -math.inf)
    assert categories_from_probs([0.0, 2.0]) == (-math.inf, 0.0)
    assert categories_from_logits([-math.inf, 5.0]) == (-math.inf, 0.0)


def test_what_is_no_probability_gives_nan() -> None:
    for p in (-0.1, 1.1, math.nan):
        assert all(map(math.isnan, coin_from_prob(p)))
    for row in ([0.0, 0.0], [-1.0, 2.0], [math.nan, 1.0], [math.inf, 1.0]):
        assert all(map(math.isnan, categories_from_probs(row)))
    for row in ([-math.inf, -math.inf], [math.inf, 0.0], [0.0, math.nan], [math.nan, 0.0]):
        assert any(map(math.isnan, categories_from_logits(row)))


def test_extreme_sums_do_not_overflow() -> None:
    assert softplus(1000.0) == 1000.0 and softplus(-1000.0) == 0.0
    assert log_sum_exp([1000.0, 1000.0]) == pytest.approx(1000 + math.log(2))
    assert log_sum_exp([]) == -math.inf == log_sum_exp([-math.inf])
