"""The benchmark compares like with like: same posteriors, honest counts, a table one can read."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.case import Case, Model, Row
from benchmarks.models import MODELS, cases
from benchmarks.picture import LABEL_GAP, apart
from benchmarks.runner import Disagreement, Result, Timing, agree, paired_ratio
from benchmarks.systems import bare_replay, contpoutine, hand_recursion, pyro_queue
from benchmarks.systems.bare_replay import Census, searched
from benchmarks.table import duration, table

IN_THIS_PROCESS = (contpoutine.ROOM, bare_replay.ROOM, hand_recursion.ROOM, pyro_queue.ROOM)
SIZES = {"flips": (3,), "hmm": (3,), "pcfg": (2,), "chain": (4,), "prefix": (2,)}
BUDGETS = {"geometric": 1000, "nested": 1000}
NAMES = [model.name for model in MODELS]


def small(model: Model) -> Case:
    budget = BUDGETS.get(model.name)
    order = "likely_first" if budget else "depth_first"
    return Case(
        model,
        SIZES.get(model.name, ()),
        order=order,
        max_executions=budget,
        pyro=model.name != "dice",
        replay=budget is None,
        variants=True,
    )


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_every_system_gives_the_same_posterior(model: Model) -> None:
    case = small(model)
    rows = [row for room in IN_THIS_PROCESS for row in room.rows(case)]
    assert len(rows) >= 3
    agree(case, rows, [row.run(1)[0] for row in rows])


@pytest.mark.parametrize(
    ("name", "size", "leaves", "branches"),
    [
        ("flips", (4,), 16, 30),
        ("hmm", (3,), 27, 39),
        ("pcfg", (4,), 677, 1352),
        ("dice", (), 7776, 9330),
        ("chain", (10,), 11, 20),
        ("sprinkler", (), 3, 6),
        ("asia", (), 32, 62),
    ],
)
def test_leaves_and_branches_are_counted(
    name: str, size: tuple[int, ...], leaves: int, branches: int
) -> None:
    model = MODELS[NAMES.index(name)]
    assert searched(Case(model, size))[1] == Census(leaves, branches)


def test_a_disagreement_names_the_case_the_value_and_both_systems() -> None:
    case = Case(MODELS[0], (3,))
    rows = [Row("one", lambda times: ({}, 0.0)), Row("another", lambda times: ({}, 0.0))]
    with pytest.raises(Disagreement, match=r"3 flips: p\(0\) is 0\.5 by one and 0\.4 by another"):
        agree(case, rows, [{0: 0.5, 1: 0.5}, {0: 0.4, 1: 0.6}])


def test_a_value_that_one_system_lacks_is_a_disagreement() -> None:
    rows = [Row("one", lambda times: ({}, 0.0)), Row("another", lambda times: ({}, 0.0))]
    with pytest.raises(Disagreement):
        agree(Case(MODELS[0], (3,)), rows, [{0: 1.0}, {0: 1.0, 1: 1e-3}])


def test_ratios_are_paired_by_round() -> None:
    assert paired_ratio([2.0, 40.0, 6.0], [1.0, 20.0, 2.0]) == 2.0
    assert paired_ratio([9.0], [1.0, 3.0, 5.0]) == 3.0


def test_the_full_form_has_the_models_and_sizes_that_are_published() -> None:
    labels = {case.label for case in cases(quick=False)}
    assert {"16 flips", "hidden Markov, T=10", "PCFG, depth 5", "five dice", "Asia"} <= labels
    assert {case.model.name for case in cases(quick=True)} == set(NAMES)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0583, "58.3 ms"), (9.8, "9.80 s"), (4.4e-7, "0.44 µs"), (0.9999, "1.00 s"), (120, "120 s")],
)
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_table_is_markdown_and_marks_what_was_run_once() -> None:
    timings = (Timing("contpoutine clone", (0.02, 0.01, 0.03), 1.0), Timing("slow", (9.8,), 490.0))
    text = table([Result(Case(MODELS[0], (12,)), Census(4096, 8190), timings)])
    assert "**12 flips** (4,096 leaves, 8,190 branches)" in text
    assert "| contpoutine clone | 20.0 ms |        2.44 |  1.00 |" in text
    assert "| slow (one run)    |  9.80 s |       1,197 |   490 |" in text


def test_labels_keep_their_order_and_a_gap() -> None:
    placed = apart([(0.10, "a"), (0.50, "b"), (0.51, "c"), (0.52, "d")])
    heights = [height for height, _ in placed]
    assert [name for _, name in placed] == ["a", "b", "c", "d"]
    assert heights[0] == 0.10
    assert all(b - a > 0.999 * LABEL_GAP for a, b in pairwise(heights))
    assert heights[2] == pytest.approx(0.51)
