"""The evidence lower bound, E_q[log p(x, z) - log q(z)], as a loss.

Every ELBO here answers three questions about a model and a guide: `loss` (a number),
`differentiable_loss` (a tensor whose gradient is an estimate of the loss's), `loss_and_grads` (a
number, with the gradients put into the parameters). What differs is how one particle is estimated.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contpoutine.infer.guided import guided_traces
from contpoutine.infer.score import surrogate_elbo

if TYPE_CHECKING:
    import torch

Model = Callable[..., Any]


class ELBO(ABC):
    """Base class of the losses. A subclass says what one particle is.

    Args:
        num_particles: how many independent estimates are averaged.

    Raises:
        ValueError: `num_particles` is no positive whole number.
    """

    def __init__(self, num_particles: int = 1) -> None:
        if type(num_particles) is not int or num_particles < 1:
            raise ValueError(f"num_particles is 1 or more, not {num_particles!r}")
        self.num_particles = num_particles

    @abstractmethod
    def particle(
        self, model: Model, guide: Model, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[float, Any]:
        """One estimate of the ELBO, and a tensor with its gradient (a float where it has none)."""

    def loss(self, model: Model, guide: Model, *args: Any, **kwargs: Any) -> float:
        """An estimate of minus the ELBO. No gradients are computed."""
        import torch

        with torch.no_grad():
            found = [self.particle(model, guide, args, kwargs)[0] for _ in self._each()]
        return -math.fsum(found) / self.num_particles

    def differentiable_loss(
        self, model: Model, guide: Model, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The same as a 0-dim tensor; its gradient is an estimate of the loss's gradient."""
        import torch

        total = torch.zeros((), dtype=torch.float64)
        for _ in self._each():
            elbo, surrogate = self.particle(model, guide, args, kwargs)
            if isinstance(surrogate, torch.Tensor):
                total = total - (surrogate - surrogate.detach())
            total = total - elbo
        return total / self.num_particles

    def loss_and_grads(self, model: Model, guide: Model, *args: Any, **kwargs: Any) -> float:
        """An estimate of minus the ELBO; its gradient is added to that of each parameter."""
        total = []
        for _ in self._each():
            elbo, surrogate = self.particle(model, guide, args, kwargs)
            total.append(elbo)
            if getattr(surrogate, "requires_grad", False):
                (surrogate * (-1.0 / self.num_particles)).backward()
        return -math.fsum(total) / self.num_particles

    def _each(self) -> range:
        return range(self.num_particles)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_particles={self.num_particles})"


class Trace_ELBO(ELBO):
    """The ELBO by sampling: the guide draws, and the model is weighed on what it drew.

    Draws that carry gradients are differentiated through; others get the score-function estimator,
    slice by slice under vectorised plates. The same numbers as Pyro's under the same random seed.

    Args:
        num_particles: how many draws are averaged.

    Raises:
        GuideMismatchError: the guide does not draw what the model leaves unobserved.
        BadWeightError: a log-probability is NaN or infinite.

    >>> import torch
    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> cp.clear_param_store()
    >>> def model():
    ...     x = yield cp.sample("x", dist.Normal(0.0, 1.0))
    ...     yield cp.sample("y", dist.Normal(x, 1.0), obs=2.0)
    >>> def guide():
    ...     loc = yield cp.param("loc", 1.0)
    ...     yield cp.sample("x", dist.Normal(loc, 0.5**0.5))
    >>> -2.5 < -Trace_ELBO(num_particles=10).loss(model, guide) < -2.0  # the exact posterior
    True
    """

    def particle(
        self, model: Model, guide: Model, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[float, Any]:
        return surrogate_elbo(*guided_traces(model, guide, args, kwargs))
