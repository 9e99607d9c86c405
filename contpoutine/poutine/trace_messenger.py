"""trace: record an execution.

What has been recorded is an immutable list, newest site first, so that recording a site and forking
the recorder cost O(1), and branches share what they have in common. The `Trace` is made from it
when somebody asks; from then on it is the record, and sites are added to it as they come.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from types import GeneratorType
from typing import Any, Self

from contpoutine.core.bridge import plainly
from contpoutine.core.machine import run
from contpoutine.core.messenger import Messenger
from contpoutine.core.model import is_generator_model, start
from contpoutine.distributions.content import is_tensor
from contpoutine.poutine.trace_struct import Trace

_ATOMS = frozenset({bool, int, float, complex, str, bytes, type(None)})


class Record:
    """One recorded site. It is *loose* if a model could change its value in place.

    Which records are loose is asked when the recorder is forked, once of each record.
    """

    fork_shared = True
    __slots__ = ("_loose", "earlier", "site")

    def __init__(self, earlier: Record | None, site: Any) -> None:
        self.earlier, self.site = earlier, site
        self._loose: Record | bool | None = False  # not looked at yet

    def newest_loose(self) -> Record | None:
        """The newest loose record, this one or an earlier one."""
        unseen: list[Record] = []
        record: Record | None = self
        while record is not None and record._loose is False:
            unseen.append(record)
            record = record.earlier
        found = None if record is None else record._loose
        for record in reversed(unseen):
            found = record._loose = found if _is_fixed(record.site["value"]) else record
        return found  # type: ignore[return-value]


def _is_fixed(value: Any) -> bool:
    return (
        type(value) in _ATOMS
        or is_tensor(value)
        or (type(value) is tuple and all(type(item) in _ATOMS for item in value))
    )


def fork_record(newest: Record, memo: Callable[[Any], Any]) -> Record:
    """The record as another branch has it: values that a model can change are its own."""
    changed: dict[Record, dict[str, Any]] = {}
    loose = newest.newest_loose()
    while loose is not None:
        site = loose.site
        forked = {key: memo(site[key]) for key in ("value", "fn") if key in site}
        if any(forked[key] is not site[key] for key in forked):
            changed[loose] = forked
            oldest = loose
        loose = None if loose.earlier is None else loose.earlier.newest_loose()
    if not changed:
        return newest
    above = [newest]
    while above[-1] is not oldest:
        above.append(above[-1].earlier)  # type: ignore[arg-type]
    fresh = oldest.earlier
    for old in reversed(above):
        site = old.site
        if old in changed:
            site = site.copy()
            site.update(changed[old])
        fresh = Record(fresh, site)
    return fresh  # type: ignore[return-value]


class TraceMessenger(Messenger):
    """Records sample and parameter sites; `.trace` is the record.

    Entering it starts afresh. A site with `infer={"_do_not_trace": True}` is left out.

    Args:
        graph_type: "flat", or "dense" for a trace with edges.
        param_only: record parameters only.
    """

    def __init__(self, graph_type: str | None = None, param_only: bool | None = None) -> None:
        self.graph_type, self.param_only = graph_type or "flat", bool(param_only)
        self._input: dict[str, Any] | None = None
        self._newest: Record | None = None
        self._trace: Trace | None = Trace(self.graph_type)

    def __enter__(self) -> Self:
        self._input = self._newest = self._trace = None
        return super().__enter__()

    @property
    def trace(self) -> Trace:
        """What has been recorded up to now. Raises `DuplicateSiteError` if a name came twice."""
        if self._trace is None:
            self._trace = self._made()
        return self._trace

    @trace.setter
    def trace(self, trace: Trace) -> None:
        self._trace = trace

    def _made(self) -> Trace:
        sites = []
        record = self._newest
        while record is not None:
            sites.append(record.site)
            record = record.earlier
        trace = Trace(self.graph_type)
        if self._input is not None:
            trace.add_node("_INPUT", **self._input)
        sites.reverse()
        trace.add_messages(sites)
        self._newest = None
        return trace

    def get_trace(self) -> Trace:
        """A copy of `.trace`."""
        return self.trace.copy()

    def __call__(self, fn: Callable[..., Any]) -> TraceHandler:
        return TraceHandler(self, fn)

    def _record(self, site: Any) -> None:
        if self._trace is not None:
            self._trace.add_message(site)
        else:
            self._newest = Record(self._newest, site)

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.param_only or msg["infer"].get("_do_not_trace"):
            return
        if self._trace is None:
            self._newest = Record(self._newest, msg.copy())
        else:
            self._trace.add_message(msg.copy())

    def _pyro_post_param(self, msg: Any) -> None:
        self._record(msg.copy())

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.param_only:
            self._input = {"name": "_INPUT", "type": "args", "args": args, "kwargs": kwargs}

    def _returned(self, value: Any) -> None:
        if not self.param_only:
            self._record({"name": "_RETURN", "type": "return", "value": value})

    # --- executions that are given up

    def _reset(self) -> None:
        self._newest = self._trace = None

    def _mark(self) -> tuple[Record | None, Trace | None]:
        """What has been recorded, to come back to."""
        return self._newest, None if self._trace is None else self._trace.copy()

    def _rewind(self, mark: tuple[Record | None, Trace | None]) -> None:
        self._newest = mark[0]
        self._trace = None if mark[1] is None else mark[1].copy()

    def __fork__(self, memo: Callable[[Any], Any]) -> Self:
        fresh = type(self).__new__(type(self))
        memo.record(self, fresh)  # type: ignore[attr-defined]
        fresh.__dict__.update(self.__dict__)
        if type(self) is not TraceMessenger:
            for name, value in self.__dict__.items():
                fresh.__dict__[name] = memo(value)
        else:
            fresh._input, fresh._trace = memo(self._input), memo(self._trace)
        if self._newest is not None:
            fresh._newest = fork_record(self._newest, memo)
        return fresh


class TraceHandler:
    """A model whose executions are recorded: what `trace(model)` gives.

    It is a model itself: `yield trace(model)(*args)` runs it in the same computation, and other
    handlers wrap it. `get_trace(*args)` runs it and gives the record. Each call records afresh;
    `.trace` is the record of the call that began last.
    """

    def __init__(self, msngr: TraceMessenger, fn: Callable[..., Any]) -> None:
        self.msngr, self.fn = msngr, fn
        functools.update_wrapper(self, fn, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        recorder = self._recorder()
        if is_generator_model(self.fn):
            return self._follow(recorder, None, args, kwargs)
        return self._call(recorder, args, kwargs)

    def _call(self, recorder: TraceMessenger, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.msngr = recorder
        with recorder:
            recorder._called(args, kwargs)
            result = plainly(self.fn, args, kwargs)
            if isinstance(result, GeneratorType):
                return self._follow(recorder, result, args, kwargs)
            recorder._returned(result)
        return result

    def _follow(
        self,
        recorder: TraceMessenger,
        body: Generator[Any, Any, Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Generator[Any, Any, Any]:
        self.msngr = recorder
        with recorder:
            recorder._called(args, kwargs)
            value = yield from start(self.fn, args, kwargs) if body is None else body
            recorder._returned(value)
        return value

    @property
    def gives_generator(self) -> bool:
        """Is the model a generator model?"""
        return is_generator_model(self.fn)

    def get_trace(self, *args: Any, **kwargs: Any) -> Trace:
        """Run the model with these arguments, and give the record of it.

        Inside a model, write `with trace() as tr: x = yield model(...)` and then `tr.trace`, so
        that handlers further out and the enumeration see the sites.
        """
        recorder = self._recorder()
        if is_generator_model(self.fn):
            run(self._follow, recorder, None, args, kwargs)
        else:
            result = self._call(recorder, args, kwargs)
            if isinstance(result, GeneratorType):
                run(lambda: result)
        return recorder.get_trace()

    @property
    def trace(self) -> Trace:
        """The record of the call that began last."""
        return self.msngr.trace

    def _recorder(self) -> TraceMessenger:
        """A recorder for one call."""
        given, named = self.msngr._given
        return type(self.msngr)(*given, **named)

    def __get__(self, instance: Any, owner: type | None = None) -> TraceHandler:
        if instance is None:
            return self
        bind = getattr(self.fn, "__get__", None)
        return self if bind is None else TraceHandler(self.msngr, bind(instance, owner))

    def __fork__(self, memo: Callable[[Any], Any]) -> TraceHandler:
        fresh = TraceHandler.__new__(TraceHandler)
        memo.record(self, fresh)  # type: ignore[attr-defined]
        fresh.__dict__.update({name: memo(value) for name, value in self.__dict__.items()})
        return fresh

    def __repr__(self) -> str:
        return f"trace({getattr(self, '__qualname__', self.fn)})"
