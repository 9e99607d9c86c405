"""What is taken as a model, and what the refusal of anything else says."""

from __future__ import annotations

import pytest

import contpoutine as cp
from contpoutine.errors import NotAModelError


def model():
    return 1
    yield


def test_a_function_that_does_not_yield_is_told_to() -> None:
    def pyro_style():
        return 3

    with pytest.raises(NotAModelError, match=r"gave 3.*`x = yield cp.sample\(...\)`") as caught:
        cp.run(pyro_style)
    assert "pyro_style" in str(caught.value) and __file__ in str(caught.value)
    assert "contpoutine.compat.pyro.sample" in str(caught.value)


def test_a_generator_in_place_of_its_function_is_named() -> None:
    with pytest.raises(NotAModelError, match="pass the function, not what calling it gave"):
        cp.run(model())
