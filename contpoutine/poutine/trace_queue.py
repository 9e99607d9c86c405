"""queue: partial executions in a queue of the user's, continued one by one.

Pyro's queue runs the model from its start for every partial trace that it takes. This one keeps
the suspended execution with each trace that it puts, and resumes it. The traces are the same, in
the same order; the difference is that nothing of the model runs twice.

A trace from the queue is *resumed* if it is as it was put, with nothing but one more site than the
execution that is kept with it. Any other trace (the empty one that starts it all, one that somebody
made or changed) starts the model afresh and lends its values, as a replay does. So the queue is the
whole frontier, and whoever owns it may drop, reorder and add traces.

To the handlers around it the queued model looks like one execution, from its first site to its
last, however much of it was run in an earlier call. Sites whose values the queue has chosen are
*shown* to them late: when a handler further out is needed for an answer, or at the end. So an
execution that is given up at a choice is mostly never seen; where it was, the handlers are told to
forget it (`_reset`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable
from operator import is_
from typing import Any, NamedTuple, Protocol

from contpoutine.core.ambient import AMBIENT
from contpoutine.core.checkpoint import Checkpoint
from contpoutine.core.continuation import Origin
from contpoutine.core.machine import Computation, Finished, rerun
from contpoutine.core.model import describe, start
from contpoutine.core.record import Answer
from contpoutine.distributions.content import content_key
from contpoutine.errors import EmptyQueueError, MaxTriesError, OverruledError
from contpoutine.poutine.at_once import LISTENER, Listener
from contpoutine.poutine.replay_messenger import replay_site
from contpoutine.poutine.runtime import handlers_that_see
from contpoutine.poutine.trace_messenger import TraceMessenger
from contpoutine.poutine.trace_struct import Trace

EscapeFn = Callable[[Trace, Any], bool]
ExtendFn = Callable[..., Iterable[Trace]]


class Queue(Protocol):
    """What is asked of a queue: `queue.Queue`, `LifoQueue` and the like have it."""

    def get(self) -> Any: ...
    def put(self, item: Any) -> Any: ...
    def empty(self) -> bool: ...


class Settings(NamedTuple):
    """The arguments of `poutine.queue`."""

    model: Callable[..., Any]
    queue: Queue
    max_tries: int
    extend_fn: ExtendFn
    escape_fn: EscapeFn
    num_samples: int


class Site:
    """An effect that has left the model, as it left, with its answer; newest first."""

    fork_shared = True
    __slots__ = ("answer", "chosen", "earlier", "error", "log", "msg")

    def __init__(
        self,
        earlier: Site | None,
        msg: Any,
        log: Answer | None,
        answer: Any,
        error: BaseException | None = None,
        chosen: bool = False,
    ) -> None:
        self.earlier, self.msg, self.log = earlier, msg, log
        self.answer, self.error, self.chosen = answer, error, chosen


class Suspended:
    """What is kept with a trace in the queue: an execution that waits at the trace's last site."""

    fork_shared = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        sites: Site | None,
        trace: Trace,
        call: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> None:
        self.checkpoint, self.sites, self.call = checkpoint, sites, call
        self.nodes = tuple(trace.nodes.values())
        self.values = tuple([node.get("value") for node in self.nodes])

    def continues(self, trace: Trace, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Is `trace` what was kept and one more drawn site, and is the call the same?"""
        nodes = list(trace.nodes.values())
        if len(nodes) != len(self.nodes) + 1 or not self._is_call(args, kwargs):
            return False
        last = nodes.pop()
        return (
            all(map(is_, nodes, self.nodes))
            and all(map(is_, [node.get("value") for node in nodes], self.values))
            and (last["type"], last["name"]) == ("sample", self.checkpoint.msg["name"])
            and not last["is_observed"]
        )

    def _is_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        then_args, then_kwargs = self.call
        return (
            len(args) == len(then_args)
            and kwargs.keys() == then_kwargs.keys()
            and all(map(is_, args, then_args))
            and all(kwargs[key] is then_kwargs[key] for key in kwargs)
        )


def queued(settings: Settings) -> Callable[..., Generator[Any, Any, Any]]:
    """The model that gives one complete execution a call."""

    @functools.wraps(settings.model, updated=())
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        shown, stopped_at = Shown(), None
        for _ in range(settings.max_tries):
            execution = Execution(settings, _next(settings), args, kwargs, shown)
            if not shown.is_part_of(execution.sites):
                shown.take_back(stopped_at)
            if (yield from execution.run()):
                return execution.value
            stopped_at = execution.stopped_at
        raise MaxTriesError(
            f"poutine.queue has continued {settings.max_tries} partial executions of "
            f"{describe(settings.model)} in one call, and none came to its end. Each continues up "
            f"to the next site that escape_fn stops at; if that is meant, give a larger max_tries."
        )

    return call


def _next(settings: Settings) -> Trace:
    if settings.queue.empty():
        raise EmptyQueueError(
            f"the queue of {describe(settings.model)} is empty, so there is no execution to "
            f"continue. Put an empty trace in to start, `queue.put(poutine.Trace())`, and call the "
            f"model `while not queue.empty()`."
        )
    trace = settings.queue.get()
    if not isinstance(trace, Trace):
        raise TypeError(f"poutine.queue needs traces from its queue, and was given {trace!r}")
    return trace


class Shown:
    """What the handlers around the queue have seen of the execution that goes on."""

    def __init__(self) -> None:
        self.site: Site | None = None
        self.before = [
            (entry, entry._mark()) for entry in AMBIENT.get() if isinstance(entry, TraceMessenger)
        ]

    def is_part_of(self, site: Site | None) -> bool:
        """Do the sites up to `site` begin with what was shown?"""
        if self.site is None:
            return True
        while site is not None and site is not self.site:
            site = site.earlier
        return site is self.site

    def take_back(self, msg: Any) -> None:
        """The execution was given up at `msg`: what the handlers have seen of it is void."""
        before = dict(self.before)
        for entry in handlers_that_see(msg):
            if isinstance(entry, TraceMessenger) and entry in before:
                entry._rewind(before[entry])
            else:
                entry._reset()
        self.site = None

    def __fork__(self, memo: Callable[[Any], Any]) -> Shown:
        fresh = Shown.__new__(Shown)
        fresh.site = self.site
        fresh.before = [(memo(entry), mark) for entry, mark in self.before]
        return fresh


class Execution:
    """One execution, from where a partial trace leaves it to its end or to its next choice.

    Attributes:
        sites: what has left the model up to now.
        trace: the same as the trace that extend functions see.
        value: the model's result, at the end.
        stopped_at: the message of the choice, where it stopped at one.
    """

    def __init__(
        self,
        settings: Settings,
        partial: Trace,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        shown: Shown,
    ) -> None:
        self.settings, self.partial, self.shown = settings, partial, shown
        self.args, self.kwargs = args, kwargs
        self.kept: Suspended | None
        self.kept, partial._resume = partial._resume, None
        if self.kept is not None and not self.kept.continues(partial, args, kwargs):
            self.kept = None
        self.sites: Site | None = None if self.kept is None else self.kept.sites
        self.computation: Computation
        self.trace: Trace
        self.value = self.stopped_at = None

    def run(self) -> Generator[Any, Any, bool]:
        """Run to the end (True) or to the next choice (False)."""
        event = self._begin() if self.kept is None else self._go_on(self.kept)
        while True:
            while type(event) is not Finished:
                if event["type"] == "sample":
                    replayed = replay_site(self.partial, event)
                    if self.settings.escape_fn(self.partial, event):
                        self._stop(event)
                        return False
                    if replayed:
                        event = self._choose(event)
                        continue
                event = yield from self._ask(event)
            self.value, event = event.value, None
            event = yield from self._show()
            if event is None:
                return True

    # --- where it begins and where it stops

    def _begin(self) -> Any:
        """Start the model. Gives its first event."""
        args, kwargs = self.args, self.kwargs
        self.trace = Trace()
        self.trace.add_node("_INPUT", name="_INPUT", type="args", args=args, kwargs=kwargs)
        origin = Origin(self.settings.model, args, kwargs)
        self.computation = Computation([start(origin.model, args, kwargs)], (), origin)
        return self._listening(self._hear, self.computation.resume)

    def _go_on(self, kept: Suspended) -> Any:
        """Resume the execution that was kept with the partial trace."""
        self.trace = self.partial.copy()
        self.trace.remove_node(kept.checkpoint.msg["name"])  # it is recorded again as it is chosen
        self.computation = self._listening(_ignore, kept.checkpoint.resume)
        msg = self.computation.pending
        replay_site(self.partial, msg)
        return self._choose(msg)

    def _stop(self, msg: Any) -> None:
        """Stop at a choice: each way to go on becomes a trace in the queue."""
        settings = self.settings
        self.stopped_at = msg.copy()
        self.computation.undecided = True
        call = (self.args, self.kwargs)
        here = Suspended(Checkpoint(self.computation), self.sites, self.trace, call)
        trace, site = self.trace.copy(), msg.copy()
        for longer in settings.extend_fn(trace, site, num_samples=settings.num_samples):
            if isinstance(longer, Trace):
                longer._resume = here
            settings.queue.put(longer)

    # --- answering

    def _choose(self, msg: Any) -> Any:
        """Answer a site with the value that the partial trace has for it."""
        self._add(msg.copy(), msg["value"], chosen=True)
        self._record(msg)
        return self._listening(self._hear, self.computation.answer, msg["value"])

    def _ask(self, msg: Any) -> Generator[Any, Any, Any]:
        """Answer a site with what the handlers further out say, or its default."""
        otherwise = yield from self._show()
        if otherwise is not None:
            return otherwise
        left = msg.copy()
        then, msg["continuation"] = msg["continuation"], None  # it is for the inner handlers' end
        try:
            msg.lend()  # it is sent on, as a clause would
            value = yield msg
        except BaseException as error:
            return self._answer(left, None, error)
        msg["continuation"] = then
        return self._answer(left, value, None)

    def _answer(self, left: Any, value: Any, error: BaseException | None) -> Any:
        """Answer the pending message, which has been shown, with a value or an error."""
        self._add(left, value, error)
        self.shown.site = self.sites
        if error is not None:
            return self._listening(self._hear, self.computation.answer_by_error, error)
        self._record(self.computation.pending)
        return self._listening(self._hear, self.computation.answer, value)

    def _add(
        self, left: Any, value: Any, error: BaseException | None = None, chosen: bool = False
    ) -> None:
        # Each answer goes into the computation's log, not only those that nobody inside decided:
        # a handler further out can overrule what was decided inside.
        self.computation.undecided = True
        self.sites = Site(self.sites, left, self.computation.log, value, error, chosen)

    def _record(self, msg: Any) -> None:
        if msg["type"] == "param" or (
            msg["type"] == "sample" and not msg["infer"].get("_do_not_trace")
        ):
            self.trace.add_message(msg.copy())

    # --- what is performed at once, by a plate: seen later, like all the rest

    def _listening(self, hear: Callable[[Any], None], go_on: Callable[..., Any], *args: Any) -> Any:
        token = LISTENER.set(Listener(len(AMBIENT.get()), hear))
        try:
            return go_on(*args)
        finally:
            LISTENER.reset(token)

    def _hear(self, msg: Any) -> None:
        self.sites = Site(self.sites, msg.copy(), self.computation.log, msg["value"], chosen=True)
        self._record(msg)

    # --- the handlers further out

    def _show(self) -> Generator[Any, Any, Any]:
        """Let the handlers further out see the sites that they have not seen yet.

        Where one of them answers a site otherwise than in the call in which it was performed, the
        model goes on from that site with the new answer, and what it does next is the result.
        """
        for site in self._unseen():
            msg = site.msg.copy()
            msg["continuation"] = None
            if site.error is None:
                msg["value"], msg["done"] = site.answer, True
            error: BaseException | None = None
            try:
                msg.lend()  # it is sent on, as a clause would
                value = yield msg
            except GeneratorExit:  # closed: so is the model, where it waits
                if self.computation.pending is not None:
                    self.computation.answer_by_error(GeneratorExit())
                raise
            except BaseException as raised:
                value, error = None, raised
            if type(error) is not type(site.error) or not _same(value, site.answer):
                return self._go_back(site, value, error)
            self.shown.site = site
        return None

    def _unseen(self) -> list[Site]:
        unseen, site = [], self.sites
        while site is not None and site is not self.shown.site:
            unseen.append(site)
            site = site.earlier
        unseen.reverse()
        return unseen

    def _go_back(self, site: Site, value: Any, error: BaseException | None) -> Any:
        if site.chosen and error is None:
            raise OverruledError(
                f"a handler around poutine.queue gave site {site.msg['name']!r}, performed at "
                f"{site.msg.where}, the value {value!r}, where the queue had chosen "
                f"{site.answer!r}. Put it inside: queue(condition(model, data=...), queue=q)."
            )
        void = self.sites
        while void is not site.earlier:
            assert void is not None  # `site` is one of them
            if void.msg["name"] in self.trace:
                self.trace.remove_node(void.msg["name"])
            void = void.earlier
        origin = self.computation.origin
        assert origin is not None
        self.computation = self._listening(_ignore, rerun, origin, site.log, site.msg, True)
        self.sites, msg = site.earlier, self.computation.pending
        left = msg.copy()
        msg["value"] = value
        return self._answer(left, value, error)

    def __fork__(self, memo: Callable[[Any], Any]) -> Execution:
        fresh = Execution.__new__(Execution)
        memo.record(self, fresh)  # type: ignore[attr-defined]
        for name, value in vars(self).items():
            setattr(fresh, name, memo(value))
        return fresh


def _ignore(msg: Any) -> None:
    """For a model that runs again: it was heard the first time."""


def _same(one: Any, other: Any) -> bool:
    return one is other or bool(content_key(one) == content_key(other))
