"""Optimisers over the parameters of a model, by Pyro's names and with Pyro's arguments.

`Adam`, `ClippedAdam` and every other class of `torch.optim` (`SGD`, `RMSprop`, ...) take a
dictionary of the torch class's own arguments. Nobody lists the parameters beforehand: a step is
given the leaf tensors that a loss has met, and new ones may come at any step.

>>> import torch
>>> import contpoutine as cp
>>> cp.clear_param_store()
>>> loc = cp.get_param_store().setdefault("loc", 1.0)
>>> optimizer = cp.optim.SGD({"lr": 0.5})
>>> (loc**2).backward()
>>> optimizer.step({loc.unconstrained()})
>>> cp.get_param_store()["loc"].item()
0.0
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from contpoutine.optim.optimizer import Optimizer as Optimizer

    def __getattr__(name: str) -> Callable[..., Optimizer]: ...

else:

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from contpoutine.optim.optimizer import Optimizer, named

        if name == "Optimizer":
            return Optimizer
        found = globals()[name] = named(name)
        return found


def __dir__() -> list[str]:
    from contpoutine.optim.optimizer import names

    return sorted({"Optimizer", *names()})


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"contpoutine.optim has no optimiser {name!r}.{hint} There are {', '.join(known)}."
