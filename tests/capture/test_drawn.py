"""The law, on drawn models: clone, replay and runs from the start agree in any order."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contpoutine.testing import models
from contpoutine.testing.fork_law import arguments, hold
from contpoutine.testing.reference import Questions, Reference
from contpoutine.testing.resumption import in_orders
from tests.capture.law import NATIVE

EXAMPLES = int(os.environ.get("LAWS", "2000"))
STRATEGIES = ("auto", "clone", "replay") if NATIVE else ("auto", "replay")
ORDERS = in_orders(8)

drawing = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@given(
    models("choose", fuel=3), st.sampled_from(ORDERS), st.sampled_from((False, False, False, True))
)
@drawing
def test_a_drawn_model_keeps_the_law(model, order, throws):
    questions = Questions("choose", arguments, (ValueError,) if throws else ())
    reference = Reference(model, (), questions)
    hold(reference, STRATEGIES[len(model.source) % len(STRATEGIES)], order)
