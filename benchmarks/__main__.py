"""`python -m benchmarks`: run, print the table, draw the picture."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path

import torch

from . import report
from .memory import measure
from .models import MODELS, SMALL, cases
from .picture import draw
from .runner import Disagreement, Result, compare, say, warm_up
from .systems import PEERS, ROOMS
from .systems.room import Room
from .table import table

OUT = Path(__file__).parent / "out"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Exact enumeration side by side: posteriors compared first, then times.",
    )
    parser.add_argument("--quick", action="store_true", help="smaller models, under two minutes")
    parser.add_argument(
        "--peer",
        action="append",
        choices=PEERS,
        metavar="NAME",
        help=f"compare with these only: {', '.join(PEERS)}",
    )
    parser.add_argument(
        "--model",
        action="append",
        choices=[model.name for model in MODELS],
        metavar="NAME",
        help="run these models only: " + ", ".join(model.name for model in MODELS),
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    parser.add_argument("--picture", type=Path, metavar="FILE", default=OUT / "benchmark.png")
    parser.add_argument("--rounds", type=int, metavar="N", help="paired rounds (quick: 3, full: 7)")
    return parser.parse_args()


def chosen_rooms(peers: list[str] | None) -> list[Room]:
    """contpoutine and the peers that were asked for and are here; the others are named."""
    rooms: list[Room] = []
    for room in ROOMS:
        if peers and room.peer in PEERS and room.peer not in peers:
            continue
        reason = room.missing()
        if reason:
            say(f"without {room.peer}: {reason}")
        else:
            rooms.append(room)
    return rooms


def main() -> int:
    options = arguments()
    rooms = chosen_rooms(options.peer)
    rounds = options.rounds or (3 if options.quick else 7)
    results: list[Result] = []
    torch.set_num_threads(1)  # with more, operations on two numbers wait for a busy core
    try:
        warm_up(SMALL, rooms)
        gc.collect()
        gc.freeze()
        for case in cases(options.quick, options.model):
            results.append(compare(case, rooms, rounds))
    except Disagreement as disagreement:
        say(f"disagreement: {disagreement}")
        return 1
    finally:
        for room in rooms:
            room.close()
    print(table(results))
    if not options.model:
        print("\n".join([*measure(), ""]))
    if options.json:
        report.write(options.json, results, rooms, "quick" if options.quick else "full")
        print(f"results: {options.json}")
    draw(results, options.picture)
    print(f"picture: {os.path.relpath(options.picture)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
