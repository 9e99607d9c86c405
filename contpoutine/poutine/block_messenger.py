"""block: hide sites from the handlers further out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from contpoutine.core.messenger import Messenger

HideFn = Callable[[Any], bool | None]


class BlockMessenger(Messenger):
    """Hides sites from the handlers further out; everything is hidden unless you say otherwise.

    A hidden site keeps the value that it has, or is drawn. In these rules an observed sample site
    has the type `"observe"`. A site is hidden if its name is in `hide`, if its type is in
    `hide_types`, or if everything is hidden that is not exposed and neither its name is in `expose`
    nor its type in `expose_types`. `expose` and `expose_types` hide everything else; `hide` alone
    and `hide_types` expose everything else.

    Args:
        hide_fn: takes a message and decides alone: true hides it.
        expose_fn: takes a message and decides alone: true exposes it.
        hide_all: hide every site (the default, where nothing else is said).
        expose_all: expose every site.
        hide: names of sites to hide.
        expose: names of sites to expose.
        hide_types: types of sites to hide.
        expose_types: types of sites to expose.

    Raises:
        ValueError: two of the arguments contradict each other.
    """

    fork_constant = True

    def __init__(
        self,
        hide_fn: HideFn | None = None,
        expose_fn: HideFn | None = None,
        hide_all: bool | None = None,
        expose_all: bool | None = None,
        hide: Collection[str] | None = None,
        expose: Collection[str] | None = None,
        hide_types: Collection[str] | None = None,
        expose_types: Collection[str] | None = None,
    ) -> None:
        if hide_fn is not None and expose_fn is not None:
            raise ValueError("block takes hide_fn or expose_fn, not both")
        if hide_all and expose_all:
            raise ValueError("block cannot hide_all and expose_all at once")
        _disjoint(hide, expose, "hide", "expose")
        _disjoint(hide_types, expose_types, "hide_types", "expose_types")
        self._decide = hide_fn
        self._decide_exposed = expose_fn
        self._hide, self._expose = _names(hide, "hide"), _names(expose, "expose")
        self._hide_types = _names(hide_types, "hide_types")
        self._expose_types = _names(expose_types, "expose_types")
        # The last of the lists that were given says what happens to a site in none of them.
        hides = not expose_all if hide_all is None else hide_all
        for given, default in (
            (hide, False),
            (expose, True),
            (hide_types, False),
            (expose_types, True),
        ):
            hides = hides if given is None else default
        self._hides_the_rest = hides

    def hide_fn(self, msg: Any) -> bool:
        """Is this message hidden?"""
        if self._decide is not None:
            return bool(self._decide(msg))
        if self._decide_exposed is not None:
            return not self._decide_exposed(msg)
        name, kind = msg["name"], msg["type"]
        if kind == "sample" and msg["is_observed"]:
            kind = "observe"
        if name in self._hide or kind in self._hide_types:
            return True
        return self._hides_the_rest and name not in self._expose and kind not in self._expose_types

    def _process_message(self, msg: Any) -> None:
        msg["stop"] = self.hide_fn(msg)


def _names(given: Collection[str] | None, what: str) -> frozenset[str]:
    if isinstance(given, str):
        raise ValueError(f"block takes a list of names: {what}=[{given!r}], not {what}={given!r}")
    return frozenset(given or ())


def _disjoint(
    hide: Collection[str] | None, expose: Collection[str] | None, one: str, other: str
) -> None:
    both = sorted(set(hide or ()) & set(expose or ()))
    if both:
        raise ValueError(f"block cannot hide and expose {both[0]!r}: it is in {one} and {other}")
