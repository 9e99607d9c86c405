"""The law under a user who does anything in any order: up to fifty branches live at once."""

from __future__ import annotations

import gc
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import contpoutine as cp
from contpoutine.testing import models
from contpoutine.testing.fork_law import arguments, strategy
from contpoutine.testing.reference import Questions, Reference, Throw
from contpoutine.testing.resumption import keeping, outcome_of

EXAMPLES = max(10, int(os.environ.get("LAWS", "2000")) // 100)
MOST_BRANCHES = 50


class Branches(RuleBasedStateMachine):
    """Live branches of one drawn model, each at the end of a path of answers."""

    @initialize(
        model=models("choose", fuel=5),
        plain=st.booleans(),
        capture=st.sampled_from(("auto", "auto", "replay")),
    )
    def begin(self, model, plain, capture):
        gc.freeze()  # what the rest of the suite has left is not looked through at each collection
        self.capture = capture
        self.questions = Questions("choose", arguments, (ValueError, GeneratorExit))
        self.reference = Reference(model, (), self.questions)
        self.live = []
        self.ended = []
        with strategy(capture):
            handled = cp.handle(keeping(self.questions, plain), model)
            self.arrived((), outcome_of(lambda: cp.run(handled)))

    def arrived(self, path, outcome):
        expected = self.reference[path]
        assert outcome == expected, f"{path}: {outcome}, but a run from the start {expected}"
        if outcome.ended:
            self.ended.append((path, outcome))
        else:
            self.live.append((path, outcome))

    def go_on(self, at, is_meant, last=False):
        branch = self.live.pop(at) if last else self.live[at]
        path, outcome = branch
        places = [i for i, answer in enumerate(outcome.answers) if is_meant(answer)]
        del branch
        with strategy(self.capture):
            kept, answers = outcome.value, outcome.answers
            for place in places if not last else places[:1]:
                if len(self.live) < MOST_BRANCHES:
                    outcome = outcome_of(lambda: kept.resume(answers[place]))
                    self.arrived((*path, place), outcome)

    def draw(self, data):
        return data.draw(st.integers(0, len(self.live) - 1))

    alive = precondition(lambda self: getattr(self, "live", None))

    @alive
    @rule(data=st.data(), place=st.integers(0, 2))
    def resume(self, data, place):
        """The branch goes on with one answer, and is no longer held."""
        at = self.draw(data)
        answers = [x for x in self.live[at][1].answers if not isinstance(x, Throw)]
        answer = answers[place % len(answers)]
        self.go_on(at, lambda x: x is answer, last=True)

    @alive
    @rule(data=st.data())
    def fork(self, data):
        """The branch goes on with every answer, and stays."""
        self.go_on(self.draw(data), lambda x: not isinstance(x, Throw))

    @alive
    @rule(data=st.data(), last=st.booleans())
    def throw(self, data, last):
        self.go_on(self.draw(data), lambda x: isinstance(x, Throw) and x.kind is ValueError, last)

    @alive
    @rule(data=st.data(), last=st.booleans())
    def close(self, data, last):
        self.go_on(
            self.draw(data), lambda x: isinstance(x, Throw) and x.kind is GeneratorExit, last
        )

    @alive
    @rule(data=st.data())
    def drop(self, data):
        """The branch is forgotten: nothing of the model runs."""
        self.live.pop(self.draw(data))

    @rule(generation=st.sampled_from((0, 0, 1, 2)))
    def collect(self, generation):
        gc.collect(generation)

    @invariant()
    def what_has_ended_stays_as_it_was(self):
        for path, outcome in getattr(self, "ended", ())[-5:]:
            assert outcome.as_it_is_now() == outcome.text, f"{path} was changed by another branch"

    def teardown(self):
        gc.unfreeze()
        for path, outcome in getattr(self, "ended", ()):
            assert outcome.as_it_is_now() == outcome.text, f"{path} was changed by another branch"


TestBranches = Branches.TestCase
TestBranches.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
