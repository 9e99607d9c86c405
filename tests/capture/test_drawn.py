"""The law, on drawn models: clone, replay and a run by hand agree in any order of resumption."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.capture.drawn import Drawn, models
from tests.capture.law import (
    NATIVE,
    Asked,
    Keeping,
    KeepingPlainly,
    all_paths,
    by_hand,
    by_machine,
    explore,
    strategy,
)

EXAMPLES = int(os.environ.get("LAWS", "500"))

drawing = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def check(drawn: Drawn, seed: int, name: str) -> None:
    run = by_machine if drawn.handlers else by_hand
    expected = all_paths(drawn.model, tuple, run, 600)
    handler = KeepingPlainly if seed % 2 else Keeping
    with strategy(name):
        ended = []
        for path, outcome in explore(drawn.model, (), random.Random(seed), handler):
            assert path in expected and outcome == expected[path], (
                f"{name}: path {path} ended in {outcome}, not in {expected.get(path)}"
            )
            ended.append(path)
        assert set(ended) == set(expected)


@given(models(), st.integers(0, 9))
@drawing
def test_a_drawn_model_keeps_the_law(drawn, seed):
    check(drawn, seed, "auto")


@given(models(), st.integers(0, 9))
@settings(drawing, max_examples=max(1, EXAMPLES // 4))
def test_a_drawn_model_keeps_the_law_by_replay(drawn, seed):
    check(drawn, seed, "replay")


@pytest.mark.skipif(not NATIVE, reason="about clones")
@given(models(), st.integers(0, 9))
@settings(drawing, max_examples=max(1, EXAMPLES // 2))
def test_a_drawn_model_is_cloned(drawn, seed):
    check(drawn, seed, "clone")


@given(models())
@settings(drawing, max_examples=20)
def test_drawn_models_do_ask_questions(drawn):
    outcome = (by_machine if drawn.handlers else by_hand)(drawn.model, (), [])
    assert isinstance(outcome, (Asked, str)) or "raised" in repr(outcome)
