"""The message: what a model yields, and what the handlers see.

To a handler a message is the seed's dictionary: the fourteen keys below with their defaults, and
any key that a handler adds. To a model it is a request, to be yielded once; until a machine has
taken it (`performed`), using it as if it were its value raises `UnperformedEffectError`, and so
does dropping it, in the machine that runs the model.

The type lives in C where the extension is there (`native/message.c`); `PureMessage` is the same
thing in Python, and one set of tests runs over both.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Generator, Iterator
from typing import Any, NoReturn, Protocol, TypeVar

from contpoutine.core.native import native
from contpoutine.errors import UnperformedEffectError, UnperformedEffectWarning

KEYS = (
    "type",
    "name",
    "fn",
    "value",
    "is_observed",
    "args",
    "kwargs",
    "infer",
    "done",
    "stop",
    "scale",
    "mask",
    "continuation",
    "cond_indep_stack",
)
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(KEYS),
    "is_observed": False,
    "args": (),
    "done": False,
    "stop": False,
    "scale": 1.0,
    "cond_indep_stack": (),
}


class _Thread(threading.local):
    """Per thread: how many machines run, and what the first lost request of the run would say."""

    machines = 0
    dropped: str | None = None
    quiet = 0  # above zero while a branch is being discarded: what it drops is no news


_thread = _Thread()


class PureMessage:
    """An effect request, and the message that handlers see.

    >>> msg = PureMessage(type="sample", name="x")
    >>> msg["scale"], msg["infer"], "value" in msg
    (1.0, {}, True)
    >>> msg.perform()
    """

    __slots__ = ("_birth", "_fields", "_lent", "_performed")

    def __init__(self, **fields: Any) -> None:
        self._fields: dict[str, Any] = fields
        self._performed: bool | None = False
        self._lent = False
        frame = sys._getframe(1)
        self._birth = (frame.f_code, frame.f_lineno)

    # --- the mapping

    def __getitem__(self, key: str) -> Any:
        if self._performed is False and not isinstance(key, str):
            self._misused()
        if key in self._fields:
            return self._fields[key]
        if key in ("kwargs", "infer"):
            return self._fields.setdefault(key, {})
        return _DEFAULTS[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._fields[key] = value

    def __delitem__(self, key: str) -> None:
        if key in KEYS:
            raise KeyError(f"the field {key!r} of a message cannot be deleted")
        del self._fields[key]

    def __contains__(self, key: object) -> bool:
        if self._performed is False and not isinstance(key, str):
            self._misused()
        return key in self._fields or key in KEYS

    def __len__(self) -> int:
        if self._performed is False:
            self._misused()
        return len(self.keys())

    def __iter__(self) -> Iterator[Any]:
        return self._perform() if self._performed is False else iter(self.keys())

    def keys(self) -> list[str]:
        return [*KEYS, *(key for key in self._fields if key not in KEYS)]

    def values(self) -> list[Any]:
        return [self[key] for key in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        return [(key, self[key]) for key in self.keys()]

    def as_dict(self) -> dict[str, Any]:
        """The message's fields, as a dict of their own."""
        return dict(self.items())

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, other: Any = (), **fields: Any) -> None:
        self._fields.update(other, **fields)

    def copy(self) -> PureMessage:
        """A message with the same fields; `infer` is copied too."""
        fresh = PureMessage(**self._fields)
        if isinstance(fresh._fields.get("infer"), dict):
            fresh._fields["infer"] = dict(fresh._fields["infer"])
        fresh._performed, fresh._birth = True, self._birth
        fresh._lent = True  # who copies a message may send the copy on
        return fresh

    # --- the request

    @property
    def performed(self) -> bool:
        """Has a machine taken the request?"""
        return self._performed is True

    @property
    def where(self) -> str:
        """Where the request was written: file, line and function."""
        code, line = self._birth
        return f"{code.co_filename}:{line}, in {code.co_qualname}"

    def born_in_caller(self) -> PureMessage:
        """Take the caller of the running function as the place where the request was written."""
        frame = sys._getframe(2)
        self._birth = (frame.f_code, frame.f_lineno)
        return self

    def born_at(self, frame: Any) -> PureMessage:
        """Take the line at which a frame stands as the place where the request was written."""
        self._birth = (frame.f_code, frame.f_lineno)
        return self

    def perform(self) -> None:
        """Mark the request as taken by a machine."""
        self._performed = True

    def lend(self) -> None:
        """Give the message to a clause, which may yield it again."""
        self._lent = True

    @property
    def lent(self) -> bool:
        """Is the message in the hands of a clause?"""
        return self._lent

    def _perform(self) -> Iterator[Any]:
        return (yield self)

    def __repr__(self) -> str:
        state = "" if self._performed else ", not yet yielded"
        return f"<{self['type']} {self['name']!r} value={self['value']!r}{state}>"

    # --- misuse

    def _unperformed(self, what: str) -> str:
        request = f"{self['type']}({self['name']!r}, ...)"
        return (
            f"the effect {request} built at {self.where} {what}: an effect happens when the model "
            f"yields it. Write `x = yield {request}` (or `x = yield from {request}`)."
        )

    def _misused(self, *_: Any, **__: Any) -> NoReturn:
        if self._performed:
            raise UnperformedEffectError(
                'an effect message is no number; its value is message["value"]'
            )
        text = self._unperformed("was used as if it were its value")
        self._performed = None  # said once: the drop is not reported as well
        raise UnperformedEffectError(text)

    def __bool__(self) -> bool:
        return True if self._performed else self._misused()

    def __hash__(self) -> int:
        return object.__hash__(self) if self._performed else self._misused()

    def __eq__(self, other: object) -> bool:
        return True if self is other else False if self._performed else self._misused()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._performed is not False:
            raise AttributeError(f"a message has no attribute {name!r}")
        self._misused()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for operand in args:
            if isinstance(operand, cls):
                operand._misused()
        raise UnperformedEffectError(
            "an effect request was given to torch as if it were its value; yield it first: "
            "x = yield sample(...)"
        )

    def __del__(self) -> None:
        try:
            unperformed = self._performed is False
        except AttributeError:  # its construction failed
            return
        if not unperformed or _thread.quiet:
            return
        text = self._unperformed("was never yielded")
        if _thread.machines:
            _thread.dropped = _thread.dropped or text
        elif not sys.is_finalizing():
            warnings.warn(text, UnperformedEffectWarning, stacklevel=2)


for _operator in (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod divmod rdivmod pow "
    "rpow matmul rmatmul lshift rlshift rshift rrshift and rand or ror xor rxor neg pos abs invert "
    "int float index lt le gt ge call round trunc floor ceil complex"
).split():
    setattr(PureMessage, f"__{_operator}__", PureMessage._misused)


def pure_sample(
    name: str, fn: Any, *args: Any, obs: Any = None, infer: Any = None, **kwargs: Any
) -> PureMessage:
    """A request to draw from the distribution `fn` at the site `name`; yield it.

    The Python counterpart of the C function `sample`, whose text says more.
    """
    if not isinstance(name, str):
        raise TypeError(
            f'the name of a sample site must be a string, not {type(name)!r}: sample("x", ...)'
        )
    msg = PureMessage(type="sample", name=name, fn=fn)
    frame = sys._getframe(1)
    msg._birth = (frame.f_code, frame.f_lineno)
    if args:
        msg["args"] = args
    if kwargs:
        msg["kwargs"] = kwargs
        if hasattr(fn, "log_prob") and kwargs.keys() - {"sample_shape"}:
            key = next(iter(kwargs.keys() - {"sample_shape"}))
            msg.perform()
            raise TypeError(
                f"sample({name!r}, ...) has no keyword {key!r}. It takes obs=, a value that was "
                f"observed, and infer=; others are for a function that draws, and this is a "
                f"distribution: {fn!r}"
            )
    if obs is not None:
        msg["value"], msg["is_observed"] = obs, True
    if infer is not None:
        msg["infer"] = dict(infer)
    return msg


def pure_check_dropped() -> None:
    """Raise `UnperformedEffectError` if a request has died unperformed on this thread."""
    text, _thread.dropped = _thread.dropped, None
    if text is not None:
        raise UnperformedEffectError(text)


def pure_quiet(change: int) -> None:
    """A branch is being discarded on this thread (+1), or has been (-1)."""
    _thread.quiet += change


def pure_is_quiet() -> bool:
    """Is a branch being discarded on this thread?"""
    return _thread.quiet > 0


def pure_machine_runs(change: int) -> None:
    """A machine starts (+1) or stops (-1) on this thread."""
    _thread.machines = max(0, _thread.machines + change)
    if not _thread.machines:
        _thread.dropped = None


T_co = TypeVar("T_co", covariant=True)


class Request(Protocol[T_co]):
    """What a primitive gives, to a type checker: `x = yield from request` makes `x` a `T_co`."""

    def __iter__(self) -> Generator[Any, Any, T_co]: ...


Message: Any
if native is not None:
    Message, build_sample = native.Message, native.sample
    check_dropped, machine_runs = native.check_dropped, native.machine_runs
    quiet = native.quiet
else:
    Message, build_sample = PureMessage, pure_sample
    check_dropped, machine_runs = pure_check_dropped, pure_machine_runs
    quiet = pure_quiet
