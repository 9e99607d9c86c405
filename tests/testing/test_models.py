"""What `models()` draws are models that run, end, ask and use what they should."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

import contpoutine as cp
from contpoutine.errors import ContpoutineError
from contpoutine.testing import DrawnModel, assert_fork_law, models

some = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@given(models())
@some
def test_drawn_models_with_sample_sites_keep_the_law(model):
    ended = assert_fork_law(model, orders=2, times=1)
    assert all(outcome.kind in ("returned", "raised") for outcome in ended.values())


@given(models())
@some
def test_a_drawn_model_can_be_read_and_run(model):
    assert isinstance(model, DrawnModel)
    ast.parse(model.source)
    assert model.source in repr(model)
    try:
        cp.run(model)
    except ContpoutineError:
        raise  # it asks for nothing that is refused
    except Exception:
        pass  # the model's own


CONSTRUCTS = [
    r"for x in ", r"while ", r"if .*yield", r"try:", r"finally:", r"except\*", r"with h:",
    r"with managed", r"yield sub", r"yield from sub", r"match ", r"lambda", r"itertools\.",
    r"Thing\(", r"Record\(", r"Slotted\(", r"deque\(", r"defaultdict\(", r"nonlocal",
    r"(x|y|\]) for [xy] in", r"gen\(", r"\.append\(.*yield", r"f'\{.*yield", r"xs\[-1\] \+= .*yield",
]  # fmt: skip


def test_each_construct_is_drawn():
    met: Counter[str] = Counter()

    @given(models("choose"))
    @settings(max_examples=300, database=None, derandomize=True, phases=[Phase.generate])
    def draw(model):
        met.update(construct for construct in CONSTRUCTS if re.search(construct, model.source))

    draw()
    assert {construct for construct in CONSTRUCTS if not met[construct]} == set()


def test_the_type_of_the_sites_is_checked():
    with pytest.raises(ValueError, match="sample or choose"):
        models("flip")
