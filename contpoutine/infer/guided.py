"""A guide and a model that is replayed on what the guide has drawn."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from contpoutine.core.model import describe
from contpoutine.distributions.symbolic import Symbolic
from contpoutine.errors import GuideMismatchError
from contpoutine.poutine.handlers import replay, trace
from contpoutine.poutine.trace_struct import Trace
from contpoutine.poutine.util import prune_subsample_sites, site_is_subsample

Model = Callable[..., Any]


def guided_traces(
    model: Model, guide: Model, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Trace, Trace]:
    """One execution of the guide, and one of the model with the guide's values: (model, guide).

    Raises:
        GuideMismatchError: the two do not draw the same sites.
    """
    guide_trace = trace(guide).get_trace(*args, **kwargs)
    model_trace = replayed_trace(model, guide_trace, args, kwargs)
    check_match(model, guide, latent(model_trace), latent(guide_trace), set(model_trace.nodes))
    return prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)


def replayed_trace(
    model: Model, guide_trace: Trace, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Trace:
    """An execution of the model with the guide's values. Whether the two match, the caller asks."""
    values = guide_trace.copy()
    values.remove_node("_RETURN")  # so that it is no complete execution of the model's own
    return trace(replay(model, trace=values)).get_trace(*args, **kwargs)  # type: ignore[no-any-return]


def latent(trace: Trace) -> list[str]:
    """The unobserved sites that a guide and its model have to share.

    A value that `poutine.delayed` keeps symbolic is integrated out, and no guide draws it.
    """
    return [
        name
        for name, node in trace.iter_stochastic_nodes()
        if not site_is_subsample(node)
        and not node["infer"].get("is_auxiliary")
        and not isinstance(node["value"], Symbolic)
    ]


def check_match(
    model: Model, guide: Model, drawn: Iterable[str], guided: Iterable[str], known: set[str]
) -> None:
    """Refuse a guide for another model: the difference of their densities would be no bound.

    Args:
        drawn: the unobserved sites of the model.
        guided: those of the guide.
        known: every site of the model.
    """
    drawn, guided = list(drawn), list(guided)
    for name in drawn:
        if name not in guided:
            near = difflib.get_close_matches(name, guided, n=1)
            hint = f" Did the guide mean {near[0]!r}?" if near else ""
            raise GuideMismatchError(
                f"site {name!r} of the model {describe(model)} is neither observed nor drawn by "
                f"the guide {describe(guide)}.{hint} Draw it in the guide, or observe it. A "
                f"discrete site that is to be summed out is for infer.EnumELBO."
            )
    for name in guided:
        if name not in known:
            others = [n for n in known if n not in guided and n not in ("_INPUT", "_RETURN")]
            near = difflib.get_close_matches(name, others, n=1)
            hint = f" Did it mean {near[0]!r}?" if near else ""
            raise GuideMismatchError(
                f"the guide {describe(guide)} draws site {name!r}, which the model "
                f"{describe(model)} does not have.{hint} A site that only helps the guide is "
                f"marked so: `infer={{'is_auxiliary': True}}`."
            )
