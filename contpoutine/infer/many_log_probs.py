"""The log-probabilities of many sites at once, as one differentiable vector in float64.

Torch asks as much for one number as for a thousand. So the scalar sites of one family (Normal,
Bernoulli, Categorical) are stacked and weighed together; a tensor that many of them have in common,
such as a parameter, is taken once. Every other site is weighed by its own distribution.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from contpoutine.distributions.bernoulli import Bernoulli
from contpoutine.distributions.categorical import Categorical
from contpoutine.distributions.light import versions
from contpoutine.distributions.normal import Normal
from contpoutine.infer.scored_sites import ScoredSite
from contpoutine.poutine.site_log_prob import site_log_prob

_HALF_LOG_TWO_PI = 0.9189385332046727


def log_probs(sites: Sequence[ScoredSite]) -> torch.Tensor:
    """The log-probability of each site, with its scale and mask: shape `(len(sites),)`.

    Gradients flow to the parameters of the distributions and to the values.
    """
    groups: defaultdict[Any, list[int]] = defaultdict(list)
    for i, site in enumerate(sites):
        groups[_family(site)].append(i)
    parts, order = [], []
    for family, members in groups.items():
        some = [sites[i] for i in members]
        parts.append(_one_by_one(some) if family is None else _FAMILIES[family[0]](some))
        order += members
    if not parts:
        return torch.zeros(0, dtype=torch.float64)
    place = torch.empty(len(order), dtype=torch.int64)
    place[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(parts)[place]


def _family(site: ScoredSite) -> Any:
    """What the site can be weighed together with; None where it has to be asked by itself."""
    fn, mask, scale = site.fn, site.mask, site.scale
    kind = type(fn)
    if kind not in _FAMILIES or fn._numbers is None or not (mask is None or mask is True):
        return None
    if not fn._is_asleep():
        return None  # it may hold its parameters without their gradients
    if isinstance(scale, torch.Tensor) or not _is_scalar(site.value):
        return None
    if fn._tensors and versions(fn._tensors) != fn._seen:
        return None  # changed in place since: its own log_prob says what is to be said
    if kind is Normal:
        return (kind,)
    (name, given), *_ = fn._arguments.items()
    return (kind, name, len(given)) if kind is Categorical else (kind, name)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float) or (
        isinstance(value, torch.Tensor) and value.dim() == 0 and value.is_cpu
    )


def _one_by_one(sites: list[ScoredSite]) -> torch.Tensor:
    found: dict[Any, torch.Tensor] = {}
    scores = []
    for site in sites:
        key = (id(site.fn), id(site.value), id(site.mask), id(site.scale))
        if key not in found:
            found[key] = site_log_prob(site.node())[1].sum().double()
        scores.append(found[key])
    return torch.stack(scores)


def _scaled(log_prob: torch.Tensor, sites: list[ScoredSite]) -> torch.Tensor:
    scales = [float(site.scale) for site in sites]
    if all(scale == 1.0 for scale in scales):
        return log_prob
    return log_prob * torch.tensor(scales, dtype=torch.float64)


def _normals(sites: list[ScoredSite]) -> torch.Tensor:
    loc = _column([site.fn._arguments["loc"] for site in sites])
    scale = _column([site.fn._arguments["scale"] for site in sites])
    z = (_column([site.value for site in sites]) - loc) / scale
    return _scaled(-0.5 * z * z - scale.log() - _HALF_LOG_TWO_PI, sites)


def _coins(sites: list[ScoredSite]) -> torch.Tensor:
    (name,) = sites[0].fn._arguments
    given = _column([site.fn._arguments[name] for site in sites])
    up = _column([site.value for site in sites]) == 1.0
    if name == "logits":
        log_prob = logsigmoid(torch.where(up, given, -given))
    else:  # of the value itself, so that no gradient passes the log of the other one's zero
        log_prob = torch.where(up, given, 1.0 - given).log()
    return _scaled(log_prob, sites)


def _categories(sites: list[ScoredSite]) -> torch.Tensor:
    (name,) = sites[0].fn._arguments
    rows, row = _distinct([site.fn._arguments[name] for site in sites])
    table = torch.stack([torch.as_tensor(r).double() for r in rows])
    column = torch.tensor([int(site.value) for site in sites])
    if name == "logits":
        logs = table.log_softmax(-1)[row, column]
    else:
        logs = table[row, column].log() - table.sum(-1).log()[row]
    return _scaled(logs, sites)


_FAMILIES: dict[Any, Callable[[list[ScoredSite]], torch.Tensor]] = {
    Normal: _normals,
    Bernoulli: _coins,
    Categorical: _categories,
}


def _column(values: Sequence[Any]) -> torch.Tensor:
    """Numbers and 0-dim tensors as one vector in float64; equal tensors are taken once."""
    if not any(isinstance(value, torch.Tensor) for value in values):
        return torch.tensor([float(value) for value in values], dtype=torch.float64)
    distinct, index = _distinct(values)
    dtype = torch.float64
    parts = [
        value if isinstance(value, torch.Tensor) else torch.tensor(float(value), dtype=dtype)
        for value in distinct
    ]
    if any(part.dtype is not parts[0].dtype for part in parts):
        parts = [part.to(dtype) for part in parts]
    stacked = torch.stack(parts).to(dtype)
    return stacked if len(distinct) == len(values) else stacked[index]


def _distinct(values: Sequence[Any]) -> tuple[list[Any], torch.Tensor]:
    """Each object once, tensors by identity and numbers by value; and where each value is there."""
    places: dict[Any, int] = {}
    distinct: list[Any] = []
    index = []
    for value in values:
        key = ("t", id(value)) if isinstance(value, torch.Tensor) else ("n", _key(value))
        place = places.get(key)
        if place is None:
            place = places[key] = len(distinct)
            distinct.append(value)
        index.append(place)
    return distinct, torch.tensor(index)


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else float(value)
