"""What every torch-backed distribution here can do beside what torch gives it.

The methods have Pyro's names: `to_event`, `mask`, `shape`, and calling a distribution draws from
it. Torch's own validation is off; parameters are checked once, cheaply, at the boundary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import Distribution
from torch.distributions import Independent as TorchIndependent

from contpoutine.errors import DistributionError

Shape = torch.Size | tuple[int, ...] | list[int]


class TorchDistribution(Distribution):
    """The mixin in front of each torch class: validation off, and Pyro's shape methods."""

    _validate_args = False

    def __call__(self, sample_shape: Shape = ()) -> torch.Tensor:
        """A draw of shape `sample_shape + batch_shape + event_shape`, by `rsample` where it can."""
        draw = self.rsample if self.has_rsample else self.sample
        return draw(torch.Size(sample_shape)) if sample_shape else draw()

    def shape(self, sample_shape: Shape = ()) -> torch.Size:
        """The shape of a draw."""
        return torch.Size(sample_shape) + self.batch_shape + self.event_shape

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Distribution:
        """The same distribution with its rightmost batch dimensions read as one event.

        None takes all of them.
        """
        if reinterpreted_batch_ndims is None:
            reinterpreted_batch_ndims = len(self.batch_shape)
        return Independent(self, reinterpreted_batch_ndims)

    def mask(self, mask: bool | torch.Tensor) -> Masked:
        """The same distribution, with log-probability zero wherever `mask` is False."""
        return Masked(self, mask)

    def expand_by(self, sample_shape: Shape) -> Distribution:
        """The same distribution with `sample_shape` put in front of its batch shape."""
        expanded: Distribution = self.expand(torch.Size(sample_shape) + self.batch_shape)
        return expanded

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        """An empty instance to expand into; only a user's own `__init__` stands in the way."""
        if _instance is None and uses_library_init(type(self)):
            return object.__new__(type(self))
        return super()._get_checked_instance(cls, _instance)  # type: ignore[no-untyped-call]


def uses_library_init(cls: type) -> bool:
    """Whether `cls` is a class of this library, or a subclass with no `__init__` of its own."""
    for base in cls.__mro__:
        if base.__dict__.get("_is_home"):
            return True
        if "__init__" in base.__dict__:
            return False
    return False


class Independent(TorchDistribution, TorchIndependent[Distribution]):
    """torch's `Independent`: the rightmost batch dimensions of `base` read as one event.

    Raises:
        DistributionError: `base` has fewer batch dimensions.
    """

    _is_home = True

    def __init__(
        self,
        base_distribution: Distribution,
        reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ) -> None:
        dims = len(base_distribution.batch_shape)
        if not 0 <= reinterpreted_batch_ndims <= dims:
            raise DistributionError(
                f"to_event({reinterpreted_batch_ndims}) of {base_distribution!r}: it has {dims} "
                f"batch dimension(s) (batch shape {tuple(base_distribution.batch_shape)}), so "
                f"the number must lie between 0 and {dims}."
            )
        super().__init__(base_distribution, reinterpreted_batch_ndims, validate_args)


class Masked(TorchDistribution):
    """`base` with its log-probability set to zero wherever `mask` is False.

    It is what `.mask(...)` gives. Where the mask is False the weights no longer sum to 1: such an
    element is not scored, and each of its values has weight 1.
    """

    _is_home = True
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own interface)

    def __init__(self, base: Distribution, mask: bool | torch.Tensor) -> None:
        self.base_dist = base
        self._mask = mask
        super().__init__(base.batch_shape, base.event_shape)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.base_dist.has_rsample)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return bool(self.base_dist.has_enumerate_support)

    @property
    def support(self) -> Any:
        return self.base_dist.support

    @property
    def mean(self) -> torch.Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> torch.Tensor:
        return self.base_dist.variance

    def expand(self, batch_shape: Any, _instance: Any = None) -> Masked:
        shape = torch.Size(batch_shape)
        mask = self._mask.expand(shape) if isinstance(self._mask, torch.Tensor) else self._mask
        return Masked(self.base_dist.expand(shape), mask)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self.base_dist.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self.base_dist.rsample(torch.Size(sample_shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        log_prob = self.base_dist.log_prob(value)
        mask = torch.as_tensor(self._mask, device=log_prob.device)
        return torch.where(mask, log_prob, log_prob.new_zeros(()))

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        support: torch.Tensor = self.base_dist.enumerate_support(expand=expand)
        return support

    def __repr__(self) -> str:
        return f"{self.base_dist!r}.mask({self._mask!r})"
