"""What a clause forwards is seen by the handlers further out, and by nobody else."""

from __future__ import annotations

import contpoutine as cp

ask = cp.operation("ask")


class Outer(cp.Handler):
    def on_ask(self, msg, k):
        return (yield k("answer"))


class Forward(cp.Handler):
    def on_ask(self, msg, k):
        return (yield k((yield msg)))


def test_a_messages_continuation_is_called_once_when_the_model_goes_on():
    said = []

    class Last(cp.Messenger):
        def _pyro_ask(self, msg):
            msg["continuation"] = lambda done: said.append(done["value"])

    def model():
        with Last():
            value = yield ask()
        return value, list(said)

    assert cp.run(cp.handle(Outer(), cp.handle(Forward(), model))) == ("answer", ["answer"])
