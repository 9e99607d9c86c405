"""SVI: stochastic variational inference, one gradient step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contpoutine.core.messenger import Messenger
from contpoutine.infer.util import torch_item, zero_grads

Model = Callable[..., Any]


class _Visited(Messenger):
    """Collects the leaf tensors of the parameters that are read; branches collect together."""

    fork_shared = True

    def __init__(self) -> None:
        self.leaves: dict[Any, None] = {}

    def _pyro_post_param(self, msg: Any) -> None:
        unconstrained = getattr(msg["value"], "unconstrained", None)
        if unconstrained is not None:
            self.leaves[unconstrained()] = None


class SVI:
    """Fits a guide (and what is learned of the model) by gradient steps on a loss.

    Args:
        model: a generator model.
        guide: a generator model that draws the model's unobserved sites.
        optim: an optimiser, such as `contpoutine.optim.Adam({"lr": 0.01})`: something that takes a
            set of leaf tensors and moves them.
        loss: an ELBO, such as `Trace_ELBO()`, or a function `loss(model, guide, *args)` that gives
            a differentiable tensor.
        loss_and_grads: for a loss that is a function: computes it with its gradients; if not given,
            by `backward()`.

    Raises:
        TypeError: one of them is nothing of the kind.

    >>> import torch
    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> from torch.distributions import constraints
    >>> cp.clear_param_store()
    >>> _ = torch.manual_seed(0)
    >>> def model():
    ...     x = yield cp.sample("x", dist.Normal(0.0, 1.0))
    ...     yield cp.sample("y", dist.Normal(x, 1.0), obs=2.0)
    >>> def guide():
    ...     loc = yield cp.param("loc", 0.0)
    ...     scale = yield cp.param("scale", 1.0, constraint=constraints.positive)
    ...     yield cp.sample("x", dist.Normal(loc, scale))
    >>> svi = cp.infer.SVI(model, guide, cp.optim.Adam({"lr": 0.05}), cp.infer.Trace_ELBO())
    >>> losses = [svi.step() for _ in range(300)]
    >>> abs(cp.get_param_store()["loc"].item() - 1.0) < 0.2
    True
    """

    def __init__(
        self,
        model: Model,
        guide: Model,
        optim: Callable[..., Any],
        loss: Any,
        loss_and_grads: Callable[..., Any] | None = None,
    ) -> None:
        for what, given in (("a model", model), ("a guide", guide)):
            if not callable(given):
                raise TypeError(f"SVI needs {what}, a generator function, not {given!r}")
        if isinstance(optim, type) or not callable(optim):
            raise TypeError(
                f"SVI needs an optimiser from contpoutine.optim, such as "
                f"optim.Adam({{'lr': 0.01}}), not {optim!r}"
            )
        if isinstance(loss, type):
            raise TypeError(f"SVI needs a loss, such as {loss.__name__}(), not the class itself")
        self.model, self.guide, self.optim = model, guide, optim
        if hasattr(loss, "loss_and_grads"):
            self.loss, self.loss_and_grads = loss.loss, loss.loss_and_grads
        elif callable(loss):
            self.loss = loss
            self.loss_and_grads = loss_and_grads or self._backward
        else:
            raise TypeError(
                f"SVI needs a loss, such as Trace_ELBO(), or a function "
                f"loss(model, guide, *args), not {loss!r}"
            )

    def _backward(self, model: Model, guide: Model, *args: Any, **kwargs: Any) -> Any:
        loss = self.loss(model, guide, *args, **kwargs)
        if getattr(loss, "requires_grad", False):
            loss.backward()
        return loss

    def step(self, *args: Any, **kwargs: Any) -> float:
        """One gradient step over the parameters that model and guide read. Gives the loss.

        The arguments go to the model and to the guide. Nothing is changed if the loss raises.
        """
        visited = _Visited()
        try:
            loss = self.loss_and_grads(visited(self.model), visited(self.guide), *args, **kwargs)
            self.optim(list(visited.leaves))
        finally:
            zero_grads(visited.leaves)
        number: float = torch_item(loss)
        return number

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:
        """The loss, without a step and without gradients."""
        import torch

        with torch.no_grad():
            number: float = torch_item(self.loss(self.model, self.guide, *args, **kwargs))
        return number
