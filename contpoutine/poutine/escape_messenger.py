"""escape: leave the model at a site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contpoutine.core.messenger import Messenger
from contpoutine.poutine.runtime import NonlocalExit


class EscapeMessenger(Messenger):
    """Raises `NonlocalExit` in the model at the first sample site for which `escape_fn` is true.

    Handlers further out do not see that site. The model's own clean-up runs (`finally` blocks,
    `with` statements), and the handler stack is as it was outside.

    Args:
        escape_fn: takes the message of a site.
    """

    fork_constant = True

    def __init__(self, escape_fn: Callable[[Any], bool]) -> None:
        if not callable(escape_fn):
            raise TypeError(f"escape needs escape_fn=f, where f(msg) is a bool, not {escape_fn!r}")
        self.escape_fn = escape_fn

    def _pyro_sample(self, msg: Any) -> None:
        if self.escape_fn(msg):
            msg["done"] = msg["stop"] = True
            msg["continuation"] = _leave


def _leave(msg: Any) -> None:
    raise NonlocalExit(msg)
