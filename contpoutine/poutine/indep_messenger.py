"""Independence contexts: what a plate tells about the sites inside of it.

Each site carries a `cond_indep_stack`, one frame for each plate around it, outermost first. A
vectorised plate owns one dimension of the batch shape, counted from the right; which dimensions are
taken is read from the handler stack, which belongs to the computation, so that every branch
allocates as if it were alone.
"""

from __future__ import annotations

import operator
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from contpoutine.core.ambient import AMBIENT
from contpoutine.core.messenger import Messenger
from contpoutine.errors import PlateError

if TYPE_CHECKING:
    import torch


class CondIndepStackFrame(NamedTuple):
    """One plate around a site. Frames are equal where all but `full_size` is.

    Attributes:
        name: the plate's name.
        dim: its dimension, counted from the right; None for a sequential plate.
        size: how many elements are in it (those of the subsample).
        counter: which element a sequential plate is at, counted from 1; 0 for a vectorised one.
        full_size: how many there are before subsampling.
    """

    name: str
    dim: int | None
    size: int
    counter: int
    full_size: int | None = None

    @property
    def vectorized(self) -> bool:
        """Is it a dimension of the batch shape?"""
        return self.dim is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CondIndepStackFrame) and self[:4] == other[:4]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:4])

    def __str__(self) -> str:
        return self.name


class IndepMessenger(Messenger):
    """Declares the sites inside of it independent of each other, along one dimension or a loop.

    Args:
        name: the plate's name.
        size: how many elements it has.
        dim: the dimension from the right, -1, -2, ...; the rightmost free one where it is None.
        device: where tensors of indices are made.

    Raises:
        PlateError: the name, the size or the dimension makes no sense.
    """

    def __init__(
        self, name: str, size: int, dim: int | None = None, device: Any | None = None
    ) -> None:
        self.name, self.size, self.device = name, _checked_size(name, size), device
        self.dim = _checked_dim(name, dim)
        self._vectorized: bool | None = None if dim is None else True
        self._indices: Any = None
        self.counter = 0

    @property
    def indices(self) -> torch.Tensor:
        """The elements: a tensor of integers, or the subsample as it was given."""
        if self._indices is None:
            import torch

            self._indices = torch.arange(self.size, device=self.device)
        indices: torch.Tensor = self._indices
        return indices

    def next_context(self) -> None:
        """A sequential plate goes on to its next element."""
        self.counter += 1

    def __enter__(self) -> Any:
        if self._vectorized is None:
            self._vectorized = True
        if self._vectorized:
            self.dim = _allocated(self)
        entered = super().__enter__()
        if self._vectorized:
            self.fork_constant = True  # from now on nothing in it changes: branches share it
        return entered

    def __iter__(self) -> Generator[int, None, None]:
        if self._vectorized or self.dim is not None:
            raise PlateError(
                f"plate {self.name!r} is looped over, but it was entered by `with`, or has a "
                f"dim: it is a dimension of the batch shape. Make two plates of different "
                f"names: `with plate(...):` for a batch, `for i in plate(...):` for a loop."
            )
        self._vectorized = False
        for i in range(self.size) if self._indices is None else self._indices:
            self.next_context()
            with self:
                yield operator.index(i)

    def _reset(self) -> None:
        self.counter = 0

    def _frame(self) -> CondIndepStackFrame:
        return CondIndepStackFrame(self.name, self.dim, self.size, self.counter)

    def _process_message(self, msg: Any) -> None:
        msg["cond_indep_stack"] = (self._frame(), *msg["cond_indep_stack"])

    def __repr__(self) -> str:
        dim = "" if self.dim is None else f", dim={self.dim}"
        return f"plate({self.name!r}, {self.size}{dim})"


def _checked_size(name: str, size: Any) -> int:
    if not isinstance(name, str):
        raise PlateError(f"a plate needs a string as its name, not {name!r}: plate('data', 10)")
    try:
        size = operator.index(size)
    except TypeError:
        raise PlateError(f"plate {name!r} needs an integer as its size, not {size!r}") from None
    if size < 1 and size != -1:
        raise PlateError(f"plate {name!r} needs a positive size, not {size}")
    return int(size)


def _checked_dim(name: str, dim: Any) -> int | None:
    if dim is None:
        return None
    if not isinstance(dim, int) or isinstance(dim, bool) or dim >= 0:
        raise PlateError(
            f"the dim of plate {name!r} is counted from the right: -1, -2, ..., not {dim!r}"
        )
    return dim


def _allocated(plate: IndepMessenger) -> int:
    """The dimension that the plate gets here. Raises `PlateError` where it is taken."""
    taken: dict[int | None, IndepMessenger] = {}
    for entry in AMBIENT.get():
        if isinstance(entry, IndepMessenger) and entry._vectorized:
            taken[entry.dim] = entry
            if entry.name == plate.name:
                raise PlateError(
                    f"plate {plate.name!r} is entered inside of a plate of the same name "
                    f"({entry!r}). Nested plates need names of their own."
                )
    dim = plate.dim
    if dim is None:
        dim = -1
        while dim in taken:
            dim -= 1
    elif dim in taken:
        free = dim - 1
        while free in taken:
            free -= 1
        raise PlateError(
            f"plates {plate.name!r} and {taken[dim].name!r} collide at dim={dim}. Move one of them "
            f"to the left: plate({plate.name!r}, {plate.size}, dim={free}). A plate keeps the dim "
            f"that it was given when it was first entered."
        )
    return dim
