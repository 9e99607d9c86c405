"""contpoutine itself, by clone and by replay.

What is timed is what a user writes, and all of it: the enumeration and the marginal of the return
value. By replay it is asked only where that takes reasonable time; the cases say.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, TypeAlias

import contpoutine as cp

from ..case import Case, Posterior, Program, Row, python_row

Capture: TypeAlias = Literal["clone", "replay"]

CLONE = "contpoutine clone"
REPLAY = "contpoutine replay"


def enumerated(case: Case, model: Program, capture: Capture) -> Posterior:
    inference = cp.infer.enumerate(
        model, order=case.order, capture=capture, max_executions=case.max_executions
    )
    marginal = inference(*case.size).marginal()
    return {plain(value): probability for value, probability in marginal.items()}


def plain(value: Any) -> Any:
    """The number that a tensor holds; anything else as it is."""
    return value.item() if hasattr(value, "item") else value


class Contpoutine:
    peer = "contpoutine"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        capabilities = cp.capabilities()
        return "native" if capabilities.native else f"replay only: {capabilities.reason}"

    def rows(self, case: Case) -> Iterator[Row]:
        model = case.model.contpoutine
        native = cp.capabilities().native
        captures: dict[Capture, str] = {"clone": CLONE} if native else {}
        if case.replay or not native:
            captures["replay"] = REPLAY
        for capture, name in captures.items():
            yield python_row(name, partial(enumerated, case, model, capture))
        if case.variants and native:
            for what, variant in case.model.variants.items():
                yield python_row(
                    f"{CLONE}, {what}",
                    partial(enumerated, case, variant, "clone"),
                    tolerance=1e-5,
                )

    def close(self) -> None:
        pass


ROOM = Contpoutine()
