"""Which of the names that a handler was given are met by sites, to warn of those that are not.

A name may be met in one execution and not in another, so what counts is every execution: an
enumeration warns when all branches have run; a single run warns where nothing in it was drawn, or
where the name is near to one that was met. The record is shared by branches: it is
for a warning, and no model sees it.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from contpoutine.core.ambient import DRIVEN
from contpoutine.errors import UnmetNameWarning
from contpoutine.poutine.validation import is_validation_enabled

_KEPT = 200  # names of other sites, to suggest from


class NamesMet:
    """What has been met of `wanted`, names of sites of the kind that `handler` changes."""

    fork_shared = True
    fork_opaque = True

    def __init__(self, handler: str, kind: str, wanted: Iterable[str]) -> None:
        self.handler, self.kind = handler, kind
        self.unmet = set(wanted)
        self.others: dict[str, None] = {}
        self.met_any = self.varies = False

    def meet(self, name: Any, wanted: bool, drawn: bool = False) -> None:
        """A site of that name was performed; `drawn` if its value may be another one next time."""
        self.met_any = True
        self.varies = self.varies or drawn
        if wanted:
            self.unmet.discard(name)
        elif len(self.others) < _KEPT:
            self.others[name] = None

    def leave(self, exc_type: Any) -> None:
        """The handler is left: warn now, or when all branches have run."""
        if exc_type is not None or not self.unmet or not self.met_any:
            return
        waiting = WAITING.get()
        if waiting is not None:
            waiting[self] = None
        elif not DRIVEN.get():
            # After another draw the model may well perform the site: say only what is likely.
            unmet = [name for name in self.unmet if not self.varies or self._near(name)]
            self.unmet.difference_update(unmet)
            self._say(sorted(unmet))

    def warn(self) -> None:
        """Say so, now that all executions have ended."""
        unmet, self.unmet = self.unmet, set()
        self._say(sorted(unmet))

    def _near(self, name: str) -> list[str]:
        return difflib.get_close_matches(name, self.others, n=3, cutoff=0.7)

    def _say(self, unmet: list[str]) -> None:
        """Warn of the names that nothing had, once each."""
        if not is_validation_enabled():
            return
        for name in unmet:
            near = self._near(name)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            met = ", ".join(map(repr, list(self.others)[:5])) or "no other"
            warnings.warn(
                f"{self.handler} was given {name!r}, but no {self.kind} site of that name was "
                f"performed; there was {met}.{hint}",
                UnmetNameWarning,
                stacklevel=2,
            )


WAITING: ContextVar[dict[NamesMet, None] | None] = ContextVar("contpoutine_waiting", default=None)
"""Where an enumeration collects what to warn of at its end."""
