"""The handler that delays.

On its way up, a site gets its marginal distribution in place of the one that the model wrote, and
a symbol as its value where it can be delayed. On its way down it is known what became of the site:
still the symbol, or a number that somebody observed, drew or chose. Only then are the beliefs
changed, once for each time that the model goes on from the site.
"""

from __future__ import annotations

from typing import Any, NoReturn, Self

from contpoutine.core.ambient import DRIVEN
from contpoutine.core.machine import is_decided
from contpoutine.core.messenger import Messenger
from contpoutine.distributions import Delta
from contpoutine.distributions.content import is_tensor
from contpoutine.distributions.symbolic import SymbolicDistribution
from contpoutine.errors import (
    BarrierError,
    HandlerStackError,
    OutsideSupportError,
    SymbolicValueError,
)
from contpoutine.poutine.delay.beliefs import NOTHING
from contpoutine.poutine.delay.conjugate import relation, root
from contpoutine.poutine.delay.link import Link, plates_around
from contpoutine.poutine.delay.relation import Relation, Taking
from contpoutine.poutine.delay.repeated import Repeated, is_single
from contpoutine.poutine.delay.symbol import Owner, Symbol, Variable
from contpoutine.poutine.delay.take_number import TakeNumber


class DelayedMessenger(Messenger):
    """Keeps what is drawn symbolic, in one block or one call, and knows what is learned there."""

    def __init__(self, made_by: Messenger | None = None) -> None:
        self.made_by = made_by
        self._owner, self._count = Owner(), 0
        self._beliefs = NOTHING
        self._outside_of_driven = not DRIVEN.get()
        self._entered = False

    def __enter__(self) -> Self:
        if self._entered:
            raise HandlerStackError(
                "what `with poutine.delayed() as known:` gives is for one block; write "
                "`with poutine.delayed():` again for another one"
            )
        self._entered = True
        return super().__enter__()

    def posterior(self, value: Any) -> Any:
        """The distribution of a delayed value, given everything observed so far.

        Raises:
            SymbolicValueError: it is another handler's, or an expression without a closed form.
        """
        if not isinstance(value, Symbol):
            return Delta(value)
        if value.owner is not self._owner:
            not_ours(value)
        return self._beliefs.posterior(value)

    # --- on the way up

    def _pyro_sample(self, msg: Any) -> None:
        if self._outside_of_driven and DRIVEN.get():
            _refuse_outside(msg)
        try:
            link = self._link(msg)
        except SymbolicValueError as error:
            error.add_note(f"site {msg['name']!r} was performed at {msg.where}")
            raise
        if link is None:
            return
        msg["_delayed"], msg["fn"] = link, link.shown
        if link.offered is not None:
            msg["value"], msg["done"] = link.offered, True

    def _link(self, msg: Any) -> Link | None:
        fn, beliefs = msg["fn"], self._beliefs
        if isinstance(fn, TakeNumber):
            return self._taking(msg, fn)
        decided = is_decided(msg)
        if isinstance(msg["value"], Symbol) and not isinstance(fn, Delta):
            if msg["is_observed"]:
                _refuse_observation(msg)
            decided = False  # a trace of an earlier run is replayed, in which it was delayed
        if isinstance(fn, SymbolicDistribution):
            found = relation(fn, beliefs, self._owner)
            if found is not None and found.hangs:
                shape = fn.batch_shape or plates_around(msg)
                if shape or not is_single(msg["value"]):
                    found = self._batch(msg, fn, shape)
        elif decided or msg["infer"].get("delayed") is False:
            return None
        else:
            found = root(fn)
        if found is None:
            return None
        offered = None
        if found.can_be_delayed and not decided and msg["infer"].get("delayed") is not False:
            variable = Variable(str(msg["name"]), self._count)
            offered = Symbol(self._owner, msg.where, {variable: 1.0})
        return Link(self._owner, found, offered, msg)

    def _batch(self, msg: Any, fn: SymbolicDistribution, shape: tuple[int, ...]) -> Relation:
        value = msg["value"]
        if is_tensor(value) and tuple(value.shape) == (shape or value.shape):
            return Repeated(fn, self._beliefs, self._owner)
        raise SymbolicValueError(
            f"site {msg['name']!r} is a batch of {fn!r}, of shape {shape or value.shape}, and only "
            f"a batch that is observed, as one tensor of that shape, can hang on a symbolic value. "
            f"Draw its elements one by one, in a loop, or condition inside of the handler: "
            f"poutine.delayed(poutine.condition(model, data=...))."
        )

    def _taking(self, msg: Any, fn: TakeNumber) -> Link | None:
        if fn.owner is not self._owner:
            return None
        now = self.posterior(fn.parameters["of"])
        if type(now) is Delta:  # taken before: no site this time
            msg["value"], msg["done"], msg["stop"] = now.values[0], True, True
            return None
        return Link(self._owner, Taking(fn.variable, now), None, msg)

    # --- on the way down

    def _pyro_post_sample(self, msg: Any) -> None:
        link = msg.get("_delayed")
        if link is None or link.owner is not self._owner:
            return
        if not link.is_as_shown(msg):
            _changed_further_out(msg)
        value, offered, found = msg["value"], link.offered, link.relation
        scored = self._scored(msg)
        if isinstance(value, Symbol):
            if offered is None or value.terms.keys() != offered.terms.keys():
                not_ours(value)
            msg["value"] = offered
            (variable,) = offered.terms
            self._count += 1
            self._beliefs = found.delayed(self._beliefs, variable)
        elif scored:
            if found.hangs and not (is_single(value) or isinstance(found, Repeated | Taking)):
                self._batch_came_late(msg)
            try:
                self._beliefs = found.learned(self._beliefs, value)
            except OutsideSupportError as error:
                error.add_note(f"site {msg['name']!r} was performed at {msg.where}")
                raise

    def _scored(self, msg: Any) -> bool:
        """Does the value count as evidence? Raises where it would count in part."""
        if msg["mask"] is False:
            return False
        if (msg["mask"] is None or msg["mask"] is True) and float(msg["scale"]) == 1.0:
            return True
        raise SymbolicValueError(
            f"site {msg['name']!r}, performed at {msg.where}, is scaled by {msg['scale']!r} with "
            f"the mask {msg['mask']!r}; poutine.delayed has closed forms for whole observations "
            f"only. Draw its parameters (`infer={{'delayed': False}}` at their sites), or leave "
            f"scale and mask away."
        )

    def _batch_came_late(self, msg: Any) -> NoReturn:
        raise SymbolicValueError(
            f"site {msg['name']!r}, performed at {msg.where}, was given a batch of values by a "
            f"handler further out than poutine.delayed, which had weighed it as a single one. "
            f"Condition inside: poutine.delayed(poutine.condition(model, data=...))."
        )

    def _pyro_posterior(self, msg: Any) -> None:
        (value,) = msg["args"]
        if isinstance(value, Symbol) and value.owner is self._owner:
            msg["value"], msg["done"], msg["stop"] = self.posterior(value), True, True

    def _reset(self) -> None:
        self._beliefs, self._count = NOTHING, 0


def not_ours(value: Symbol) -> NoReturn:
    raise SymbolicValueError(
        f"{value!r} belongs to another `poutine.delayed` handler, or to an earlier use of this "
        f"one. A symbolic value lives inside the handler that made it."
    )


def _changed_further_out(msg: Any) -> NoReturn:
    raise SymbolicValueError(
        f"a handler further out than poutine.delayed, such as a plate or a `do` around it, has "
        f"changed the distribution of site {msg['name']!r}, performed at {msg.where}, or has put "
        f"another value in place of its own; poutine.delayed had weighed the site already. Install "
        f"that handler inside: poutine.delayed around the model that has it."
    )


def _refuse_observation(msg: Any) -> NoReturn:
    raise SymbolicValueError(
        f"site {msg['name']!r} observes {msg['value']!r}, whose number is not known. Take the "
        f"number first: `x = yield poutine.realize(x)`."
    )


def _refuse_outside(msg: Any) -> NoReturn:
    raise BarrierError(
        f"poutine.delayed is installed around a driver that runs the model in many ways (such as "
        f"infer.enumerate), and site {msg['name']!r}, performed at {msg.where}, would mix up what "
        f"it knows of each. Install it inside: infer.enumerate(poutine.delayed(model))."
    )
