"""The bridge: an ordinary function, run on a stack of its own, is a generator to the machine.

A direct-style model has no suspended frame that could be copied. Where somebody may want the rest
of it (a control handler, an enumeration) it runs in a greenlet. `Bridge.ask` switches to the
machine with a request, and `as_generator` yields it there; what the machine sends or throws is what
`ask` gives or raises. Such a frame cannot be cloned, and says so: then the first resumption of a
continuation goes on with the greenlet itself, and each further one replays the function with the
recorded answers, in another greenlet.

The greenlet runs in the context (`contextvars`) of the machine. So there is one ambient stack, and
`BRIDGE`, which says whose function is running, is seen on both sides. Greenlets are used again:
one that has returned waits for the next function, as a fresh one costs more than a short model.
"""

from __future__ import annotations

import contextvars
import functools
import threading
import traceback
from collections.abc import Callable, Generator
from types import CodeType, GeneratorType
from typing import Any, NoReturn, Protocol

from contpoutine.core.ambient import AMBIENT, BRIDGE
from contpoutine.core.message import Message, check_dropped, machine_runs, pure_is_quiet, quiet
from contpoutine.core.model import describe, no_model
from contpoutine.core.native import native
from contpoutine.errors import (
    CaptureError,
    DepthError,
    GreenletError,
    LateImportError,
    ReplayDiverged,
)


class Feed:
    """Recorded answers that a function is given while it is replayed.

    Attributes:
        left: those that are still to be given, last one first: (site name, value, pick).
        given: (message, value, pick) -> the value as the function may have it.
    """

    __slots__ = ("given", "left")

    def __init__(self, left: list[Any], given: Callable[[Any, Any, int], Any]) -> None:
        self.left, self.given = left, given


class Foreign(Protocol):
    """Another library's process-wide state, which a function that uses it has for itself."""

    def acquire(self) -> bool:
        """Take the state for this thread. False: another thread has it."""

    def release(self) -> None:
        """Let other threads take it."""

    def fresh(self) -> Any:
        """The state in which a function begins that runs in a greenlet."""

    def is_fresh(self, state: Any) -> bool:
        """Is that still so?"""

    def take(self) -> Any:
        """The state as it is now."""

    def put(self, state: Any) -> None:
        """Make this the state."""


_look_for_foreign: list[Callable[[], Foreign | None]] = []


def register_foreign(look: Callable[[], Foreign | None]) -> None:
    """`look` is asked for another library's state each time that a function begins."""
    _look_for_foreign.append(look)


def foreign() -> Foreign | None:
    """The other library that is in use right now, if any."""
    for look in _look_for_foreign:
        found = look()
        if found is not None:
            return found
    return None


class _Pool(threading.local):
    """The greenlets of this thread that wait for a function, and those that never will."""

    def __init__(self) -> None:
        self.idle: list[Any] = []
        self.stuck: list[Any] = []


_pool = _Pool()
_MOST_IDLE = 64
_PLAIN = frozenset({bool, int, float, str, type(None)})


def _getcurrent() -> Any:
    """The greenlet that is running. (Replaced by the package's own function, once it is there.)"""
    global _getcurrent
    _getcurrent = _greenlets().getcurrent
    return _getcurrent()


@functools.cache
def _greenlets() -> Any:
    try:
        import greenlet
    except ImportError as error:
        raise GreenletError(
            "an ordinary function that performs effects under a control handler, or is enumerated, "
            "runs in a greenlet, and the package greenlet is not installed. Install it, or write "
            "the model as a generator."
        ) from error
    return greenlet


class Bridge:
    """One run of a function in a greenlet.

    Attributes:
        model: the function.
        over: it has returned or raised.
        effects: how many effects it has performed by asking the machine.
        feed: while it is replayed, the answers still to be given; otherwise None.
        base: the ambient stack where it began.
    """

    fork_opaque = True
    value: Any
    error: BaseException | None
    broken: BaseException | None
    base: tuple[Any, ...]
    _foreign: Foreign | None
    _outer: Any  # the state of the other library where the function was resumed
    _greenlet: Any
    _home: Any

    __slots__ = (
        "_foreign",
        "_greenlet",
        "_home",
        "_outer",
        "args",
        "base",
        "broken",
        "dropped",
        "effects",
        "error",
        "feed",
        "kwargs",
        "model",
        "over",
        "value",
    )

    def __init__(
        self,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        feed: Feed | None = None,
    ) -> None:
        self.model, self.args, self.kwargs, self.feed = model, args, kwargs, feed
        self.over = self.dropped = False
        self.effects = 0
        self.value = self.error = self.broken = self._foreign = self._greenlet = None

    # --- on the side of the machine

    def begin(self) -> Any:
        """Run the function up to its first request, which this gives, or to its end."""
        idle = _pool.idle
        self._greenlet = idle.pop() if idle else _greenlets().greenlet(_work)
        self.base = AMBIENT.get()
        return self._switch(self)

    def throw(self, error: BaseException) -> Any:
        """Answer the request by raising `error` in the function."""
        return self._switch(_Thrown(error))

    def _switch(self, what: Any) -> Any:
        """Go on with `what` as the answer, up to the next request or to the end."""
        greenlet = self._greenlet
        home = self._home = _getcurrent()
        context = home.gr_context
        if greenlet.gr_context is not context:
            greenlet.gr_context = context
        before = BRIDGE.get()
        BRIDGE.set(self)
        try:
            return greenlet.switch(what)
        except _greenlets().error as error:
            raise GreenletError(
                f"{describe(self.model)} is suspended on another thread, and an ordinary function "
                f"can be resumed only on the thread that it was started on. Resume it there, or "
                f"write the model as a generator: that can be resumed anywhere."
            ) from error
        finally:
            BRIDGE.set(before)
            self._home = None
            if self.broken is not None:
                broken, self.broken = self.broken, None
                raise broken

    send = _switch

    # --- on the side of the function

    def ask(self, request: Any) -> Any:
        """Give a request to the machine. Gives its answer, or raises it."""
        if self.feed is not None:
            return self._from_feed(request)
        self.effects += 1
        return self._go_home(request)

    def _go_home(self, request: Any) -> Any:
        home = self._home
        if home is None or _getcurrent() is not self._greenlet:
            if type(request) is Message:
                request.perform()  # it was asked for, and is refused
            raise GreenletError(
                f"{describe(self.model)} performs an effect in a thread or a greenlet that it has "
                f"started itself; effects are performed where the model runs"
            )
        if self.dropped:
            _pool.stuck.append(self._greenlet)
        if self._foreign is None:
            answer = home.switch(request)
        else:
            answer = self._away(self._foreign, home, request)
        if type(answer) is _Thrown:
            raise answer.error
        return answer

    def _away(self, other: Foreign, home: Any, request: Any) -> Any:
        """Go home, and leave the other library's state there as it was."""
        own = other.take()
        other.put(self._outer)
        other.release()
        answer = home.switch(request)
        if other.acquire():
            self._outer = other.take()
            other.put(own)
            return answer
        self._foreign = None
        if not other.is_fresh(own):
            raise GreenletError(
                f"{describe(self.model)} cannot go on inside of another library's handlers: "
                f"another thread runs a model in a greenlet at this time, and they are global"
            )
        return answer

    @property
    def has_foreign_state(self) -> bool:
        """Has the function another library's process-wide state for itself?"""
        return self._foreign is not None

    def wants(self, effect: str) -> bool:
        """Is there a handler around the function that could have a say in such an effect?"""
        return any(effect in getattr(entry, "clauses", (effect,)) for entry in self.base)

    def _break(self, error: BaseException) -> NoReturn:
        """Give the run up with an error that the function must not see, as it might catch it."""
        self.broken = error
        while True:
            self._go_home(None)

    # --- replay

    def answer_of(self, msg: Any) -> Any:
        """The recorded answer to a sample site: of `msg`, a message or a mapping like one."""
        feed = self.feed
        assert feed is not None
        name, value, pick = feed.left.pop()
        if name != msg["name"]:
            got = f"sample {msg['name']!r}"
            self._break(ReplayDiverged(f"sample {name!r}", got, describe(self.model)))
        if not feed.left:
            self.feed = None
        return value if type(value) in _PLAIN else feed.given(msg, value, pick)

    def _from_feed(self, request: Any) -> Any:
        if type(request) is GeneratorType:
            return self._follow(request)
        if type(request) is not Message:
            return self._go_home(request)
        request.perform()
        depth = len(self.base)
        segment = AMBIENT.get()[depth:]
        for entry in reversed(segment):
            entry._process_message(request)
        value = request["value"]
        if not (request["is_observed"] or request["done"] or value is not None):
            request["value"] = (
                self.answer_of(request) if request["type"] == "sample" else _default(request)
            )
        request["done"] = True
        for entry in AMBIENT.get()[depth:]:
            entry._postprocess_message(request)
        if request["continuation"] is not None:
            request["continuation"](request)
        return request["value"]

    def _follow(self, body: GeneratorType[Any, Any, Any]) -> Any:
        """Run a generator that the function called, here and not in the machine."""
        frames = [body]
        value: Any = None
        error: BaseException | None = None
        while frames:
            try:
                request = frames[-1].send(value) if error is None else frames[-1].throw(error)
                value = error = None
            except StopIteration as stop:
                frames.pop()
                value, error = stop.value, None
                continue
            except BaseException as raised:
                frames.pop()
                error = raised
                continue
            if type(request) is GeneratorType:
                frames.append(request)
                continue
            try:
                value = self.ask(request)
            except BaseException as raised:
                error = raised
        if error is not None:
            raise error
        return value

    # --- the end

    def __fork__(self, memo: Any) -> NoReturn:
        raise CaptureError(
            f"{describe(self.model)} is an ordinary function; it is run again for each resumption "
            f"but the first (written as a generator it could be cloned)"
        )


def _default(request: Any) -> Any:
    """What a parameter or the like gives again, when the function runs again."""
    from contpoutine.core.machine import default_value

    return default_value(request)


class _Guard:
    """Is gone when nobody can resume the bridge any more. (The greenlet's own stack holds that.)"""

    __slots__ = ("bridge",)

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    def outcome(self) -> tuple[Any, BaseException | None, int]:
        """What the function gave or raised, at its end, and how many effects it performed."""
        bridge = self.bridge
        error, bridge.error = bridge.error, None
        return bridge.value, error, bridge.effects

    def __del__(self) -> None:
        if not self.bridge.over and self.bridge._greenlet is not None:
            _drop(self.bridge)


class _Thrown:
    """An answer that is raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _work(bridge: Bridge) -> None:
    """What a greenlet does: run functions, one after the other."""
    here = _getcurrent()
    while True:
        try:
            other = foreign() if _look_for_foreign else None
            if other is None:
                _run(bridge)
                if foreign() is not None:
                    raise _imported_late(bridge)
            else:
                _run_beside(bridge, other)
            if bridge.feed is not None:
                raise _left_over(bridge)
        except BaseException as error:
            if bridge.dropped:
                return
            bridge.error = _too_deep(bridge, error) if type(error) is RecursionError else error
        bridge.over, bridge._greenlet = True, None
        home, bridge = bridge._home, None  # type: ignore[assignment]
        if len(_pool.idle) >= _MOST_IDLE:
            here.parent = home
            return
        _pool.idle.append(here)
        bridge = home.switch()


_again: Callable[[Bridge, Any], Feed | None] | None = getattr(native, "again", None)


def _run(bridge: Bridge) -> None:
    """Run a function; an enumeration may let it run again at once, with other answers."""
    model, args, kwargs = bridge.model, bridge.args, bridge.kwargs
    value = model(*args, **kwargs)
    if _again is not None:
        while (feed := _again(bridge, value)) is not None:
            bridge.feed = feed
            value = model(*args, **kwargs)
    bridge.value = value


def _run_beside(bridge: Bridge, other: Foreign) -> None:
    """Run a function that uses another library, with that library's state for itself."""
    if not other.acquire():
        _run(bridge)
        return
    bridge._foreign, bridge._outer = other, other.take()
    other.put(other.fresh())
    try:
        _run(bridge)
    finally:
        if bridge.has_foreign_state and not bridge.dropped:
            other.put(bridge._outer)
            other.release()


def _imported_late(bridge: Bridge) -> LateImportError:
    return LateImportError(
        f"{describe(bridge.model)} has imported pyro, whose sites could not be seen in a run that "
        f"began without it. Import pyro before the model runs."
    )


def _left_over(bridge: Bridge) -> ReplayDiverged:
    assert bridge.feed is not None
    expected = f"sample {bridge.feed.left[-1][0]!r}"
    return ReplayDiverged(expected, "nothing more and returned", describe(bridge.model))


def _too_deep(bridge: Bridge, error: RecursionError) -> DepthError:
    deep = DepthError(
        f"{describe(bridge.model)} calls itself deeper than Python's stack allows. Written as a "
        f"generator, with `yield` before each effect and before each call of a model, it has no "
        f"such limit."
    )
    deep.__cause__ = error
    quiet(+1)
    traceback.clear_frames(error.__traceback__)  # a request that it held was not forgotten
    quiet(-1)
    return deep


def _drop(bridge: Bridge) -> None:
    """Give up a function that waits for an answer that never comes.

    A greenlet has a C stack, which can only be left by unwinding it. With the extension nothing of
    the function runs meanwhile: its frames have lost their handlers. Without it, its `finally`
    blocks do run, in a context of their own; one that catches `GreenletExit` and asks for more is
    left suspended for good.
    """
    greenlets, greenlet = _greenlets(), bridge._greenlet
    bridge.dropped = True
    context = contextvars.copy_context()
    context.run(BRIDGE.set, bridge)
    outer = None if bridge._foreign is None else bridge._foreign.take()
    quiet(+1)
    try:
        here = bridge._home = _getcurrent()
        greenlet.gr_context = context
        greenlet.parent = here
        if native is not None:
            _silence(greenlet.gr_frame)
        greenlet.throw()
    except (greenlets.error, ValueError):
        pass  # it is another thread's; that one unwinds it when it can
    finally:
        quiet(-1)
        bridge._home = None
        if bridge._foreign is not None:
            bridge._foreign.put(outer)


def _silence(frame: Any) -> None:
    """Take the exception handlers of a suspended stack away, down to where the greenlet began."""
    while frame is not None and frame.f_code is not _work.__code__:
        if frame.f_code.co_exceptiontable:
            native.silence(frame, _without_handlers(frame.f_code))  # type: ignore[union-attr]
        frame = frame.f_back


@functools.lru_cache(maxsize=256)
def _without_handlers(code: CodeType) -> CodeType:
    return code.replace(co_exceptiontable=b"")


def as_generator(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    strict: bool = False,
    feed: Feed | None = None,
) -> Generator[Any, Any, Any]:
    """An ordinary function as a generator that yields its effects.

    A function that gives a generator is the model that it gives. With `strict`, one that performs
    no effect at all and gives no generator is no model. `feed` are answers to its first choices,
    which are given without asking the machine.
    """
    bridge: Any = Bridge(model, args, kwargs, feed)
    strict = strict and feed is None
    feed = None
    guard = _Guard(bridge)
    request = bridge.begin()
    while not bridge.over:
        try:
            answer = yield request
        except BaseException as error:
            if pure_is_quiet() and type(error) is GeneratorExit:  # discarded, rather than closed
                raise
            request = bridge.throw(error)
        else:
            request = bridge.send(answer)
    bridge = None
    value, failure, effects = guard.outcome()
    del guard  # from here on this frame holds nothing that cannot be cloned
    if failure is not None:
        try:
            raise failure
        finally:
            failure = None  # its traceback holds this frame
    if type(value) is GeneratorType:
        body, value = [value], None
        return (yield body.pop())  # a call; what is called is not held by this frame
    if strict and not effects and type(value) is not Message:
        check_dropped()
        raise no_model(model, value)
    return value


class Plain:
    """How many effects ordinary functions have performed in this process without a machine."""

    performed = 0


def plainly(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call an ordinary function: what it performs goes past the handlers installed here.

    Raises `UnperformedEffectError` where it builds a request for a generator to yield, and drops it
    or gives it as its value.
    """
    if _look_for_foreign:
        foreign()  # from now on it hears of that library's sites
    # Inside a bridged function a machine runs already, and this frame may be given up unfinished.
    change = 1 if BRIDGE.get() is None else 0
    machine_runs(change)
    try:
        value = model(*args, **kwargs)
        check_dropped()
    finally:
        machine_runs(-change)
    if type(value) is Message and not value.performed:
        bool(value)  # refused: the request is not its value
    return value
