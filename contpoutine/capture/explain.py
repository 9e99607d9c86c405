"""`cp.explain`: how the continuation of each site would be resumed a second time, and why.

The model runs once, with choices drawn at random. At each site its suspended frames are copied for
the sake of trying and dropped again, so the answer is what an enumeration would find there, not a
guess. What the text of the model says about the contract is read beside it (`contract.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from contpoutine.capture.contract import Note, contract_notes
from contpoutine.capture.remedies import remedy
from contpoutine.core.ambient import AMBIENT
from contpoutine.core.capture import STRATEGY, WITNESS, provider
from contpoutine.core.continuation import Continuation, Origin
from contpoutine.core.handler import Mark
from contpoutine.core.machine import Computation, Finished, default_value, is_decided
from contpoutine.core.model import describe, innermost, start
from contpoutine.core.record import site
from contpoutine.errors import CaptureError


@dataclass(frozen=True)
class Cause:
    """Why a continuation cannot be cloned.

    Attributes:
        place: what holds the object, such as "local 'file'"; "" where no frame is to blame.
        function, filename, line: the frame that holds it, and where that frame waits.
        reason: which object, and why it cannot be copied.
        instead: what to write instead.
    """

    place: str
    function: str
    filename: str
    line: int
    reason: str
    instead: str

    def __str__(self) -> str:
        held = f"{self.place} in {self.function} at {self.filename}:{self.line}"
        return (
            f"{held} holds what a clone cannot copy: {self.reason}" if self.place else self.reason
        )


@dataclass(frozen=True)
class Site:
    """One site of the model, as `explain` found it.

    Attributes:
        effect, name: what the site asks for.
        where: file, line and function of the yield.
        visits: how often the run came by.
        strategy: "clone", or "replay" where one visit at least could not be cloned.
        cause: why it is replayed, or None.
    """

    effect: str
    name: Any
    where: str
    visits: int
    strategy: Literal["clone", "replay"]
    cause: Cause | None


@dataclass(frozen=True)
class Explanation:
    """What `explain` gives; print it, or read it.

    Attributes:
        model: name and place of the model.
        sites: the sites that the run came by, in order.
        notes: what the text of the model, or the run, says about things that branches share.
    """

    model: str
    sites: tuple[Site, ...]
    notes: tuple[Note, ...]

    @property
    def cloned(self) -> bool:
        """Is every site cloned?"""
        return all(found.strategy == "clone" for found in self.sites)

    def __repr__(self) -> str:
        replayed = sum(found.strategy == "replay" for found in self.sites)
        lines = [f"{self.model}: {len(self.sites) - replayed} sites cloned, {replayed} replayed"]
        for found in self.sites:
            times = "" if found.visits == 1 else f" ({found.visits} visits)"
            lines.append(f"  {found.strategy:6}  {site(found.effect, found.name)}{times}")
            lines.append(f"          {found.where}")
            if found.cause is not None:
                lines += [f"          {found.cause}", f"          instead: {found.cause.instead}"]
        if self.notes:
            lines.append("  what branches share, and a replay does not put back:")
        for note in self.notes:
            lines += [f"    {note}", f"      instead: {note.instead}"]
        return "\n".join(lines)


def explain(model: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Run the model once, and say for each site whether its continuation is cloned or replayed.

    Where it is replayed, the explanation names the object that cannot be copied, the local that
    holds it, the line, and what to write instead. Sites are those at which somebody could resume
    the model more than once: undecided `sample` sites, and effects that a control handler of the
    model takes. The notes say what the model's text does to things that branches share, such as
    globals. Sites that this run did not come by are not in it. The global random number generators
    are left as they were.

    Raises:
        NotAModelError: the model is no generator function.
        UnhandledEffectError: the model performs an effect that has no default; explain
            `handle(handler, model)` instead.

    >>> import contpoutine as cp
    >>> def model():
    ...     with open("/dev/null") as file:
    ...         x = yield cp.sample("x", cp.distributions.Flip(0.5))
    ...     return x
    >>> explanation = cp.explain(model)
    >>> explanation.sites[0].strategy, explanation.cloned
    ('replay', False)
    """
    look = _Look()
    randomness = provider().randomness()
    tokens = STRATEGY.set("auto"), WITNESS.set(look.at_continuation)
    try:
        look.run(model, args, kwargs)
    finally:
        STRATEGY.reset(tokens[0])
        WITNESS.reset(tokens[1])
        provider().restore_randomness(randomness)
    return Explanation(
        describe(model), look.found(), (*contract_notes(model), *look.changes.values())
    )


@dataclass
class _Visit:
    effect: str
    name: Any
    where: str
    visits: int = 0
    cause: Cause | None = None


@dataclass
class _Look:
    """What has been seen so far."""

    visits: dict[tuple[Any, ...], _Visit] = field(default_factory=dict)
    changes: dict[tuple[Any, ...], Note] = field(default_factory=dict)
    watched: list[tuple[Any, list[Any], list[str]]] = field(default_factory=list)

    def run(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        computation = Computation([start(model, args, kwargs)], (), Origin(model, args, kwargs))
        event = computation.resume()
        outer = [entry for entry in AMBIENT.get() if type(entry) is not Mark]
        while type(event) is not Finished:
            try:
                _pass_up(event, outer)
                self.at_event(computation, event)
                value = _answer(event, outer)
            except Exception as error:
                event = computation.answer_by_error(error)
                continue
            event = computation.answer(value)
        self.check_tensors()

    def at_event(self, computation: Computation, msg: Any) -> None:
        self.check_tensors()
        if msg["type"] != "sample" or is_decided(msg):
            return
        self.visit(msg, computation.fork)
        origin = computation.origin
        watch = provider().watch(
            computation.frames, computation.segment, origin.outside if origin else None
        )
        if watch is not None:
            names = [_name_of(tensor, computation.frames) for tensor in watch[::2]]
            self.watched.append((msg.where, watch, names))

    def at_continuation(self, k: Continuation) -> None:
        snapshot = k._snapshot
        if snapshot is not None:
            self.visit(k.msg, lambda: snapshot.fork(k.origin.outside))

    def visit(self, msg: Any, fork: Callable[[], Any]) -> None:
        key = (msg["type"], str(msg["name"]), msg.where)
        seen = self.visits.setdefault(key, _Visit(msg["type"], msg["name"], msg.where))
        seen.visits += 1
        try:
            fork()
        except CaptureError as error:
            if seen.cause is None:
                reason = error.reason or str(error)
                seen.cause = Cause(
                    error.place or "",
                    error.function or "",
                    error.filename or "",
                    error.line or 0,
                    reason,
                    remedy(reason),
                )

    def check_tensors(self) -> None:
        """Say which tensors have been changed in place since a site that branches."""
        for where, watch, names in self.watched:
            for tensor, version, name in zip(watch[::2], watch[1::2], names, strict=True):
                if not hasattr(tensor, "shape") or getattr(tensor, "_version", None) == version:
                    continue
                self.changes.setdefault(
                    (where, name),
                    Note(
                        "tensor",
                        where,
                        f"the tensor {name} is changed in place after this site, so its first "
                        f"branches are replayed; after that, forks copy it here",
                        "make a new tensor: `x = x + y` and not `x += y`",
                    ),
                )

    def found(self) -> tuple[Site, ...]:
        return tuple(
            Site(
                seen.effect,
                seen.name,
                seen.where,
                seen.visits,
                "clone" if seen.cause is None else "replay",
                seen.cause,
            )
            for seen in self.visits.values()
        )


def _pass_up(msg: Any, outer: list[Any]) -> None:
    """Show a message to the handlers around the explanation."""
    for entry in reversed(outer):
        entry._process_message(msg)
        if msg["stop"]:
            break


def _answer(msg: Any, outer: list[Any]) -> Any:
    """What an effect is answered: as the handlers around have it, or its default."""
    value = msg["value"] if is_decided(msg) else default_value(msg)
    msg["value"], msg["done"] = value, True
    for entry in outer:
        entry._postprocess_message(msg)
    return msg["value"]


def _name_of(tensor: Any, frames: list[Any]) -> str:
    """The local that holds a tensor, as far as it can be told."""
    for frame in reversed(frames):
        inner = innermost(frame) if hasattr(frame, "gi_frame") else None
        if inner is not None and inner.gi_frame is not None:
            for name, value in inner.gi_frame.f_locals.items():
                if value is tensor:
                    return f"in local {name!r}"
    return "that the model holds"
