"""The rows about merging ask one question: their answers agree, and who is absent is left out."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.merging import __main__ as command
from benchmarks.merging import chains, flippy, hyperbole, overhead, question, recursion, tensors
from benchmarks.merging.question import Answer, Question
from benchmarks.runner import Disagreement, Timing, agree

PEERS = {"pyro"} | ({"flippy"} if flippy.missing() is None else set())
SMALL = [
    chains.hidden_question(12),
    chains.marginals_question(12),
    recursion.words_question(3),
    recursion.capped_question(6),
    chains.flips_question(9),
    chains.ruin_question(50, 0.5),
    chains.ruin_question(195, 0.45),
    recursion.waiting_question(),
    tensors.question(5),
    overhead.network_question("Asia"),
    overhead.network_question("sprinkler"),
    overhead.words_question(5),
]


def together(asked: Question) -> None:
    (kept,) = command.among([asked], PEERS)
    rows = [entry.row for entry in kept.entries]
    assert len(rows) >= 2
    agree(kept, rows, [row.run(1)[0] for row in rows])


@pytest.mark.clones("loops without end take minutes by replay")
@pytest.mark.parametrize("asked", SMALL, ids=[asked.label for asked in SMALL])
def test_all_rows_of_a_question_agree(asked: Question) -> None:
    together(asked)


@pytest.mark.clones("hundreds of queries, each by replay")
def test_the_nested_listeners_agree_with_a_search_by_pyros_queue() -> None:
    together(hyperbole.question())


def test_a_wrong_row_ends_the_run_before_any_time_is_taken() -> None:
    right = question.by_hand("right", lambda: {0: 0.5, 1: 0.5})
    wrong = question.by_hand("wrong", lambda: {0: 0.4, 1: 0.6})
    with pytest.raises(Disagreement, match="coin: p.*by right.*by wrong; no times are given"):
        question.run([Question("coin", (right, wrong))], rounds=1)


def test_a_peer_that_is_absent_is_left_out_of_its_questions() -> None:
    (kept,) = command.among([chains.hidden_question(50)], set())
    assert {entry.peer for entry in kept.entries} == {question.OURS, question.HAND}


@pytest.mark.parametrize("quick", [True, False])
def test_every_question_begins_with_contpoutine_and_has_another_answer(quick: bool) -> None:
    for asked in command.questions(quick):
        assert asked.entries[0].peer == question.OURS
        assert len(asked.entries) >= 2


def test_the_tables_are_markdown() -> None:
    asked = chains.marginals_question(3, short=True)
    timings = (Timing("merged", (0.02, 0.01, 0.03), 1.0), Timing("by tables", (2.0,), 100.0))
    printed = command.table(command.HEADER, command.rows([Answer(asked, timings)]), {2, 3})
    assert "| hidden Markov, T=3, all states | contpoutine, merged | 20.0 ms |  1.00 |" in printed
    assert "|                                | by tables (one run) |  2.00 s |   100 |" in printed
    short = command.short([Answer(asked, timings)])
    assert "|     20.0 ms | by tables 2.00 s |" in short


def test_the_command_names_who_is_absent_and_writes_its_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "merging.json"
    monkeypatch.setattr(command, "questions", lambda quick: [recursion.words_question(2)])
    monkeypatch.setattr(command, "PEERS", {"flippy": lambda: "it is not installed"})
    monkeypatch.setattr(command.gc, "freeze", lambda: None)
    arguments = ["merging", "--quick", "--rounds", "1", "--json", str(written)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert command.main() == 0
    assert "flippy was not there: it is not installed" in capsys.readouterr().out
    content = json.loads(written.read_text())
    assert content["absent"] == {"flippy": "it is not installed"}
    assert [s["name"] for s in content["questions"][0]["systems"]] == [
        "merged",
        "recursion over tables",
    ]
