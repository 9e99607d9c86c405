"""The models, and the cases: which model at which size, and which of them the slow peer is asked.

The quick form takes under two minutes; the full form has Pyro's queue do 12 flips as well.

A site has a name where its system needs one. Enumeration by continuations needs no unique names, so
a loop uses one name again and again, as WebPPL's and the bare loop's sites have none at all; Pyro's
sites are numbered, which its traces require.
"""

from __future__ import annotations

from ..case import Case, Model
from . import asia, chain, dice, flips, geometric, hmm, nested, pcfg, prefix, sprinkler

MODELS: tuple[Model, ...] = (
    flips.MODEL,
    hmm.MODEL,
    pcfg.MODEL,
    dice.MODEL,
    geometric.MODEL,
    nested.MODEL,
    chain.MODEL,
    prefix.MODEL,
    sprinkler.MODEL,
    asia.MODEL,
)

SMALL = Case(flips.MODEL, (4,), pyro=True, variants=True)


def sizes(model: Model, quick: bool) -> list[Case]:
    """The cases of one model, smallest first."""
    match model.name:
        case "flips":
            pyro = {8} if quick else {8, 10, 12}
            return [
                Case(model, (n,), pyro=n in pyro, variants=n in pyro, replay=n < 14 or not quick)
                for n in (8, 10, 12, 14, 16)
            ]
        case "hmm":
            pyro = {4} if quick else {4, 6}
            steps = (4, 7, 10) if quick else (4, 6, 8, 10)
            return [Case(model, (n,), pyro=n in pyro, replay=n < 10 or not quick) for n in steps]
        case "pcfg":
            depths = (3, 4) if quick else (3, 4, 5)
            return [Case(model, (n,), pyro=n == 3, replay=n < 5) for n in depths]
        case "geometric" | "nested":
            return [Case(model, order="likely_first", max_executions=1000)]
        case "chain":
            pyro = {10, 25, 50} if quick else {10, 25, 50, 100, 200}
            return [
                Case(model, (n,), pyro=n in pyro, variants=n == 200)
                for n in (10, 25, 50, 100, 200, 400)
            ]
        case "prefix":
            return [Case(model, (8,), pyro=True)]
        case "dice":
            return [Case(model, pyro=not quick)]
        case _:
            return [Case(model, pyro=True)]


def cases(quick: bool, names: list[str] | None = None) -> list[Case]:
    """All cases of the form, or those of the models named."""
    wanted = [model for model in MODELS if not names or model.name in names]
    return [case for model in wanted for case in sizes(model, quick)]
