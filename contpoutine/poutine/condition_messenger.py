"""condition: observe what the model would have drawn."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from contpoutine.core.messenger import Messenger
from contpoutine.poutine.names_met import NamesMet
from contpoutine.poutine.trace_struct import Trace

Data = Mapping[str, Any] | Trace


class ConditionMessenger(Messenger):
    """Makes the sample sites named in `data` observed, with the values given there.

    A site that the model observes by itself gets the new value. A value of None leaves its site
    unobserved, as in Pyro.

    Args:
        data: a mapping from site name to value, or a `Trace`, whose values are taken.

    Warns:
        UnmetNameWarning: a mapping names a site that the model never performs.
    """

    fork_constant = True

    def __init__(self, data: Data) -> None:
        if not isinstance(data, Mapping | Trace):
            raise TypeError(f"condition needs data={{site name: value}} or a Trace, not {data!r}")
        self.data = data
        self._met = NamesMet("condition", "sample", () if isinstance(data, Trace) else data)

    def _pyro_sample(self, msg: Any) -> None:
        name, data = msg["name"], self.data
        if self._met.unmet:
            wanted = name in data
            self._met.meet(name, wanted, not (wanted or msg["is_observed"]))
        if name in data:
            value = data.nodes[name]["value"] if isinstance(data, Trace) else data[name]
            msg["value"] = value
            msg["is_observed"] = value is not None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        done = super().__exit__(exc_type, exc_value, traceback)
        self._met.leave(exc_type)
        return done

    def __repr__(self) -> str:
        names = [name for name in self.data if name not in ("_INPUT", "_RETURN")]
        return f"condition(data={{{', '.join(names)}}})"
