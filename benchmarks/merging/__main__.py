"""`python -m benchmarks.merging`: ask, compare, time, print a table."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from .. import report
from ..runner import Disagreement, Timing, say
from ..systems import pyro_queue
from ..table import duration, three_digits
from . import chains, flippy, hyperbole, overhead, recursion, tensors, webppl
from .question import HAND, OURS, Answer, Question, run

HEADER = ("question", "system", "time", "ratio")
PEERS = {"flippy": flippy.missing, "webppl": webppl.missing, "pyro": pyro_queue.ROOM.missing}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.merging",
        description="Merging equal states: answers compared first, then times.",
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes, under a minute")
    parser.add_argument(
        "--peer",
        action="append",
        choices=PEERS,
        metavar="NAME",
        help=f"compare with these only: {', '.join(PEERS)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    parser.add_argument("--rounds", type=int, metavar="N", help="paired rounds (quick: 3, full: 7)")
    return parser.parse_args()


def questions(quick: bool) -> list[Question]:
    """All of them; the quick form leaves out what takes seconds."""
    return [
        chains.hidden_question(50, short=True),
        *([] if quick else [chains.hidden_question(1000, with_flippy=False)]),
        chains.marginals_question(200 if quick else 1000, short=True),
        *([] if quick else [chains.marginals_question(2000)]),
        recursion.words_question(4 if quick else 5, short=True),
        recursion.capped_question(8 if quick else 30, short=True),
        chains.flips_question(100, short=True),
        *([] if quick else [chains.flips_question(1000, with_flippy=False)]),
        chains.ruin_question(50, 0.5, short=True),
        chains.ruin_question(195, 0.45),
        recursion.waiting_question(),
        tensors.question(50, short=True),
        tensors.question(200),
        hyperbole.question(short=True),
        overhead.network_question("Asia"),
        overhead.network_question("sprinkler"),
        overhead.words_question(8 if quick else 12),
    ]


def among(asked: Sequence[Question], peers: set[str]) -> list[Question]:
    """The questions with the entries of these peers only."""
    kept = {OURS, HAND, *peers}
    return [
        dataclasses.replace(
            question, entries=tuple(entry for entry in question.entries if entry.peer in kept)
        )
        for question in asked
    ]


def rows(answers: Sequence[Answer]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for answer in answers:
        for entry, timing in zip(answer.question.entries, answer.timings, strict=True):
            mine = entry.peer == OURS
            once = " (one run)" if len(timing.seconds) == 1 else ""
            found.append(
                (
                    answer.question.label if entry is answer.question.entries[0] else "",
                    ("contpoutine, " if mine else "") + timing.system + once,
                    duration(timing.median),
                    ratio(timing),
                )
            )
    return found


def beside(answer: Answer) -> str:
    """The others of a question in one cell."""
    pairs = zip(answer.question.entries, answer.timings, strict=True)
    others: list[Timing] = [timing for entry, timing in pairs if entry.peer != OURS]
    return "; ".join(f"{timing.system} {duration(timing.median)}" for timing in others)


def table(header: tuple[str, ...], cells: Sequence[tuple[str, ...]], numbers: set[int]) -> str:
    """Markdown, with these columns to the right."""
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    rule = "|".join("-" * (w + 1) + (":" if i in numbers else "-") for i, w in enumerate(widths))

    def line(row: tuple[str, ...]) -> str:
        sides = [">" if i in numbers else "<" for i in range(len(row))]
        padded = map("{:{}{}}".format, row, sides, widths)
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(header), f"|{rule}|", *map(line, cells)])


def ratio(timing: Timing) -> str:
    return three_digits(timing.ratio) if timing.ratio >= 0.01 else "<0.01"


def short(answers: Sequence[Answer]) -> str:
    cells = [
        (answer.question.label, duration(answer.timings[0].median), beside(answer))
        for answer in answers
        if answer.question.short
    ]
    return table(("question", "contpoutine", "beside it"), cells, {1})


def write(path: Path, answers: Sequence[Answer], absent: dict[str, str], form: str) -> None:
    content = {
        "form": form,
        "environment": report.environment([]),
        "absent": absent,
        "questions": [
            {
                "title": answer.question.label,
                "systems": [
                    {
                        "peer": entry.peer,
                        "name": timing.system,
                        "seconds": timing.seconds,
                        "median_seconds": timing.median,
                        "ratio": timing.ratio,
                    }
                    for entry, timing in zip(answer.question.entries, answer.timings, strict=True)
                ],
            }
            for answer in answers
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def main() -> int:
    options = arguments()
    asked = {peer: PEERS[peer]() for peer in options.peer or PEERS}
    absent = {peer: reason for peer, reason in asked.items() if reason}
    for peer, reason in absent.items():
        say(f"without {peer}: {reason}")
    torch.set_num_threads(1)  # with more, operations on two numbers wait for a busy core
    gc.collect()
    gc.freeze()
    try:
        chosen = among(questions(options.quick), asked.keys() - absent.keys())
        answers = run(chosen, options.rounds or (3 if options.quick else 7))
    except Disagreement as disagreement:
        say(f"disagreement: {disagreement}")
        return 1
    finally:
        webppl.close()
    print("Medians of paired runs; a ratio is to the first line of its question.\n")
    print(table(HEADER, rows(answers), {2, 3}))
    print(f"\nIn short:\n\n{short(answers)}")
    for peer, reason in absent.items():
        print(f"\n{peer} was not there: {reason}")
    if options.json:
        write(options.json, answers, absent, "quick" if options.quick else "full")
        print(f"\nresults: {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
