"""Predictive: what a model says of the sites that are not given, sample by sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from contpoutine.distributions.content import is_tensor
from contpoutine.errors import AmbiguousSiteError, UnknownSiteError
from contpoutine.infer.execution import Execution, unknown
from contpoutine.poutine.handlers import condition, trace
from contpoutine.poutine.trace_struct import Trace
from contpoutine.poutine.util import prune_subsample_sites

Model = Callable[..., Any]


class Predictive:
    """Runs a model once for each sample of a posterior, and collects what it draws.

    Calling it with the model's arguments gives a dictionary from the names of sites to their
    values, the sample first: numbers and tensors are stacked, whatever else there is makes a list.
    A site that some runs do not visit is a list with None there. No gradients are recorded.

    Args:
        model: a generator model. Its observed sites are predicted where their observation is not
            given (`obs=None`).
        posterior_samples: values by site name, each with the samples along its first dimension (or
            in a list); or a posterior with a method `sample(n)`, such as `infer.enumerate` and
            `infer.importance` give: then executions are drawn from it.
        guide: a generator model that draws the samples; instead of `posterior_samples`.
        num_samples: how many. Needed where the samples do not say it.
        return_sites: which sites (and `"_RETURN"`) to give. By default, those that are not among
            the samples; with a guide, all of the model's.

    Raises:
        ValueError: the arguments do not say how many samples there are, or contradict each other.
        UnknownSiteError: when called, where no run visits one of `return_sites`.

    >>> import torch
    >>> import contpoutine as cp
    >>> import contpoutine.distributions as dist
    >>> def model():
    ...     p = yield cp.sample("p", dist.Beta(1.0, 1.0))
    ...     return (yield cp.sample("heads", dist.Bernoulli(p)))
    >>> predictive = Predictive(model, {"p": torch.tensor([0.0, 1.0, 1.0])})
    >>> predictive()
    {'heads': tensor([0., 1., 1.])}
    """

    def __init__(
        self,
        model: Model,
        posterior_samples: Any = None,
        guide: Model | None = None,
        num_samples: int | None = None,
        return_sites: Collection[str] = (),
    ) -> None:
        _check("a model", model)
        if guide is not None:
            _check("a guide", guide)
        if isinstance(return_sites, str):
            raise TypeError(f"return_sites is a list of names: [{return_sites!r}]")
        if guide is not None and posterior_samples:
            raise ValueError("Predictive takes posterior_samples or a guide, not both")
        if num_samples is not None and (type(num_samples) is not int or num_samples < 1):
            raise ValueError(f"num_samples is 1 or more, not {num_samples!r}")
        self.model, self.guide, self.return_sites = model, guide, tuple(return_sites)
        self.posterior_samples = {} if posterior_samples is None else posterior_samples
        self.num_samples = self._count(num_samples)

    def _count(self, num_samples: int | None) -> int:
        samples = self.posterior_samples
        if isinstance(samples, Mapping):
            counts = {name: len(values) for name, values in samples.items()}
            if num_samples is not None:
                counts = {"num_samples": num_samples, **counts}
            if len(set(counts.values())) > 1:
                raise ValueError(f"the numbers of samples differ: {counts}")
            if counts:
                return next(iter(counts.values()))
        elif not callable(getattr(samples, "sample", None)):
            raise TypeError(
                f"posterior_samples is a dictionary from site names to values, or a posterior with "
                f"a method sample(n), not {samples!r}"
            )
        if num_samples is None:
            raise ValueError("Predictive needs num_samples here: nothing else says how many")
        return num_samples

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the model with these arguments, once for each sample."""
        import torch

        with torch.no_grad():
            given = self._given(args, kwargs)
            runs = [
                prune_subsample_sites(
                    trace(condition(self.model, data=values)).get_trace(*args, **kwargs)
                )
                for values in given
            ]
        wanted = self.return_sites or self._default_sites(runs, given)
        for name in wanted:
            if not any(name in run.nodes for run in runs):
                known = dict.fromkeys(name for run in runs for name in _sites(run))
                raise UnknownSiteError(unknown(name, known, "any run of the model"))
        return {name: _together([_value(run, name) for run in runs]) for name in wanted}

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Mapping[str, Any]]:
        """The values of each sample, by site name."""
        samples = self.posterior_samples
        if self.guide is not None:
            draws = [trace(self.guide).get_trace(*args, **kwargs) for _ in range(self.num_samples)]
            return [_values(prune_subsample_sites(draw)) for draw in draws]
        if isinstance(samples, Mapping):
            return [
                {name: values[i] for name, values in samples.items()}
                for i in range(self.num_samples)
            ]
        return [_values(draw) for draw in samples.sample(self.num_samples)]

    def _default_sites(
        self, runs: Sequence[Trace], given: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        held = set() if self.guide is not None else {name for values in given for name in values}
        found = dict.fromkeys(name for run in runs for name in _sites(run))
        return [name for name in found if name not in held]


def _check(what: str, given: Any) -> None:
    if not callable(given):
        raise TypeError(f"Predictive needs {what}, a generator function, not {given!r}")


def _sites(run: Trace) -> list[str]:
    return [name for name, node in run.nodes.items() if node["type"] == "sample"]


def _value(run: Trace, name: str) -> Any:
    return run.nodes[name]["value"] if name in run.nodes else None


def _values(draw: Any) -> dict[str, Any]:
    """The values of unobserved sites in a trace, or in an execution of an enumeration."""
    if isinstance(draw, Trace):
        return {
            name: node["value"]
            for name, node in draw.iter_stochastic_nodes()
            if not node["infer"].get("is_auxiliary")
        }
    if not isinstance(draw, Execution):
        raise TypeError(f"a posterior gives traces or executions as its samples, not {draw!r}")
    values: dict[str, Any] = {}
    for name, value in draw.choices:
        if name in values:
            raise AmbiguousSiteError(
                f"site {name!r} occurs more than once in one execution, so its value cannot be "
                f"given by name. Give the sites different names in the model, such as "
                f'f"{name}{{i}}".'
            )
        values[name] = value
    # the elements of a batched site are choices of their own, and the site is there as a whole
    return {name: value for name, value in values.items() if not _is_element(name, values)}


def _is_element(name: str, values: Mapping[str, Any]) -> bool:
    found = re.fullmatch(r"(.+)\[\d+\]", name)
    return found is not None and found[1] in values


def _together(values: list[Any]) -> Any:
    import torch

    kinds = set(map(type, values))
    if kinds <= {int, float, bool} and len(kinds) == 1:
        return torch.tensor(values)
    if all(map(is_tensor, values)) and len({(v.shape, v.dtype) for v in values}) == 1:
        return torch.stack(values)
    return values
