"""Parameters read as plain numbers: what is refused, and in which words."""

from __future__ import annotations

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.core.message import pure_sample
from contpoutine.distributions.numbers import plain_number
from contpoutine.errors import DistributionError, UnperformedEffectError


@pytest.mark.parametrize("sample", [cp.sample, pure_sample], ids=["installed", "python"])
@pytest.mark.parametrize(
    "build",
    [
        dist.Flip,
        lambda request: dist.Finite({"a": request, "b": 0.5}),
        lambda request: dist.Finite.from_weights({"a": request}),
        lambda request: dist.RandInt(request),
        lambda request: dist.RandInt(request, 3),
        dist.UniformDraw,
        dist.Bernoulli,
        dist.Categorical,
        lambda request: dist.Normal(request, 1.0),
    ],
)
def test_a_request_in_place_of_a_parameter_is_a_forgotten_yield(sample, build) -> None:
    request = sample("x", dist.Flip(0.5))
    with pytest.raises(UnperformedEffectError, match=r"x = yield sample\('x', ...\)"):
        build(request)


@pytest.mark.parametrize("value", ["0.5", b"1", [0.5], None, object()])
def test_what_is_no_number_is_refused_with_its_type(value) -> None:
    with pytest.raises(DistributionError, match=f"one number.*{type(value).__name__}"):
        plain_number(value, "Flip(p)")
