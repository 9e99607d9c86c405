"""enum: every value of a site at once, along a dimension of its own.

This is Pyro's parallel enumeration, one tensor for all values of a discrete site. It is the other
way to go through choices: here no continuation is resumed twice, and the model's code must be
written for tensors. Each enumerated site gets a dimension to the left of all plates; inside of
`markov`, dimensions are used again by sites that cannot see each other. What is known of the
dimensions is immutable, so a fork shares it.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from contpoutine.core.ambient import DRIVEN
from contpoutine.core.messenger import Messenger
from contpoutine.errors import NotEnumerableError, NotSupportedError
from contpoutine.poutine.three_ways import Model, apply

if TYPE_CHECKING:
    import torch

__all__ = ["EnumMessenger", "enum"]

Dims = dict[int, int]


class _Allocated(NamedTuple):
    """Which dimensions are taken: the next free one, the next id, and the ids of global ones."""

    next_dim: int
    next_id: int
    ids: Dims


_LAST: ContextVar[_Allocated | None] = ContextVar("contpoutine_enum_dims", default=None)
"""Where the enumeration that was left last has come to: a model goes on behind its guide."""


class _Site:
    """What is known of one site: its markov depth, and the ids of dimensions of its parameters and
    its value; and the sites before it."""

    fork_shared = True
    __slots__ = ("depth", "earlier", "name", "param_dims", "value_dims")

    def __init__(self, earlier: _Site | None, name: str, depth: int | None, dims: Dims) -> None:
        self.earlier, self.name, self.depth, self.param_dims = earlier, name, depth, dims
        self.value_dims: Dims = {}

    def find(self, name: str) -> _Site | None:
        site: _Site | None = self
        while site is not None and site.name != name:
            site = site.earlier
        return site


class EnumMessenger(Messenger):
    """Gives sites with `infer={"enumerate": "parallel"}` all their values at once.

    Sites marked "sequential" are left to whoever goes through their values one by one, such as
    `queue` or `infer.enumerate`.

    Args:
        first_available_dim: the first dimension, counted from the right, that no plate uses; -1
            where there are no plates. Without it, the enumeration goes on where the last one ended.

    Raises:
        NotSupportedError: in the model, where values would be enumerated by tensors and by branches
            at once, or by `num_samples` (tensor Monte Carlo).
    """

    def __init__(self, first_available_dim: int | None = None) -> None:
        if first_available_dim is not None and not (
            type(first_available_dim) is int and first_available_dim < 0
        ):
            raise ValueError(
                f"first_available_dim is a dimension counted from the right, -1, -2, ..., and not "
                f"{first_available_dim!r}"
            )
        self.first_available_dim = first_available_dim
        self._allocated: _Allocated | None = None
        self._sites: _Site | None = None

    def __enter__(self) -> Self:
        first = self.first_available_dim
        self._allocated = _LAST.get() if first is None else _Allocated(first, 0, {})
        self._sites = None
        return super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        _LAST.set(self._allocated)
        return super().__exit__(exc_type, exc_value, traceback)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or not _is_torch(msg["fn"]):
            return
        if self._allocated is None:
            raise ValueError(
                "enum needs first_available_dim=-1 - (number of nested plates) the first time"
            )
        scope = msg["infer"].get("_markov_scope")
        dims = dict(self._allocated.ids)
        for name, depth in (scope or {}).items():
            seen = self._sites and self._sites.find(name)
            if seen is not None and seen.depth == depth:  # its markov context has not been left
                dims.update(seen.value_dims)
        depth = None if scope is None else msg["infer"]["_markov_depth"]
        self._sites = _Site(self._sites, msg["name"], depth, dims)
        msg["infer"]["_dim_to_id"] = dims
        if not msg["is_observed"] and msg["infer"].get("enumerate") == "parallel":
            self._enumerate(msg, None if scope is None else set(dims), dims)

    def _enumerate(self, msg: Any, taken: set[int] | None, dims: Dims) -> None:
        value = _all_values(msg)
        fn, at = msg["fn"], -1 - len(msg["fn"].batch_shape)
        dim, number = self._allocate(taken)
        events = len(fn.event_shape)
        if at < dim:
            if value.size(dim - events) != 1:
                raise NotSupportedError(
                    f"site {msg['name']!r} at {msg.where} has a batch dimension at {dim}, which "
                    f"enum has for its values: give a first_available_dim further to the left"
                )
            value = value.transpose(dim - events, at - events)
            while value.dim() and value.size(0) == 1:
                value = value.squeeze(0)
        elif dim < at:
            value = value.reshape(value.shape[:1] + (1,) * (at - dim) + value.shape[1:])
        inside = range(events - value.dim(), 0)
        value_dims = {d: dims[d] for d in inside if d in dims and value.size(d - events) > 1}
        value_dims[dim] = number
        msg["infer"] |= {"_enumerate_dim": dim, "_dim_to_id": {**value_dims, **dims}}
        msg["value"], msg["done"] = value, True

    def _allocate(self, taken: set[int] | None) -> tuple[int, int]:
        """A dimension for good, or one that is free among those `taken` in a markov scope."""
        dim, number, ids = self._allocated  # type: ignore[misc]
        if taken is None:
            self._allocated = _Allocated(dim - 1, number + 1, {**ids, dim: number})
        else:
            self._allocated = _Allocated(dim, number + 1, ids)
            while dim in taken:
                dim -= 1
        return dim, number

    def _pyro_post_sample(self, msg: Any) -> None:
        site = self._sites and self._sites.find(msg["name"])
        if site is None or not _is_torch(msg["fn"]) or not hasattr(msg["value"], "shape"):
            return
        shape = msg["value"].shape[: msg["value"].dim() - len(msg["fn"].event_shape)]
        ids = msg["infer"]["_dim_to_id"]
        known = _Site(site.earlier, site.name, site.depth, site.param_dims)
        known.value_dims = {d: i for d, i in ids.items() if len(shape) >= -d and shape[d] > 1}
        if self._sites is site:
            self._sites = known
        else:  # sites of its own were performed meanwhile: a reparameterised site
            self._sites = _Site(self._sites, site.name, site.depth, site.param_dims)
            self._sites.value_dims = known.value_dims


def _is_torch(fn: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(fn, torch.distributions.Distribution)


def _all_values(msg: Any) -> torch.Tensor:
    fn, infer = msg["fn"], msg["infer"]
    if DRIVEN.get():
        raise NotSupportedError(
            f"site {msg['name']!r} at {msg.where} is enumerated by poutine.enum, as one tensor of "
            f"all its values, inside of infer.enumerate, where each branch has one value. Take one "
            f"of the two."
        )
    if infer.get("num_samples") is not None:
        raise NotSupportedError(
            f"site {msg['name']!r} at {msg.where} asks for num_samples: tensor Monte Carlo is not "
            f"supported; enum goes through the whole support"
        )
    if not fn.has_enumerate_support:
        raise NotEnumerableError(
            f"site {msg['name']!r} at {msg.where} is marked for enumeration, and {fn!r} has no "
            f"finite support"
        )
    values: torch.Tensor = fn.enumerate_support(expand=infer.get("expand", False))
    return values


def enum(fn: Model | None = None, first_available_dim: int | None = None) -> Any:
    """Give sites marked `infer={"enumerate": "parallel"}` all their values at once, in a dimension
    of their own.

    >>> import contpoutine as cp
    >>> def model():
    ...     coin, how = cp.distributions.Bernoulli(0.3), {"enumerate": "parallel"}
    ...     x = yield cp.sample("x", coin, infer=how)
    ...     y = yield cp.sample("y", coin, infer=how)
    ...     return x + y
    >>> cp.run(enum(model, first_available_dim=-1))
    tensor([[0., 1.],
            [1., 2.]])
    """
    return apply("enum", fn, EnumMessenger(first_available_dim))
