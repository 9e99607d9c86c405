"""Parameters whose number is not known yet, and distributions that were given one.

A handler may keep a value symbolic: the model then holds a `Symbolic`, and builds distributions
with it as with any number. Such a distribution is a `SymbolicDistribution`: it says which family it
is and what it was given, and nothing else can be asked of it until a handler that knows the symbol
has put an ordinary distribution in its place. Whatever needs the number itself is refused by name.
"""

from __future__ import annotations

from typing import Any, NoReturn

from contpoutine.errors import SymbolicAttributeError, SymbolicValueError


class Symbolic:
    """Stands for a number that is not known; a subclass says which, and what it can do anyway."""

    fork_shared = True  # an instance never changes
    __hash__ = object.__hash__
    __array_ufunc__ = None  # NumPy's numbers leave the operation to us

    def _refusal(self, what: str) -> str:
        """The sentence that says that `what` needs the number."""
        return f"{self!r} is symbolic, and {what} needs its number"

    def _refuse(self, what: str) -> NoReturn:
        raise SymbolicValueError(self._refusal(what))

    def __eq__(self, other: object) -> bool:
        return True if other is self else self._refuse("a comparison")

    def __bool__(self) -> bool:
        self._refuse("a truth value (`if`, `and`, `not`)")

    def __float__(self) -> float:
        self._refuse("float(...)")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"a symbolic value has no attribute {name!r}")
        raise SymbolicAttributeError(self._refusal(f"the attribute {name!r}"))

    def __getitem__(self, index: Any) -> Any:
        self._refuse("an index")

    def __iter__(self) -> Any:
        self._refuse("a loop over it")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*args, *(kwargs or {}).values()]
        given += [item for x in given if isinstance(x, list | tuple) for item in x]
        symbol = next(x for x in given if isinstance(x, Symbolic))
        symbol._refuse(f"torch's {getattr(func, '__name__', func)}")


def _refusing(name: str) -> Any:
    def refuse(self: Symbolic, *_: Any) -> NoReturn:
        self._refuse(f"`{name}`")

    return refuse


for _name in (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul "
    "rmatmul neg pos abs int index complex lt le gt ge len round trunc floor ceil contains"
).split():
    setattr(Symbolic, f"__{_name}__", _refusing(_name))


class SymbolicDistribution:
    """A distribution with a symbolic parameter.

    Attributes:
        cls: the class that was called.
        parameters: what it was called with, by name.
    """

    fork_shared = True
    cls: type
    parameters: dict[str, Any]
    batch_shape: tuple[int, ...] = ()
    event_shape: tuple[int, ...] = ()

    def _refuse(self, what: str) -> NoReturn:
        raise SymbolicValueError(
            f"{what} {self!r} needs numbers, and no handler that knows its symbols was asked for "
            f"them. A symbolic value lives inside the `poutine.delayed` that made it: use it "
            f"there, or take its number there with `x = yield poutine.realize(x)`."
        )

    def sample(self, *_: Any) -> NoReturn:
        """Refused."""
        self._refuse("a draw from")

    def log_prob(self, value: Any) -> NoReturn:
        """Refused."""
        self._refuse("a log-probability under")

    def expand(self, batch_shape: Any) -> SymbolicDistribution:
        """A batch of draws with the same parameters, as a vectorised plate asks for."""
        fresh = SymbolicDistribution()
        fresh.cls, fresh.parameters = self.cls, self.parameters
        fresh.batch_shape = tuple(batch_shape)
        return fresh

    def to_event(self, *_: Any) -> NoReturn:
        """Refused."""
        self._refuse("an event made of")

    def mask(self, *_: Any) -> NoReturn:
        """Refused."""
        self._refuse("a mask of")

    def _choices(self, name: str) -> NoReturn:
        self._refuse(f"site {name!r}: the values of")

    def _log_weight(self, value: Any, name: str) -> NoReturn:
        self._refuse(f"site {name!r}: the weight of a value under")

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        batch = f".expand({list(self.batch_shape)})" if self.batch_shape else ""
        return f"{self.cls.__name__}({given}){batch}"


def defer(fn: Any, cls: type, **parameters: Any) -> SymbolicDistribution:
    """Turn `fn`, an instance that is being constructed, into a symbolic distribution."""
    fn.__class__ = SymbolicDistribution  # the layouts agree: neither class has slots
    fn.__dict__.clear()
    fn.cls, fn.parameters = cls, {k: v for k, v in parameters.items() if v is not None}
    return fn  # type: ignore[no-any-return]
