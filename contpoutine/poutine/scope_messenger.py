"""scope: names of sub-models that are unique.

A handler further in knows a site by the name that the model gave it, a handler further out by the
prefixed one. So a message gets its prefix on its way up and loses it on its way down.
"""

from __future__ import annotations

from typing import Any

from contpoutine.core.messenger import Messenger
from contpoutine.poutine.three_ways import Model, apply

__all__ = ["ScopeMessenger", "scope"]


class ScopeMessenger(Messenger):
    """Puts `prefix/` in front of the names of all sites inside. Scopes nest.

    Args:
        prefix: a string.
        divider: what stands between prefix and name.
    """

    fork_constant = True

    def __init__(self, prefix: str, divider: str = "/") -> None:
        if type(prefix) is not str or type(divider) is not str:
            raise TypeError(f"scope needs a string: scope(model, prefix='left'), not {prefix!r}")
        self.prefix = prefix + divider

    def _process_message(self, msg: Any) -> None:
        if isinstance(msg["name"], str):
            msg["name"] = self.prefix + msg["name"]

    def _postprocess_message(self, msg: Any) -> None:
        name = msg["name"]
        if isinstance(name, str):
            msg["name"] = name.removeprefix(self.prefix)

    def __repr__(self) -> str:
        return f"scope(prefix={self.prefix!r})"


def scope(fn: Model | None = None, prefix: str | None = None, *, divider: str = "/") -> Any:
    """Put `prefix/` in front of the names of all sites inside.

    A recursive model has unique names if each call is in a scope of its own:

    >>> import contpoutine as cp
    >>> def tree(depth):
    ...     if depth == 0 or (yield cp.sample("stop", cp.distributions.Flip(0.0))):
    ...         return 1
    ...     left = yield scope(tree, prefix="l")(depth - 1)
    ...     right = yield scope(tree, prefix="r")(depth - 1)
    ...     return left + right
    >>> cp.poutine.trace(tree).get_trace(2).stochastic_nodes
    ['stop', 'l/stop', 'r/stop']
    """
    return apply("scope", fn, ScopeMessenger(prefix, divider))  # type: ignore[arg-type]
