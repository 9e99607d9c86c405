"""broadcast: the batch shape of a site grows to the plates around it.

A model may say `sample("x", Normal(0, 1))` inside two plates and gets a value for each of their
elements. Dimensions that the distribution has already must fit.
"""

from __future__ import annotations

import sys
from typing import Any

from contpoutine.core.ambient import AMBIENT
from contpoutine.core.messenger import Messenger
from contpoutine.distributions import Delta, FiniteDistribution, Unit
from contpoutine.errors import PlateError, ShapeError
from contpoutine.poutine.indep_messenger import CondIndepStackFrame, IndepMessenger


class BroadcastMessenger(Messenger):
    """Expands the distributions of sample sites to the sizes in their `cond_indep_stack`.

    Raises:
        ShapeError: in the model, where the batch shape does not fit a plate.
        PlateError: in the model, at a distribution that draws one Python value (`Flip`).
    """

    fork_constant = True

    @staticmethod
    def _pyro_sample(msg: Any) -> None:
        broadcast_site(msg)


def broadcast_site(msg: Any) -> None:
    """Expand the distribution of a site to the vectorised plates around it."""
    if msg["type"] != "sample" or msg["done"]:
        return
    frames = [f for f in msg["cond_indep_stack"] if f.dim is not None and f.size != -1]
    if not frames:
        return
    fn = msg["fn"]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(fn, torch.distributions.Distribution):
        actual = tuple(fn.batch_shape)
        target = _target(msg, actual, frames)
        if target != actual:
            msg["fn"] = expanded = fn.expand(target)
            if expanded.has_rsample != fn.has_rsample:
                expanded.has_rsample = fn.has_rsample
    elif isinstance(fn, Unit):
        _broadcast_factor(msg, fn, frames)
    elif isinstance(fn, FiniteDistribution) and not isinstance(fn, Delta):
        plate = frames[-1]
        raise PlateError(
            f"site {msg['name']!r} at {msg.where} draws one value from {fn!r}, and is inside the "
            f"vectorised plate {plate.name!r}, which wants {plate.size} of them in a tensor. Take "
            f"a distribution of torch's, such as dist.Bernoulli(0.3), or loop: "
            f"`for i in plate({plate.name!r}, {plate.size}):` with a site name for each i."
        )


def _target(
    msg: Any, actual: tuple[int, ...], frames: list[CondIndepStackFrame]
) -> tuple[int, ...]:
    """The batch shape with each plate's size in its dimension."""
    target = list(actual)
    for frame in frames:
        dim: int = frame.dim  # type: ignore[assignment]
        target = [1] * (-dim - len(target)) + target
        if target[dim] not in (1, frame.size):
            raise _misfit(msg, actual, frame)
        target[dim] = frame.size
    return tuple(target)


def _broadcast_factor(msg: Any, fn: Unit, frames: list[CondIndepStackFrame]) -> None:
    import torch

    log_factor = fn.parameters[0]
    if not isinstance(log_factor, torch.Tensor):
        log_factor = torch.tensor(log_factor, dtype=torch.float64)
    target = _target(msg, tuple(log_factor.shape), frames)
    if target != tuple(log_factor.shape):
        msg["fn"] = Unit(log_factor.expand(target))


def _misfit(msg: Any, actual: tuple[int, ...], at: CondIndepStackFrame) -> ShapeError:
    error = ShapeError(
        f"site {msg['name']!r} at {msg.where} has batch shape {actual}, with {actual[at.dim]} "  # type: ignore[index]
        f"entries at dim {at.dim}, where plate {at.name!r} has {at.size} elements. Entries that "
        f"belong to one draw are an event: `.to_event(1)`. Entries of another plate stand at that "
        f"plate's dim: reshape the parameters."
    )
    error.add_note(_table(msg, actual))
    return error


def _table(msg: Any, actual: tuple[int, ...]) -> str:
    """The site's shape and the sizes of the plates around it, one column for each dimension."""
    plates = [entry for entry in AMBIENT.get() if isinstance(entry, IndepMessenger)]
    frames = [frame for frame in (plate._frame() for plate in plates) if frame.dim is not None]
    dims = range(-max(len(actual), *[-(frame.dim or 0) for frame in frames]), 0)
    rows = [["dim", *[str(dim) for dim in dims]]]
    padded = [""] * (len(dims) - len(actual)) + [str(size) for size in actual]
    rows.append([f"batch of {msg['name']}", *padded])
    rows += [
        [f"plate {frame.name}", *[str(frame.size) if dim == frame.dim else "" for dim in dims]]
        for frame in frames
    ]
    left = max(len(row[0]) for row in rows)
    return "\n".join(row[0].ljust(left) + "".join(f"{c:>6}" for c in row[1:]) for row in rows)
