"""What a programmer would write for one model and no other: the floor for anything in Python.

No handlers, no generators, no distributions: a recursion that carries the weight of the path and
adds it to a table at each leaf. It shares nothing between paths that the other systems do not
share, so it visits the same leaves.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..case import Case, Row, python_row


class HandRecursion:
    peer = "hand"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return "this repository"

    def rows(self, case: Case) -> Iterator[Row]:
        by_hand = case.model.hand
        yield python_row("hand-written recursion", lambda: by_hand(*case.size))
        over_torch = case.model.hand_torch
        if case.variants and over_torch is not None:
            yield python_row(
                "hand-written recursion over torch",
                lambda: over_torch(*case.size),
                tolerance=1e-5,
            )

    def close(self) -> None:
        pass


ROOM = HandRecursion()
