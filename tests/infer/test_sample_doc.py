"""The docstring of `cp.sample`, which lives in C, where doctest does not look."""

from __future__ import annotations

import doctest

import pytest

import contpoutine as cp
from contpoutine.core.native import native


@pytest.mark.skipif(native is None, reason="the text is in C")
def test_the_example_of_sample_runs():
    (example,) = doctest.DocTestFinder().find(cp.sample, "sample", globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.skipif(native is None, reason="the text is in C")
def test_help_shows_the_signature():
    assert cp.sample.__text_signature__ is not None
    assert cp.sample.__doc__.startswith("A request to draw")
