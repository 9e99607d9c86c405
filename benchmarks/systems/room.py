"""What the runner asks of a system."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ..case import Case, Row


class Room(Protocol):
    """A system: what it is called, whether it is here, and its rows for a case."""

    peer: str

    def missing(self) -> str | None:
        """Why the system cannot run here, or None."""

    def version(self) -> str:
        """What the system says it is."""

    def rows(self, case: Case) -> Iterable[Row]:
        """The rows for a case; none if the system does not take it."""

    def close(self) -> None:
        """Let go of what the room holds."""
