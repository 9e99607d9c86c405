"""A Hypothesis strategy that draws models: programs as text, so that a failure can be read.

A drawn model holds numbers and a few ingredients of `ingredients.py` (containers that alias each
other, objects, closures, iterators, half-consumed generators, a handler). It loops, branches,
raises, cleans up, matches, calls sub-models in both forms and asks questions in the middle of
expressions. Every question costs fuel, so a model has a few dozen paths and each of them ends. It
returns everything it holds.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from contpoutine.core.effectful import operation
from contpoutine.distributions import UniformDraw
from contpoutine.primitives import sample
from contpoutine.testing import vocabulary
from contpoutine.testing.ingredients import INGREDIENTS, ITERATORS, PRELUDE, Ingredient

choose = operation("choose")

NAMES: dict[str, Any] = {
    "OrderedDict": OrderedDict,
    "Counter": Counter,
    "UniformDraw": UniformDraw,
    "choose": choose,
    "defaultdict": defaultdict,
    "deque": deque,
    "functools": functools,
    "itertools": itertools,
    "random": random,
    "replace": replace,
    "sample": sample,
    "suppress": contextlib.suppress,
    "ExitStack": contextlib.ExitStack,
    **{name: value for name, value in vars(vocabulary).items() if not name.startswith("_")},
}


class DrawnModel:
    """A drawn model: call it like any model. Its repr is its program.

    Attributes:
        source: the program.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        scope = dict(NAMES)
        exec(compile(source, "<drawn model>", "exec"), scope)
        self._model = scope["model"]
        self.__qualname__ = self.__name__ = "model"

    def __call__(self) -> Any:
        return self._model()

    def __repr__(self) -> str:
        return f"\n{self.source}"


def models(effect: str = "sample", *, fuel: int = 4) -> st.SearchStrategy[DrawnModel]:
    """Draws models without arguments, for property tests of handlers and inference algorithms.

    Args:
        effect: what the sites are. "sample": `sample` sites with a uniform distribution over two
            or three numbers. "choose": effects of that type, with the answers as arguments, which
            need a handler.
        fuel: how many sites an execution has at the most.

    >>> from hypothesis import given, settings
    >>> from contpoutine.testing import assert_fork_law, models
    >>> @settings(max_examples=5, database=None)
    ... @given(models())
    ... def test_the_law(model):
    ...     assert_fork_law(model)
    >>> test_the_law()
    """
    if effect not in ("sample", "choose"):
        raise ValueError(f"models are drawn with sites of type sample or choose, not {effect!r}")
    return _models(effect, fuel)


@st.composite
def _models(draw: st.DrawFn, effect: str, fuel: int) -> DrawnModel:
    return DrawnModel(Writer(draw, effect, fuel).program())


class Writer:
    """Writes one program. `draw` decides everything."""

    def __init__(self, draw: st.DrawFn, effect: str, fuel: int) -> None:
        self.draw, self.effect, self.fuel = draw, effect, fuel
        self.lines: list[str] = []
        self.budget = draw(st.integers(3, 14))
        self.loops = 0
        self.held: list[Ingredient] = draw(
            st.lists(st.sampled_from(INGREDIENTS), min_size=2, max_size=6, unique_by=id)
        )

    def program(self) -> str:
        setup = [self.fill(line) for held in self.held for line in held.setup]
        self.lines = [*PRELUDE.format(fuel=self.fuel).splitlines(), *("    " + x for x in setup)]
        while self.budget > 0:
            self.budget -= 1
            self.statement(1, loop=False)
        for held in self.held:
            self.lines += ["    " + line for line in held.ending]
        self.line(1, f"return [{', '.join(['a', 'b', 'fuel', *self.names()])}]")
        return "\n".join(self.lines) + "\n"

    # --- parts --------------------------------------------------------------------------------

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def names(self) -> list[str]:
        """What can be put into a container."""
        return ["xs", "log", *(held.name for held in self.held)]

    def lists(self) -> list[str]:
        return ["xs", *(name for held in self.held for name in held.lists)]

    def number(self) -> str:
        more = [text for held in self.held for text in held.numbers]
        return str(self.pick("a", "b", "1", "2", "len(xs)", "xs[-1]", *more))

    def ask(self) -> str:
        answers = self.pick("0, 1", "1, 2", "2, 3", "0, 1, 5", "4")
        form = self.pick("yield", "yield", "yield from")
        if self.effect == "sample":
            request = f'sample("s{len(self.lines)}", UniformDraw([{answers}]))'
        else:
            request = f"choose({answers})"
        return f"(({form} {request}) if fuel and fuel.pop() else 3)"

    def value(self) -> str:
        return self.ask() if self.pick(True, False) else self.number()

    def fill(self, text: str) -> str:
        """Put drawn parts where a piece of text has names for them."""
        parts: dict[str, Callable[[], str]] = {
            "VALUE": self.value,
            "ASK": self.ask,
            "NUMBER": self.number,
            "NAME": lambda: self.pick(*self.names()),
            "LIST": lambda: self.pick(*self.lists()),
            "ITERATOR": lambda: self.pick(*ITERATORS),
        }
        for name, part in parts.items():
            while name in text:
                text = text.replace(name, part(), 1)
        return text

    def line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def block(self, depth: int, loop: bool = False) -> None:
        before = len(self.lines)
        for _ in range(self.draw(st.integers(1, 3))):
            if self.budget > 0:
                self.budget -= 1
                self.statement(depth, loop)
        if len(self.lines) == before:
            self.line(depth, "pass")

    def statement(self, depth: int, loop: bool) -> None:
        kinds: list[Callable[[int], None]] = [
            self.assign, self.change, self.change, self.change, self.change, self.alias,
            self.display,
        ]  # fmt: skip
        if depth < 5:
            kinds += [self.branch, self.attempt, self.sub, self.sub, self.match, self.manage]
            if self.loops < 3:
                kinds += [self.loop, self.loop]
        if loop and self.pick(False, False, False, True):
            leave = self.pick("break", "continue")
            self.line(depth, f"if {self.number()} == {self.pick(0, 1, 2)}: {leave}")
            return
        self.pick(*kinds)(depth)

    # --- statements ---------------------------------------------------------------------------

    def assign(self, depth: int) -> None:
        self.line(depth, f"{self.pick('a', 'b')} {self.pick('=', '+=')} {self.value()}")

    def change(self, depth: int) -> None:
        own = [text for held in self.held for text in held.changes]
        common = (
            "LIST.append(VALUE)",
            "LIST[-1:] = [VALUE]",
            "xs[-1] += VALUE",
            "del xs[:1]; xs.append(9)",
            "(push := LIST.append)(VALUE)",
        )
        self.line(depth, self.fill(self.pick(*common, *own, *own)))

    def alias(self, depth: int) -> None:
        self.line(
            depth,
            self.fill(
                self.pick(
                    "LIST.append(NAME)",
                    "LIST.append(NAME)",
                    "xs = LIST",
                    "xs = list(xs)",
                    "log = xs",
                    "log.append((NAME, NAME))",
                    "log.append([NAME] * 2)",
                )
            ),
        )

    def display(self, depth: int) -> None:
        self.line(
            depth,
            self.fill(
                self.pick(
                    "log = [[*xs, VALUE], xs, [VALUE], log]",
                    "log.append({**{0: xs}, VALUE: LIST, 2: [VALUE]})",
                    "log.append({*(1, 2), VALUE, VALUE})",
                    "log.append((NAME, VALUE, xs, VALUE))",
                    "a = max(VALUE, *(1, 2), VALUE)",
                    "b = len(f'{ASK}-{xs}-{ASK}')",
                    "a = 1 if VALUE < (VALUE) <= 3 else 0",
                    "xs = [x for x in xs if x != b] + [VALUE]",
                    "log.append([[y for y in (NAME, b)] for z in xs[:3]] + [[VALUE]])",
                    "log.append({x: [x, b] for x in range(VALUE)})",
                    "a, *log[:1] = VALUE, NAME, VALUE",
                )
            ),
        )

    def branch(self, depth: int) -> None:
        self.line(depth, f"if {self.value()}:")
        self.block(depth + 1)
        if self.pick(True, False):
            self.line(depth, "else:")
            self.block(depth + 1)

    def loop(self, depth: int) -> None:
        self.loops += 1
        own = [text for held in self.held for text in held.runs]
        over = self.pick(
            "range(2)", "xs[:3]", "enumerate(LIST[:2])", "zip(xs[:2], 'ab')", "{0, 8}",
            "reversed(xs[:3])", "itertools.islice(xs, 3)", "map(abs, (b, VALUE))", *own,
        )  # fmt: skip
        if self.pick(True, True, True, False):
            self.line(depth, f"for x in {self.fill(over)}:")
        else:
            self.line(depth, f"while {self.value()} and len(xs) < 5:")
            self.line(depth + 1, "xs.append(1)")
        self.line(depth + 1, "if len(log) > 30: break")
        self.block(depth + 1, loop=True)
        if self.pick(True, False):
            self.line(depth, "else:")
            self.block(depth + 1)
        self.loops -= 1

    def attempt(self, depth: int) -> None:
        self.line(depth, "try:")
        self.block(depth + 1)
        if self.pick(True, True, False):
            kind = self.pick("ValueError(a)", "KeyError(b)", "ValueError(xs) from KeyError(1)")
            self.line(depth + 1, f"if {self.value()}: raise {kind}")
        caught = self.pick(
            "except ValueError as e:",
            "except (ValueError, KeyError):",
            "except* ValueError as e:",
            "",
        )
        if caught:
            self.line(depth, caught)
            if "as e" in caught and self.pick(True, False):
                self.line(depth + 1, "log.append(e)")
            self.handle(depth + 1, in_group="*" in caught)
        if not caught or self.pick(True, False):
            self.line(depth, "finally:")
            self.block(depth + 1)

    def handle(self, depth: int, in_group: bool) -> None:
        if in_group:  # break, continue and return are no statements of `except*`
            self.line(depth, f"log.append({self.value()})")
        else:
            self.block(depth)
        if self.pick(False, False, True):
            self.line(depth, f"log.append({self.ask()})")
            self.line(depth, "raise")

    def sub(self, depth: int) -> None:
        name = f"sub{len(self.lines)}"
        kept = self.pick("zs=[]", "zs=log", "zs=xs")
        self.line(depth, f"def {name}(p, {kept}):")
        inner = depth + 1
        self.line(inner, f"nonlocal {self.pick('a', 'b', 'a, b')}")
        self.line(inner, "q = [p]")
        self.line(inner, f"q.append({self.ask()})")
        if self.pick(True, False):
            self.line(inner, f"a = b = len(q) + {self.value()}" if self.pick(True, False) else
                             self.fill("xs.append(VALUE)"))  # fmt: skip
        if self.pick(True, False):
            self.line(inner, "zs.append(q)")
        if self.pick(False, False, True):
            self.line(inner, f"if q[-1] == {self.pick(0, 1, 2)}: raise ValueError(p)")
        if self.pick(False, False, True):
            self.line(inner, f"if fuel: return [(yield from {name}({self.number()}))]")
        self.line(inner, f"return q + [{self.value()}]")
        call = self.pick(f"yield {name}", f"yield from {name}")
        self.line(depth, f"log.append(({call}({self.number()})))")

    def match(self, depth: int) -> None:
        self.line(depth, f"match [{self.value()}, xs]:")
        self.line(depth + 1, f"case [0, [first, *rest]] if {self.value()}:")
        self.line(depth + 2, "log.append((first, rest))")
        self.line(depth + 1, "case [x, other]:")
        self.block(depth + 2)

    def manage(self, depth: int) -> None:
        own = [text for held in self.held for text in held.managers]
        self.line(
            depth,
            self.pick(
                "with managed(log):",
                "with suppress(ValueError):",
                "with Guard(log):",
                "with managed(log), Guard(xs) as guard:",
                *own,
                *own,
            ),
        )
        self.block(depth + 1)
