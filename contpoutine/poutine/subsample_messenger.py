"""Subsampling: a plate over some of its elements, with the log-probabilities scaled up to all.

Which elements these are is a site of its own, named like the plate, so that a trace records it and
a replay repeats it. It is performed by the plate's constructor, which cannot yield: the Messengers
see it, and where a random subsample would have to be drawn under somebody who may resume the model
twice, that is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contpoutine.core.ambient import AMBIENT, DRIVEN
from contpoutine.core.message import Message
from contpoutine.errors import PlateError
from contpoutine.poutine.at_once import perform_at_once
from contpoutine.poutine.indep_messenger import CondIndepStackFrame, IndepMessenger

if TYPE_CHECKING:
    import torch


class _Subsample:
    """What the site of a plate draws from: some of the integers below `size`, or all in order.

    It adds nothing to a log-probability: a subsample only estimates the sum over all elements.
    """

    fork_shared = True
    has_rsample = has_enumerate_support = False

    def __init__(self, size: int, subsample_size: int | None, device: Any | None = None) -> None:
        self.size, self.subsample_size, self.device = size, subsample_size, device

    @property
    def is_random(self) -> bool:
        return self.subsample_size is not None and self.subsample_size < self.size

    def sample(self) -> torch.Tensor:
        import torch

        if not self.is_random:
            return torch.arange(self.size, device=self.device)
        return torch.randperm(self.size, device=self.device)[: self.subsample_size].clone()

    __call__ = sample

    def log_prob(self, value: Any) -> torch.Tensor:
        import torch

        return torch.zeros((), device=self.device)

    def __repr__(self) -> str:
        return f"_Subsample({self.size}, {self.subsample_size})"


class SubsampleMessenger(IndepMessenger):
    """An independence context that knows how many of its elements are looked at.

    Args:
        name: the plate's name, and that of the site which is the subsample.
        size: how many elements there are; None where it does not matter, as for a plate that only
            declares independence.
        subsample_size: how many of them are drawn at random; all in order if not given.
        subsample: the elements themselves, a tensor or a sequence of integers.
        dim: the dimension from the right; the rightmost free one if not given.
        device: where tensors of indices are made.

    Raises:
        PlateError: the sizes do not fit together.
        BarrierError: a random subsample inside of `infer.enumerate` and the like.
    """

    def __init__(
        self,
        name: str,
        size: int | None = None,
        subsample_size: int | None = None,
        subsample: Any = None,
        dim: int | None = None,
        device: Any | None = None,
    ) -> None:
        if size is None and not (subsample_size is None and subsample is None):
            raise PlateError(f"plate {name!r} is subsampled, and needs its full size for that")
        super().__init__(name, -1 if size is None else size, dim, device)
        if size is not None:
            subsample = self._performed(subsample_size, subsample)
        self._indices = subsample
        if subsample_size is None:
            subsample_size = self.size if subsample is None else len(subsample)
        elif subsample is not None and len(subsample) != subsample_size:
            raise PlateError(
                f"plate {name!r} has subsample_size={subsample_size}, but its subsample has "
                f"{len(subsample)} elements. A replayed subsample comes from the other model: both "
                f"need the same subsample_size."
            )
        self.subsample_size: int = subsample_size

    def _performed(self, subsample_size: int | None, subsample: Any) -> Any:
        """What the handlers around make of the plate's site. None: all elements, nobody asks."""
        if subsample_size is not None and not 0 < subsample_size <= self.size:
            raise PlateError(
                f"plate {self.name!r} of size {self.size} has subsample_size={subsample_size!r}; "
                f"it lies between 1 and the size"
            )
        if subsample is not None and len(subsample) == 0:
            raise PlateError(f"plate {self.name!r} has an empty subsample")
        fn = _Subsample(self.size, subsample_size, self.device)
        if not AMBIENT.get() and not DRIVEN.get():  # nobody sees it
            return fn.sample() if subsample is None and fn.is_random else subsample
        msg = Message(type="sample", name=self.name, fn=fn, value=subsample)
        return perform_at_once(
            msg,
            f"the subsample of plate {self.name!r}",
            f"Choose the elements by a site of the model, and give them to the plate: "
            f"plate({self.name!r}, {self.size}, subsample=indices).",
            random=fn.is_random,
        )

    def _frame(self) -> CondIndepStackFrame:
        return CondIndepStackFrame(
            self.name, self.dim, self.subsample_size, self.counter, self.size
        )

    def _process_message(self, msg: Any) -> None:
        super()._process_message(msg)
        if self.subsample_size != self.size:
            msg["scale"] = msg["scale"] * self.size / self.subsample_size

    def _postprocess_message(self, msg: Any) -> None:
        if self.dim is not None and msg["type"] in ("param", "subsample"):
            event_dim = msg["kwargs"].get("event_dim")
            if event_dim is not None:
                self._take_elements(msg, event_dim)

    def _take_elements(self, msg: Any, event_dim: int) -> None:
        """Data or a parameter with one entry for each element: give those of the subsample."""
        value, dim = msg["value"], self.dim - event_dim  # type: ignore[operator]
        shape = value.shape
        if len(shape) < -dim or shape[dim] == 1:
            return
        if shape[dim] != self.size:
            given = repr(msg["name"]) if msg["type"] == "param" else "the data"
            raise PlateError(
                f"{msg['type']} at {msg.where}: {given} of shape {tuple(shape)} with "
                f"event_dim={event_dim} has {shape[dim]} entries at dim {dim}, and {self!r} around "
                f"it has {self.size} elements"
            )
        if self.subsample_size < self.size:
            import torch

            taken = value.index_select(dim, torch.as_tensor(self._indices, device=value.device))
            if hasattr(value, "unconstrained"):
                taken.unconstrained = value.unconstrained
            msg["value"] = taken
