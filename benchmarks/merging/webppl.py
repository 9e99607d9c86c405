"""WebPPL in a node process of the whole run; its code stays compiled and warm."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ..case import Posterior, Row
from ..systems.webppl import ROOM, Process
from .question import Entry

PEER = "webppl"
missing = ROOM.missing


@cache
def process() -> Process:
    node = Process()
    node.ask(load="merging", source=(Path(__file__).parent / "models.wppl").read_text())
    for name in ("hidden", "flips", "words", "cappedWords"):
        node.ask(run="merging", size=[name, 4], options={}, times=20)
    return node


def close() -> None:
    if process.cache_info().currsize:
        process().close()
        process.cache_clear()


def entry(name: str, query: str, size: int, tolerance: float = 1e-9) -> Entry:
    """A row for one of the queries in `models.wppl`."""

    def run(times: int) -> tuple[Posterior, float]:
        answer = process().ask(run="merging", size=[query, size], options={}, times=times)
        return dict(answer["posterior"]), answer["seconds"]

    return Entry(PEER, Row(name, run, tolerance))
