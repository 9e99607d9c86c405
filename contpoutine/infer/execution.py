"""One finished execution, as posteriors show it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from contpoutine.errors import AmbiguousSiteError, UnknownSiteError
from contpoutine.infer import showing


@dataclass(frozen=True, slots=True)
class Execution:
    """One finished execution.

    Attributes:
        value: what the model returned.
        choices: (site name, value) of each choice and deterministic site, first one first.
        probability: its posterior probability.
        log_weight: its joint log-weight, prior times likelihood.
    """

    value: Any
    choices: tuple[tuple[str, Any], ...]
    probability: float
    log_weight: float

    def __getitem__(self, site: str) -> Any:
        """The value of a site.

        Raises:
            UnknownSiteError: the site is not on this execution.
            AmbiguousSiteError: it is there more than once; look into `choices`.
        """
        found = [value for name, value in self.choices if name == site]
        if len(found) == 1:
            return found[0]
        if not found:
            known = dict.fromkeys(name for name, _ in self.choices)
            raise UnknownSiteError(unknown(site, known, "this execution"))
        raise AmbiguousSiteError(
            f"site {site!r} occurs {len(found)} times in this execution, with the values "
            f"{found}; they are in `execution.choices`."
        )

    def __repr__(self) -> str:
        choices = ", ".join([f"{name}={showing.value(value)}" for name, value in self.choices])
        return (
            f"Execution({showing.value(self.value)}, probability "
            f"{showing.number(self.probability)}: {choices or 'no choices'})"
        )


def unknown(site: str, known: Iterable[str], where: str) -> str:
    """What an error says about a site that is not there."""
    names = list(known)
    near = difflib.get_close_matches(str(site), names, n=1)
    advice = f" Did you mean {near[0]!r}?" if near else ""
    listing = f" The sites are {some(names, 10)}." if names else " It has no choices at all."
    return (
        f"site {site!r} does not occur in {where}.{advice}{listing} An observed site has one "
        f"value only, and is not among them."
    )


def some(names: Sequence[str], limit: int) -> str:
    """The first of the names, and how many there are."""
    more = f", ... ({len(names)} sites)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
