"""Performing an effect where nothing can be yielded: in a constructor, or inside another handler.

Such a message passes the Messengers around it as any other does, but no continuation can be given
to a control handler, and whoever drives the computation does not see it. So it must be decided, or
its default must not be random; a random draw is made only where nobody could resume the model
twice. Everything else is refused by name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any, NamedTuple

from contpoutine.core.ambient import AMBIENT, DRIVEN
from contpoutine.core.handler import Mark
from contpoutine.core.machine import default_value, is_decided
from contpoutine.errors import BarrierError


class Listener(NamedTuple):
    """Whoever runs a computation of its own: the handlers below `depth` hear of it through it."""

    depth: int
    hear: Callable[[Any], None]


LISTENER: ContextVar[Listener | None] = ContextVar("contpoutine_listener", default=None)


def perform_at_once(
    msg: Any, what: str, instead: str, random: bool = True, place: bool = True
) -> Any:
    """Send `msg` through the Messengers around this place, and give its value.

    Args:
        what: who performs it, for an error message.
        instead: what to write where it cannot be performed at once.
        random: may its default be another value the next time?
        place: the message was built by this library, and its place is where that was called.

    Raises:
        BarrierError: its value would be drawn inside a computation that may be resumed twice.
    """
    ambient, listener = AMBIENT.get(), LISTENER.get()
    if place:
        msg.born_at(_user_frame())
    depth, end = len(ambient), 0 if listener is None else listener.depth
    msg.perform()
    while depth > end and not msg["stop"]:
        depth -= 1
        if type(ambient[depth]) is not Mark:
            ambient[depth]._process_message(msg)
    if not is_decided(msg):
        if random and (DRIVEN.get() or any(type(entry) is Mark for entry in ambient)):
            raise BarrierError(
                f"{what} would be drawn at random, but the model is run by somebody who may resume "
                f"it more than once, and who could not be asked. {instead}"
            )
        msg["value"] = default_value(msg)
    msg["done"] = True
    for entry in ambient[depth:]:
        if type(entry) is not Mark:
            entry._postprocess_message(msg)
    then = msg["continuation"]
    if then is not None:
        then(msg)
    if listener is not None and msg["type"] == "sample" and not msg["stop"]:
        listener.hear(msg)
    return msg["value"]


def _user_frame() -> FrameType:
    """The innermost frame that is no frame of this library's."""
    frame = sys._getframe(2)
    while frame.f_globals.get("__name__", "").startswith("contpoutine.") and frame.f_back:
        frame = frame.f_back
    return frame
