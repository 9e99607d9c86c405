"""condition: observe what the model would have drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contpoutine.core.messenger import Messenger
from contpoutine.poutine.trace_struct import Trace

Data = Mapping[str, Any] | Trace


class ConditionMessenger(Messenger):
    """Makes the sample sites named in `data` observed, with the values given there.

    A site that the model observes by itself gets the new value. A value of None leaves its site
    unobserved, as in Pyro; names that the model does not perform have no effect.

    Args:
        data: a mapping from site name to value, or a `Trace`, whose values are taken.
    """

    fork_constant = True

    def __init__(self, data: Data) -> None:
        if not isinstance(data, Mapping | Trace):
            raise TypeError(f"condition needs data={{site name: value}} or a Trace, not {data!r}")
        self.data = data

    def _pyro_sample(self, msg: Any) -> None:
        name, data = msg["name"], self.data
        if name in data:
            value = data.nodes[name]["value"] if isinstance(data, Trace) else data[name]
            msg["value"] = value
            msg["is_observed"] = value is not None

    def __repr__(self) -> str:
        names = [name for name in self.data if name not in ("_INPUT", "_RETURN")]
        return f"condition(data={{{', '.join(names)}}})"
