"""What an enumerated execution was weighed by, kept so that gradients can flow through it later.

A `Scorer` is a handler inside of the enumerated computation, so each branch has its own. What it
has recorded is an immutable list, newest site first: a fork costs O(1), and branches share the
sites that they have in common, whose log-probabilities are then computed once. Sites that no
gradient can pass are summed up as they come, as floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from contpoutine.core.machine import default_value, is_decided
from contpoutine.core.messenger import Messenger
from contpoutine.distributions.choices import has_finite_support, log_weight
from contpoutine.errors import GuideMismatchError, OverruledError, ParamError
from contpoutine.poutine.site_log_prob import is_plain, log_weight_of
from contpoutine.poutine.util import site_is_subsample

DECIDED, DRAWN, CHOSEN = range(3)
"""How a site got its value: from the model or a handler, at random, or by the enumeration."""


class ScoredSite:
    """One site whose log-probability is a tensor. Branches share it."""

    fork_shared = True
    __slots__ = (
        "args",
        "earlier",
        "fn",
        "how",
        "kwargs",
        "mask",
        "name",
        "scale",
        "value",
        "version",
    )

    def __init__(self, earlier: ScoredSite | None, msg: Any, how: int) -> None:
        self.earlier, self.how = earlier, how
        self.name, self.fn, self.value = msg["name"], msg["fn"], msg["value"]
        self.scale, self.mask = msg["scale"], msg["mask"]
        self.args, self.kwargs = msg["args"], msg["kwargs"]
        self.version = _version(self.value)

    def node(self) -> dict[str, Any]:
        """The site as a trace has it, as far as its log-probability goes."""
        return {key: getattr(self, key) for key in _SCORED}

    def unscaled(self) -> ScoredSite:
        """The same site without scale and mask."""
        return ScoredSite(None, {**self.node(), "scale": 1.0, "mask": None}, self.how)

    def check(self) -> None:
        """Raise where the model has changed the value since, as its score would be another one."""
        if _version(self.value) != self.version:
            raise ParamError(
                f"the model has changed the value of site {self.name!r} in place, so its "
                f"log-probability can no longer be computed. Work on a copy: `x.clone()`, or write "
                f"`x = x + 1` instead of `x += 1`."
            )


def _version(value: Any) -> Any:
    return getattr(value, "_version", None)


class Scores(NamedTuple):
    """What one execution was weighed by.

    Attributes:
        newest: the last of its scored sites.
        decided: the float part of the log-probability of sites that were decided or drawn.
        chosen: that of sites that the enumeration chose.
        chosen_scaled: the same, with the sites' scales and masks.
        values: the value of each unobserved or given site.
        met: how often a site was one of those given, auxiliary ones aside.
    """

    newest: ScoredSite | None
    decided: float
    chosen: float
    chosen_scaled: float
    values: Values | None
    met: int


class Values:
    """The values of sites, newest first; branches share them."""

    fork_shared = True
    __slots__ = ("auxiliary", "earlier", "name", "value")

    def __init__(self, earlier: Values | None, name: str, value: Any, auxiliary: bool) -> None:
        self.earlier, self.name, self.value, self.auxiliary = earlier, name, value, auxiliary


class Scorer(Messenger):
    """Records what weighs an execution; decides what the enumeration cannot choose.

    Args:
        given: values for sites of these names, as `replay` gives them.
        draw: called with a message that has no finite support: its value.
    """

    def __init__(self, given: Mapping[str, Any], draw: Callable[[Any], Any]) -> None:
        self.given, self.draw = given, draw
        self.newest: ScoredSite | None = None
        self.values: Values | None = None
        self.decided = self.chosen = self.chosen_scaled = 0.0
        self.how = DECIDED
        self.met = 0

    def _pyro_sample(self, msg: Any) -> None:
        self.how = DECIDED
        if is_decided(msg):
            return
        if msg["name"] in self.given:
            msg["value"], msg["done"] = self.given[msg["name"]], True
        elif site_is_subsample(msg):  # what a plate is about is no expectation
            msg["value"], msg["done"] = default_value(msg), True
        elif has_finite_support(msg["fn"]) and msg["infer"].get("enumerate", True):
            self.how = CHOSEN
        else:
            self.how = DRAWN
            msg["value"], msg["done"] = self.draw(msg), True

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.how != DECIDED and (msg["is_observed"] or "decided_outside" in msg):
            raise _overruled(msg)
        name, given = msg["name"], msg["name"] in self.given
        if site_is_subsample(msg):
            self.values = Values(self.values, name, msg["value"], True)
            return
        if given or not msg["is_observed"]:
            auxiliary = bool(msg["infer"].get("is_auxiliary"))
            self.values = Values(self.values, name, msg["value"], auxiliary)
            self.met += given and not auxiliary
        if not is_plain(msg):
            self.newest = ScoredSite(self.newest, msg, self.how)
        elif self.how != CHOSEN:
            self.decided += log_weight_of(msg)
        else:
            self.chosen_scaled += log_weight_of(msg)
            self.chosen += log_weight(msg["fn"], msg["value"], name)

    def scores(self) -> Scores:
        """What has been recorded."""
        floats = self.decided, self.chosen, self.chosen_scaled
        return Scores(self.newest, *floats, self.values, self.met)

    def __fork__(self, memo: Any) -> Scorer:
        fresh = Scorer.__new__(Scorer)
        memo.record(self, fresh)
        fresh.__dict__.update(self.__dict__)
        return fresh


def _overruled(msg: Any) -> OverruledError:
    return OverruledError(
        f"a handler around EnumELBO decides site {msg['name']!r}, performed at {msg.where}, which "
        f"is enumerated or drawn inside of it. Put the handler around the model or the guide: "
        f"`elbo.loss(condition(model, data=...), guide)`."
    )


_SCORED = ("name", "fn", "value", "args", "kwargs", "scale", "mask")


def draw(msg: Any) -> Any:
    """A value at random, with gradients where the distribution can."""
    return default_value(msg)


def refuse(msg: Any) -> Any:
    """For a model under a guide, which leaves nothing to be drawn."""
    raise GuideMismatchError(
        f"site {msg['name']!r}, performed at {msg.where}, is drawn by no guide and cannot be "
        f"summed out: its distribution {msg['fn']!r} has no finite support. Draw it in the guide, "
        f"or observe it."
    )
