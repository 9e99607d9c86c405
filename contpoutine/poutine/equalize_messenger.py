"""equalize: sites that all have the value of the first of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

from contpoutine.core.messenger import Messenger
from contpoutine.distributions import Delta
from contpoutine.poutine.three_ways import Model, apply

__all__ = ["EqualizeMessenger", "equalize"]


class EqualizeMessenger(Messenger):
    """Gives all sites whose names match the value that the first of them got.

    Args:
        sites: a regular expression for whole names, or a list of them.
        type: which kind of sites, "sample" or "param".
        keep_dist: the later sites keep their distributions, so that they weigh the value: the
            model is conditioned on all being equal. Otherwise they are computed values.
    """

    def __init__(
        self,
        sites: str | Sequence[str],
        type: str | None = "sample",
        keep_dist: bool | None = False,
    ) -> None:
        self.sites = [sites] if isinstance(sites, str) else list(sites)
        if not all(isinstance(site, str) for site in self.sites):
            raise TypeError(f"equalize needs names or patterns of names, not {sites!r}")
        self.type, self.keep_dist = type, keep_dist
        self._has_value, self.value = False, None

    def __enter__(self) -> Self:
        self._has_value, self.value = False, None
        return super().__enter__()

    def _matches(self, msg: Any) -> bool:
        return msg["type"] == self.type and any(
            re.fullmatch(site, msg["name"]) for site in self.sites
        )

    def _process_message(self, msg: Any) -> None:
        if self._has_value and self._matches(msg):
            msg["value"] = self.value
            if msg["type"] == "sample":
                msg["is_observed"] = True
                if not self.keep_dist:
                    msg["fn"], msg["infer"] = Delta(self.value), {"_deterministic": True}

    def _postprocess_message(self, msg: Any) -> None:
        if not self._has_value and self._matches(msg):
            self._has_value, self.value = True, msg["value"]


def equalize(
    fn: Model | None = None,
    sites: str | Sequence[str] | None = None,
    type: str | None = "sample",
    keep_dist: bool | None = False,
) -> Any:
    """Give all sites whose names match the value that the first of them got.

    >>> import contpoutine as cp
    >>> def model():
    ...     a = yield cp.sample("a", cp.distributions.Flip(0.5))
    ...     b = yield cp.sample("b", cp.distributions.Flip(0.9))
    ...     return a, b
    >>> sorted(cp.infer.enumerate(equalize(model, sites="a|b"))().marginal().items())
    [((False, False), 0.5), ((True, True), 0.5)]
    >>> kept = equalize(model, sites=["a", "b"], keep_dist=True)
    >>> round(cp.infer.enumerate(kept)().marginal()[True, True], 4)
    0.9
    """
    return apply("equalize", fn, EqualizeMessenger(sites, type, keep_dist))  # type: ignore[arg-type]
