"""A distribution over the tensors that were found, with the weights that they have."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints

from contpoutine.distributions.torch_distribution import TorchDistribution
from contpoutine.errors import DistributionError


class Empirical(TorchDistribution):
    """`samples[i]` with probability proportional to `exp(log_weights[i])`; equal samples add up.

    `samples` has shape `(K, *event_shape)`, `log_weights` shape `(K,)`; they are normalised.

    Raises:
        DistributionError: the shapes do not agree, or there is no positive finite weight.

    >>> d = Empirical(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([0.25, 0.5, 0.25]).log())
    >>> d.log_prob(torch.tensor(1.0)).exp(), d.mean
    (tensor(0.5000), tensor(1.5000))
    """

    _is_home = True
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own interface)
    has_enumerate_support = True

    def __init__(
        self,
        samples: torch.Tensor,
        log_weights: torch.Tensor,
        validate_args: bool | None = None,
    ) -> None:
        if log_weights.dim() != 1 or samples.shape[:1] != log_weights.shape:
            raise DistributionError(
                f"Empirical takes samples of shape (K, ...) and log-weights of shape (K,), and "
                f"was given {tuple(samples.shape)} and {tuple(log_weights.shape)}."
            )
        total = log_weights.logsumexp(0) if len(log_weights) else torch.tensor(-torch.inf)
        if not bool(total.isfinite()):
            raise DistributionError(
                f"the log-weights of Empirical must have a finite, positive total, and are "
                f"{log_weights}."
            )
        self.samples, self.log_weights = samples, log_weights - total
        super().__init__(torch.Size(), samples.shape[1:], validate_args)

    @property
    def support(self) -> Any:
        dims = len(self.event_shape)
        return constraints.independent(constraints.real, dims)  # type: ignore[no-untyped-call]

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Minus infinity for a value that is none of the samples."""
        dims = len(self.event_shape)
        same = value.unsqueeze(value.dim() - dims) == self.samples
        if dims:
            same = same.flatten(-dims).all(-1)
        impossible = self.log_weights.new_full((), -torch.inf)
        return torch.where(same, self.log_weights, impossible).logsumexp(-1)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        shape = torch.Size(sample_shape)
        index = torch.multinomial(self.log_weights.exp(), shape.numel(), replacement=True)
        return self.samples[index].reshape(shape + self.event_shape)

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        """The distinct samples."""
        distinct: torch.Tensor = torch.unique(self.samples, dim=0)
        return distinct

    @property
    def mean(self) -> torch.Tensor:
        return self._average(self._floats())

    @property
    def variance(self) -> torch.Tensor:
        return self._average((self._floats() - self.mean) ** 2)

    def _floats(self) -> torch.Tensor:
        samples = self.samples
        return samples if samples.dtype.is_floating_point else samples.to(self.log_weights.dtype)

    def _average(self, per_sample: torch.Tensor) -> torch.Tensor:
        weights = self.log_weights.exp().to(per_sample.dtype)
        average: torch.Tensor = torch.tensordot(weights, per_sample, dims=1)
        return average

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Itself, for an empty batch shape.

        Raises:
            NotImplementedError: for any other.
        """
        if torch.Size(batch_shape):
            raise NotImplementedError(
                "Empirical has no batched form: draw with `sample(sample_shape)`"
            )
        return self

    def __repr__(self) -> str:
        shape = tuple(self.event_shape)
        return f"Empirical({len(self.samples)} weighted samples of shape {shape})"
