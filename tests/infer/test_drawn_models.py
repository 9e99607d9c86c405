"""Enumeration on drawn models: every execution that runs from the start find, and no other."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import contpoutine as cp
from contpoutine.testing import likeness, models
from contpoutine.testing.fork_law import support
from contpoutine.testing.reference import Questions, Reference

EXAMPLES = max(20, int(os.environ.get("LAWS", "2000")) // 20)


def by_brute_force(model):
    """(the answers, what is returned) of each execution, or None where one raises."""
    reference = Reference(model, (), Questions("sample", support, ()))
    found, todo = Counter(), [((), ())]
    while todo:
        path, given = todo.pop()
        outcome = reference[path]
        if outcome.kind == "raised":
            return None
        if outcome.ended:
            found[given, outcome.text] += 1
        for place, answer in enumerate(outcome.answers):
            todo.append(((*path, place), (*given, answer)))
    return found


@given(
    models(fuel=4),
    st.sampled_from(("depth_first", "breadth_first", "likely_first")),
    st.sampled_from(("auto", "auto", "replay")),
)
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
def test_enumeration_finds_the_executions_of_a_drawn_model(model, order, capture):
    expected = by_brute_force(model)
    assume(expected is not None)
    posterior = cp.infer.enumerate(model, order=order, capture=capture)()
    found = Counter(
        (tuple(value for _, value in execution.choices), likeness(execution.value))
        for execution in posterior.most_probable(int(posterior.executions))
    )
    assert found == expected
    assert posterior.log_evidence == pytest.approx(0.0, abs=1e-9)
