"""The seed's runtime: operations, and what is known of the handlers around a place in the code."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from contpoutine.core.ambient import AMBIENT
from contpoutine.core.effectful import effectful
from contpoutine.core.machine import default_value, is_decided, run
from contpoutine.core.message import Message
from contpoutine.core.messenger import Messenger

__all__ = [
    "NonlocalExit",
    "am_i_wrapped",
    "apply_stack",
    "default_process_message",
    "effectful",
]


class NonlocalExit(Exception):
    """Raised at a site by `poutine.escape`, to leave the model from there.

    Attributes:
        site: the message of the site.
    """

    def __init__(self, site: Any, *args: Any) -> None:
        super().__init__(*args)
        self.site = site

    def reset_stack(self) -> None:
        """Tell the handlers that are installed here that the execution was given up.

        The innermost handler is told first, and none beyond a `block` that hides the site.
        """
        for entry in handlers_that_see(self.site):
            entry._reset()

    def __str__(self) -> str:
        return f"the model was left at {self.site['type']} {self.site['name']!r}"


def handlers_that_see(msg: Any) -> Generator[Messenger, None, None]:
    """The installed Messengers that a message from here passes, innermost first."""
    from contpoutine.poutine.block_messenger import BlockMessenger

    for entry in reversed(AMBIENT.get()):
        if isinstance(entry, Messenger):
            yield entry
            if isinstance(entry, BlockMessenger) and entry.hide_fn(msg):
                return


def default_process_message(msg: Any) -> None:
    """Give a message the value of its effect's default, if it has none yet, and mark it as done.

    Raises `UnhandledEffectError` where the effect has no default.

    >>> from contpoutine.core.message import Message
    >>> msg = Message(type="apply", fn=lambda x: x + 1, args=(1,))
    >>> msg.perform()
    >>> default_process_message(msg)
    >>> msg["value"], msg["done"]
    (2, True)
    """
    if not is_decided(msg):
        msg["value"] = default_value(msg)
    msg["done"] = True


def apply_stack(msg: Any) -> Any:
    """Send a message through the handlers around this place, outside of any model, at once.

    A model yields a message instead. Gives the message, with its value. Raises `BarrierError` where
    a control handler would take it: there is no continuation to give it here.

    >>> from contpoutine.core.message import Message
    >>> from contpoutine.poutine import condition
    >>> with condition(data={"x": 3}):
    ...     msg = apply_stack(Message(type="sample", name="x", fn=None))
    >>> msg["value"], msg["is_observed"]
    (3, True)
    """
    request = msg if isinstance(msg, Message) else Message(**msg)
    run(_perform, request)
    if request is not msg:
        msg.update(request)
    return msg


def _perform(request: Any) -> Generator[Any, Any, Any]:
    return (yield request)


def am_i_wrapped() -> bool:
    """Is any handler installed here?

    >>> from contpoutine.poutine import block
    >>> with block():
    ...     am_i_wrapped()
    True
    """
    return bool(AMBIENT.get())


def __getattr__(name: str) -> Any:
    if name != "get_mask":  # Pyro has it here; its own module imports this one
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from contpoutine.poutine.mask_messenger import get_mask

    return get_mask
