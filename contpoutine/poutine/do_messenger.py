"""do: set what the model goes on with, whatever the site's own value is.

The site is performed as ever, and everybody further out sees it: it is drawn, observed, enumerated,
recorded. Only on its way down to the model its value is replaced. So `do` composes with `condition`
as in a single-world intervention graph (Richardson and Robins, 2013), where the variable is split:
one half has its own distribution, the other half is the intervention.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from contpoutine.core.messenger import Messenger
from contpoutine.errors import InterventionWarning
from contpoutine.poutine.names_met import NamesMet
from contpoutine.poutine.three_ways import Model, apply
from contpoutine.poutine.values import as_site_value

__all__ = ["DoMessenger", "do"]

_numbers = itertools.count()


class DoMessenger(Messenger):
    """Replaces the values of the sites named in `data` by the values given there.

    Handlers further in see the replaced value, as an observation; those further out see the site
    with its own.

    Args:
        data: a mapping from site name to value. None leaves its site alone.

    Warns:
        InterventionWarning: two of them replace the value of one site.
        UnmetNameWarning: the model never performs a site that is named.
    """

    fork_constant = True

    def __init__(self, data: Mapping[str, Any]) -> None:
        if not isinstance(data, Mapping):
            raise TypeError(f"do needs data={{site name: value}}, not {data!r}")
        self.data = data
        self._intervener_id = str(next(_numbers))
        self._met = NamesMet("do", "sample", data)

    def _pyro_sample(self, msg: Any) -> None:
        wanted = self.data.get(msg["name"]) is not None
        self._met.meet(msg["name"], wanted, not (wanted or msg["is_observed"]))
        if wanted:
            if msg.get("_intervener_id") is not None:
                warnings.warn(
                    f"two do handlers intervene on site {msg['name']!r}, performed at {msg.where}: "
                    f"the model gets the inner one's value",
                    InterventionWarning,
                    stacklevel=2,
                )
            msg["_intervener_id"] = self._intervener_id

    def _pyro_post_sample(self, msg: Any) -> None:
        value = self.data.get(msg["name"])
        if value is not None and msg.get("_intervener_id") is not None:
            msg["value"], msg["is_observed"] = as_site_value(msg["fn"], value), True

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        done = super().__exit__(exc_type, exc_value, traceback)
        self._met.leave(exc_type)
        return done


def do(fn: Model | None = None, data: Mapping[str, Any] | None = None) -> Any:
    """Let the model go on with the values in `data` in place of those of its sites.

    >>> import contpoutine as cp
    >>> def model():
    ...     rain = yield cp.sample("rain", cp.distributions.Flip(0.2))
    ...     return (yield cp.sample("wet", cp.distributions.Flip(0.9 if rain else 0.1)))
    >>> made_to_rain = cp.infer.enumerate(do(model, data={"rain": True}))()
    >>> round(made_to_rain.marginal()[True], 4), round(made_to_rain.marginal("rain")[True], 4)
    (0.9, 0.2)
    """
    return apply("do", fn, DoMessenger(data))  # type: ignore[arg-type]
