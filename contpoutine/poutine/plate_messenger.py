"""plate: conditionally independent sites, as a batch or as a loop.

It puts together what a plate is: an independence context, a subsample, and broadcasting.
"""

from __future__ import annotations

from typing import Any

from contpoutine.poutine.broadcast_messenger import broadcast_site
from contpoutine.poutine.subsample_messenger import SubsampleMessenger


class PlateMessenger(SubsampleMessenger):
    """The handler that a plate is."""

    def _process_message(self, msg: Any) -> None:
        super()._process_message(msg)
        if self.dim is not None:
            broadcast_site(msg)

    def __enter__(self) -> Any:
        """Enter it as a batch. Gives the tensor of indices, or None for a plate without a size."""
        super().__enter__()
        if self.dim is None:  # a step of a loop
            return self
        return None if self.size == -1 else self.indices


class plate(PlateMessenger):
    """Sites inside are independent of each other, given what is outside.

    `with plate("data", 100) as ind:` is a batch: each site inside has a dimension of size 100, and
    `ind` is the tensor of indices 0 to 99. `for i in plate("data", 100):` is a loop, in which each
    `i` needs site names of its own. With a `subsample_size`, some of the indices are drawn, and
    every log-probability inside is scaled by `size / subsample_size`.

    Args:
        name: the plate's name; nested plates need different ones.
        size: how many elements it has.
        subsample_size: how many of them to draw at random.
        subsample: the indices themselves, in place of drawing them.
        dim: the dimension of the batch, counted from the right (-1, -2, ...); the rightmost that no
            plate around it has, if not given. A plate keeps its dim when it is entered again.
        device: where the tensor of indices is made.

    Raises:
        PlateError: names or dims of nested plates collide, or the sizes do not fit together.
        ShapeError: in the model, at a site whose batch shape does not fit.
        BarrierError: a random subsample where the model may be resumed more than once.

    >>> import torch
    >>> import contpoutine as cp
    >>> def model(data):
    ...     p = yield cp.sample("p", cp.distributions.Beta(1.0, 1.0))
    ...     with cp.plate("data", len(data)):
    ...         return (yield cp.sample("x", cp.distributions.Bernoulli(p), obs=data))
    >>> trace = cp.poutine.trace(model).get_trace(torch.ones(3))
    >>> trace.nodes["x"]["fn"].batch_shape, trace.nodes["x"]["cond_indep_stack"][0].name
    (torch.Size([3]), 'data')
    """
