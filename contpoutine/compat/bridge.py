"""Models of the real pyro-ppl, as they are, under the handlers of this library.

One Messenger takes what a model performs to the handlers that are installed here, and brings the
value back. It stands at the bottom of Pyro's own stack from the moment that this module is
imported, and lets everything pass where no handler of this library is around. What Pyro's handlers
inside of the model have done to a message by then (a plate's batch shape and scale, a mask, an
`infer` option) is on it.

Pyro keeps its stack and the dimensions of its plates in global lists. While a model runs in a
greenlet it has both for itself; they come back with it when it is resumed. So handlers of Pyro's
own that are entered *outside* of `infer.enumerate` or of a control handler do not see what is
inside; where only Messengers of this library are around the model, they do. One thread at a time
can run models of Pyro like this: a second one is refused by name.

This module imports `pyro`; the rest of the library imports it where `pyro` is imported already.

>>> import pyro, pyro.distributions as dist
>>> import contpoutine as cp
>>> def model():
...     rain = pyro.sample("rain", dist.Bernoulli(0.2))
...     pyro.sample("wet", dist.Bernoulli(0.5 + 0.25 * rain), obs=rain.new_tensor(1.0))
...     return bool(rain)
>>> round(cp.infer.enumerate(model)().marginal()[True], 4)
0.2727
"""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

from pyro.poutine import runtime
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample

from contpoutine.core.ambient import AMBIENT, BRIDGE, DRIVEN
from contpoutine.core.bridge import Plain
from contpoutine.core.direct import way_down, way_up
from contpoutine.core.message import Message
from contpoutine.core.model import describe
from contpoutine.distributions import Delta
from contpoutine.errors import GreenletError

_SHARED = (
    "name",
    "fn",
    "value",
    "is_observed",
    "args",
    "kwargs",
    "infer",
    "done",
    "scale",
    "mask",
    "cond_indep_stack",
)
_PRIVATE = frozenset({"inspect", "markov", "get_rng_state"})
"""Effects by which Pyro asks its own handlers: no handler of another library has an answer."""

State = tuple[list[Any], list[Any]]


class ContpoutineMessenger(Messenger):  # type: ignore[misc]
    """Takes what passes it on Pyro's stack to the handlers of this library."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[tuple[Any, Any, int]] = []

    def _process_message(self, msg: Any) -> None:
        bridge = BRIDGE.get()
        if bridge is None and not AMBIENT.get() and not DRIVEN.get():
            Plain.performed += 1
            return
        if msg["type"] in _PRIVATE or _is_whole_plate(msg):
            return
        if bridge is not None and not bridge.has_foreign_state:
            raise GreenletError(
                f"{describe(bridge.model)} performs the effect {msg['name']!r} of Pyro, and "
                f"another thread runs a model in a greenlet at this time. Pyro keeps its handlers "
                f"in one global list: run its models one after the other, or in processes."
            )
        ours = _ours(msg)
        if bridge is not None and (msg["type"] != "param" or bridge.wants("param")):
            value = bridge.ask(ours)
            _copy_back(ours, msg)
            msg["value"] = value
            msg["done"] = msg["stop"] = True
            return
        ours.perform()
        Plain.performed += 1
        self._open.append((msg, ours, way_up(ours)))
        _copy_back(ours, msg)
        msg["stop"] = ours["stop"]

    def _postprocess_message(self, msg: Any) -> None:
        while self._open:
            opened, ours, depth = self._open.pop()
            if opened is msg:
                for field in _SHARED:
                    ours[field] = msg[field]
                way_down(ours, depth)
                _copy_back(ours, msg)
                return


def _is_whole_plate(msg: Any) -> bool:
    """Is it a plate that takes all of its indices, so that there is nothing to choose?"""
    fn = msg["fn"]
    return (
        type(fn) is _Subsample
        and (fn.subsample_size is None or fn.subsample_size == fn.size)
        and DRIVEN.get()
    )


def _ours(msg: Any) -> Any:
    """Pyro's message as one of this library, born where the model performed it."""
    ours = Message(type=msg["type"], **{field: msg[field] for field in _SHARED})
    if msg["infer"] and msg["infer"].get("_deterministic") and DRIVEN.get():
        ours["fn"] = Delta(msg["value"])  # a posterior knows it by its name
    ours.born_at(_user_frame())
    return ours


def _user_frame() -> FrameType:
    """The innermost frame that belongs neither to this library nor to Pyro."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(
        ("contpoutine.", "pyro.", "torch.", "contextlib", "functools")
    ):
        frame = frame.f_back
    return frame


def _copy_back(ours: Any, msg: Any) -> None:
    for field in _SHARED:
        if field != "fn" or not isinstance(ours["fn"], Delta):
            msg[field] = ours[field]


class PyroState:
    """Pyro's process-wide state, which a function that runs in a greenlet has for itself."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bottom = ContpoutineMessenger()
        runtime._PYRO_STACK.insert(0, self._bottom)

    def acquire(self) -> bool:
        """Take the state for this thread. False: another thread has it."""
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        self._lock.release()

    def is_fresh(self, state: State) -> bool:
        """Does nothing of a function's own stand in it?"""
        return len(state[0]) == 1 and not state[1]

    def fresh(self) -> State:
        return [self._bottom], []

    def take(self) -> State:
        return runtime._PYRO_STACK.copy(), runtime._DIM_ALLOCATOR._stack.copy()

    def put(self, state: State) -> None:
        runtime._PYRO_STACK[:], runtime._DIM_ALLOCATOR._stack[:] = state


STATE = PyroState()
