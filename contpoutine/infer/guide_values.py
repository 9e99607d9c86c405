"""What an execution of a guide hands to the model, and whether the model takes all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contpoutine.core.model import describe
from contpoutine.errors import DuplicateSiteError
from contpoutine.infer.guided import check_match
from contpoutine.infer.scored_sites import Scores

Model = Callable[..., Any]


def values_of(guide: Model, scores: Scores) -> dict[str, Any]:
    """What an execution of the guide has drawn, by name."""
    values: dict[str, Any] = {}
    at = scores.values
    while at is not None:
        if at.name in values and not at.auxiliary:
            raise DuplicateSiteError(
                f"the guide {describe(guide)} has two sites named {at.name!r} in one execution, "
                f"and the model could not tell them apart. Give each a name of its own; in a loop, "
                f'put the counter into it: f"{at.name}_{{i}}".'
            )
        values[at.name] = at.value
        at = at.earlier
    return values


def needed_of(drawn: Scores) -> list[str]:
    """The sites of the guide that the model has to have."""
    needed = []
    at = drawn.values
    while at is not None:
        needed += [] if at.auxiliary else [at.name]
        at = at.earlier
    return needed


def check_all_used(model: Model, guide: Model, drawn: Scores, found: list[Scores]) -> None:
    """Each value of the guide has to be used once by each execution of the model."""
    needed = needed_of(drawn)
    for scores in found:
        if scores.met == len(needed):
            continue
        known = []
        at = scores.values
        while at is not None:
            known.append(at.name)
            at = at.earlier
        check_match(model, guide, (), needed, set(known))
        twice = [name for name in known if known.count(name) > 1 and name in needed]
        if twice:
            raise DuplicateSiteError(
                f"the model {describe(model)} has two sites named {twice[0]!r} in one execution, "
                f"and the guide draws one. Give each site a name of its own."
            )


def impossible(model: Model, values: dict[str, Any]) -> str:
    """What an error says of values that the model cannot have."""
    shown = ", ".join([f"{name}={value!r}" for name, value in list(values.items())[:12]])
    drawn = f" with {shown}, to which the guide gives a positive probability" if values else ""
    return (
        f"no execution of the model {describe(model)} has a positive probability{drawn}. The ELBO "
        f"is minus infinity there, and no parameter was changed. Look for an observation that is "
        f"impossible under these values."
    )
