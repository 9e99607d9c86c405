"""replay: the values of an earlier execution again."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from contpoutine.core.ambient import DRIVEN
from contpoutine.core.messenger import Messenger
from contpoutine.errors import TraceMismatchError
from contpoutine.poutine.names_met import WAITING, NamesMet
from contpoutine.poutine.trace_struct import Trace


class ReplayMessenger(Messenger):
    """Gives unobserved sites the values that they have in `trace`.

    Observed sites keep their values; sites that the trace does not know are drawn as usual.

    Args:
        trace: the execution to take values from.
        params: values for parameters, by name.

    Raises:
        ValueError: neither is given.
        TraceMismatchError: at a site that the trace has as an observation or a parameter; at the
            end, if the trace is complete and has none of the sites that the model has drawn.
    """

    fork_constant = True

    def __init__(self, trace: Trace | None = None, params: Mapping[str, Any] | None = None) -> None:
        if trace is None and params is None:
            raise ValueError("replay needs trace=... or params=... to take values from")
        if trace is not None and not isinstance(trace, Trace):
            raise TypeError(
                f"replay needs a Trace, such as trace(model).get_trace(...) gives, not {trace!r}"
            )
        self.trace, self.params = trace, params
        self._met = _Replayed(trace)

    def _pyro_sample(self, msg: Any) -> None:
        if self.trace is not None and not replay_site(self.trace, msg) and self._met.unmet:
            if not msg["is_observed"]:
                self._met.meet(msg["name"], False)
        elif self._met.unmet:
            self._met.unmet.clear()

    def _pyro_param(self, msg: Any) -> None:
        if self.params is not None and msg["name"] in self.params:
            msg["value"], msg["done"] = self.params[msg["name"]], True

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
        return f"replay(trace={self.trace and self.trace.stochastic_nodes})"


class _Replayed(NamesMet):
    """The sites of a trace, none of which the model may have had."""

    def __init__(self, trace: Trace | None) -> None:
        # A complete execution of the same model has at least its first site.
        complete = trace is not None and "_RETURN" in trace
        super().__init__("replay", "sample", trace.stochastic_nodes if complete else ())  # type: ignore[union-attr]

    def leave(self, exc_type: Any) -> None:
        if exc_type is None and self.unmet and self.met_any and WAITING.get() is None:
            if not DRIVEN.get():
                self.warn()
            return
        super().leave(exc_type)

    def _say(self, unmet: list[str]) -> None:
        has = ", ".join(map(repr, unmet[:5]))
        performed = ", ".join(map(repr, list(self.others)[:5]))
        raise TraceMismatchError(
            f"the trace that is replayed is of another model: it has {has}, and the model "
            f"performed {performed}. None of its values was used."
        )


def replay_site(trace: Trace, msg: Any) -> bool:
    """Give `msg` the value that its site has in `trace`, if any; tell whether it had one."""
    node = trace.nodes.get(msg["name"])
    if node is None or msg["is_observed"]:
        return False
    if node["type"] != "sample" or node["is_observed"]:
        held = "an observed site" if node["type"] == "sample" else f"a {node['type']} site"
        raise TraceMismatchError(
            f"the trace that is replayed has {msg['name']!r} as {held}, and the model draws it at "
            f"{msg.where}. To observe it, condition the model: condition(model, data=trace)."
        )
    msg["value"], msg["infer"], msg["done"] = node["value"], node["infer"], True
    return True
