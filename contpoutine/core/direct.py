"""Direct style: effects that are performed at once, by calling.

A generator model yields a request; an ordinary function calls `perform` with it and has the value.
Where a machine runs the function, `perform` asks that machine (see `bridge`). Where none does,
nobody can want the rest of the function: the message goes past the Messengers that are installed
and back, right here, without a switch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from contpoutine.core.ambient import AMBIENT, BRIDGE, DRIVEN
from contpoutine.core.bridge import Plain
from contpoutine.core.handler import Mark
from contpoutine.core.machine import (
    default_value,
    is_decided,
    move_stream,
    not_seen,
    out_of_reach,
    performed_twice,
)
from contpoutine.core.model import start


def perform(msg: Any) -> Any:
    """Perform an effect from an ordinary function. Gives its value.

    Raises `BarrierError` where a control handler or an enumeration wants the effect, and the
    function was called in a way that cannot be captured.

    >>> import contpoutine as cp
    >>> with cp.poutine.condition(data={"x": 3}):
    ...     perform(cp.sample("x", cp.distributions.RandInt(10)))
    3
    """
    bridge = BRIDGE.get()
    return perform_alone(msg) if bridge is None else bridge.ask(msg)


def perform_alone(msg: Any) -> Any:
    """Send a message past the Messengers installed here, and back with its value."""
    if msg.performed and not msg.lent:
        raise performed_twice(msg)
    msg.perform()
    Plain.performed += 1
    depth = way_up(msg)
    if not is_decided(msg):
        msg["value"] = default_value(msg)
        move_stream(msg)
    return way_down(msg, depth)


def way_up(msg: Any) -> int:
    """Tell the handlers of a message, innermost first. Gives how many have not seen it."""
    ambient, effect = AMBIENT.get(), msg["type"]
    depth = len(ambient)
    while depth:
        depth -= 1
        entry = ambient[depth]
        if type(entry) is Mark:
            if effect in entry.clauses:
                raise out_of_reach(msg, entry, None, plainly=True)
            continue
        entry._process_message(msg)
        if msg["stop"]:
            return depth
    if effect == "sample" and DRIVEN.get():
        raise not_seen(msg, None, plainly=True)
    return 0


def way_down(msg: Any, depth: int) -> Any:
    """Tell the handlers from `depth` inwards what the value is. Gives the value."""
    msg["done"] = True
    for entry in AMBIENT.get()[depth:]:
        if type(entry) is not Mark:
            entry._postprocess_message(msg)
    if msg["continuation"] is not None:
        msg["continuation"](msg)
    return msg["value"]


def call(model: Callable[..., Any], *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
    """The call of a model, of either style, to be yielded by a generator model.

    An ordinary function that is called plainly cannot be captured; called like this, it can.

    >>> import contpoutine as cp
    >>> import contpoutine.compat.pyro as pyro
    >>> def coin(p):
    ...     return pyro.sample("coin", cp.distributions.Flip(p))
    >>> def model():
    ...     side = yield call(coin, 0.25)
    ...     return "heads" if side else "tails"
    >>> round(cp.infer.enumerate(model)().marginal()["heads"], 6)
    0.25
    """
    return start(model, args, kwargs, strict=False)
