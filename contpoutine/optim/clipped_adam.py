"""ClippedAdam: Adam on clipped gradients, with a learning rate that decays geometrically.

The update is Adam's in the form that Kingma and Ba (2015) give at the end of their section 2: the
two bias corrections go into the step size, and `eps` is added to the uncorrected root. This is
Pyro's ClippedAdam to the bit of its formula; torch's own Adam adds `eps` to the corrected root.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class ClippedAdam(Optimizer):
    """Adam with each element of the gradient clipped to [-clip_norm, clip_norm].

    Args:
        lr: learning rate. It is multiplied by `lrd` before each step, the first one too.
        betas: how much of the old mean and mean square of the gradient a step keeps.
        eps: keeps the division finite.
        weight_decay: times the parameter, added to its clipped gradient.
        clip_norm: the largest absolute value of an element of the gradient.
        lrd: what the learning rate is multiplied by.
        centered_variance: average the square of the gradient's deviation from its mean.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float = 10.0,
        lrd: float = 1.0,
        centered_variance: bool = False,
    ) -> None:
        if not (lr >= 0.0 and lrd > 0.0 and clip_norm > 0.0 and eps >= 0.0 and weight_decay >= 0.0):
            raise ValueError(
                f"lr, eps and weight_decay are not negative, lrd and clip_norm are positive: "
                f"lr={lr}, eps={eps}, weight_decay={weight_decay}, lrd={lrd}, clip_norm={clip_norm}"
            )
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas lie in [0, 1), not {betas}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "clip_norm": clip_norm,
                "lrd": lrd,
                "centered_variance": centered_variance,
            },
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["lr"] *= group["lrd"]
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)
        return loss

    def _move(self, p: torch.Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        grad = p.grad.clamp(-group["clip_norm"], group["clip_norm"])
        if group["weight_decay"]:
            grad = grad.add(p, alpha=group["weight_decay"])
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
        state["step"] += 1
        mean, square, step = state["exp_avg"], state["exp_avg_sq"], state["step"]
        beta1, beta2 = group["betas"]
        mean.mul_(beta1).add_(grad, alpha=1 - beta1)
        spread = grad - mean if group["centered_variance"] else grad
        square.mul_(beta2).addcmul_(spread, spread, value=1 - beta2)
        size = group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        p.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-size)
