"""The driver of an enumeration with merging: it keeps the weights that gradients flow through.

Floats are enough to explore a state graph. Where a parameter requires grad, the log-weights are
kept as tensors as well, by the state that they belong to, so that the log-evidence of the graph can
be differentiated. Nothing is computed where nothing requires grad.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from contpoutine.distributions.content import is_tensor
from contpoutine.distributions.finite import Unit
from contpoutine.infer.driver import Driver


class MergingDriver(Driver):
    """Follows executions and knows, from whoever explores, which state is being expanded."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.at: Callable[[], int] = lambda: 0
        self.tensor_weights: dict[int, Any] = {}
        self.tensor_node_weights: dict[int, Any] = {}

    def weigh(self, msg: Any) -> float:
        weight = super().weigh(msg)
        tensor = _log_weight(msg) if "torch" in sys.modules and weight > -math.inf else None
        if tensor is not None:
            state = self.at()
            passed = self.tensor_node_weights.get(state)
            self.tensor_node_weights[state] = tensor if passed is None else passed + tensor
        return weight

    def differentiate(
        self, msg: Any, log_probs: Sequence[float], element: int = 0, scale: float | None = None
    ) -> None:
        """Keep the log-weights of a choice as a tensor, if they need one.

        `log_probs` are those of all its values; those of probability zero have no edge.
        """
        fn = msg["fn"]
        if not _requires_grad(fn):
            return
        log_prob = fn.log_prob(fn.enumerate_support())
        column = log_prob.reshape(len(log_probs), -1)[:, element].double()
        possible = [i for i, x in enumerate(log_probs) if x > -math.inf]
        scale = self.scale_of(msg) if scale is None else scale
        self.tensor_weights[self.at()] = column[possible] * scale


def _requires_grad(x: Any, depth: int = 0) -> bool:
    """Does a distribution, or something that it holds, require grad?"""
    tensors = getattr(x, "_tensors", None)  # the light distributions say what they were given
    if tensors is not None:
        return any(tensor.requires_grad for tensor in tensors)
    if is_tensor(x):
        return bool(x.requires_grad)
    if isinstance(x, tuple | dict):
        held = list(x.values()) if isinstance(x, dict) else list(x)
    elif isinstance(x, Unit):
        held = list(x.parameters)
    else:
        held = list(vars(x).values()) if hasattr(x, "log_prob") and hasattr(x, "__dict__") else []
    return depth < 4 and any(_requires_grad(item, depth + 1) for item in held)


def _log_weight(msg: Any) -> Any:
    """The log-weight of a decided site as a tensor of one element; None if it needs none."""
    fn, value, scale = msg["fn"], msg["value"], msg["scale"]
    if not (
        _requires_grad(fn)
        or (is_tensor(value) and value.requires_grad)
        or (is_tensor(scale) and scale.requires_grad)
    ):
        return None
    torch = sys.modules["torch"]
    if isinstance(fn, Unit):
        log_prob = torch.as_tensor(fn.parameters[0]).double()
    else:
        value = torch.as_tensor(value)
        # some distributions count in the precision of the value
        log_prob = fn.log_prob(value.double() if value.is_floating_point() else value).double()
    mask = msg["mask"]
    if mask is not None and mask is not True:
        log_prob = torch.where(torch.as_tensor(mask), log_prob, torch.zeros_like(log_prob))
    return (log_prob * scale).sum()
