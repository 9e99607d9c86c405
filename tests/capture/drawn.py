"""A Hypothesis strategy that draws models: programs as text, so that a failure can be read.

A drawn model holds numbers, lists that alias each other, a dict, a set, tuples, closures over its
locals, iterators and half-consumed generators; it loops, branches, raises, cleans up, calls
sub-models in both forms and asks questions in the middle of expressions. Every question costs fuel,
so a model has at most a few dozen paths. It returns the shape of everything it holds, aliasing
included.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

import contpoutine as cp
from tests.capture.law import choose

FUEL = 4


class Count(cp.Messenger):
    """A handler with state, as a user would write it."""

    def __init__(self) -> None:
        self.total, self.seen = 0, []

    def _pyro_post_choose(self, msg: Any) -> None:
        self.total += 1
        self.seen.append(msg["value"])


class Thing:
    """An object of a user's class."""

    def __init__(self, held: Any) -> None:
        self.held, self.items = held, []

    def push(self, x: Any) -> int:
        self.items.append(x)
        return len(self.items)


@contextlib.contextmanager
def managed(log: list[Any]) -> Any:
    log.append(-1)
    try:
        yield log
    finally:
        log.append(-2)


def shape(*objects: Any) -> str:
    """What the objects are, which of them are the same object, and what iterators still give."""
    seen: dict[int, int] = {}
    kept: list[Any] = []

    def show(x: Any) -> str:
        if x is None or isinstance(x, (bool, int, str)):
            return repr(x)
        if id(x) in seen:
            return f"#{seen[id(x)]}"
        seen[id(x)] = len(seen)
        kept.append(x)
        label = f"{seen[id(x)]}:"
        if isinstance(x, list):
            return label + "[" + ", ".join(map(show, x)) + "]"
        if isinstance(x, tuple):
            return "(" + ", ".join(map(show, x)) + ")"
        if isinstance(x, dict):
            return label + "{" + ", ".join(f"{k!r}: {show(v)}" for k, v in x.items()) + "}"
        if isinstance(x, (set, frozenset)):
            return label + "{" + ", ".join(map(show, x)) + "}"
        if isinstance(x, Count):
            return f"{label}Count({x.total}, {x.seen})"
        if isinstance(x, Thing):
            return f"{label}Thing({show(x.held)}, {show(x.items)})"
        if isinstance(x, BaseException):
            return f"{label}{type(x).__name__}{x.args}"
        if callable(x):
            owner = getattr(x, "__self__", None)
            if isinstance(owner, Thing):
                return f"{label}bound {show(owner)}"
            return label + "f" + show(x())
        return label + "<" + ", ".join(map(show, itertools.islice(x, 6))) + ">"

    return " ".join(map(show, objects))


NAMES = {
    "choose": choose,
    "Count": Count,
    "Thing": Thing,
    "managed": managed,
    "shape": shape,
    "suppress": contextlib.suppress,
    "itertools": itertools,
    "NAMES": True,
}

PRELUDE = """
def model():
    if not NAMES: yield
    fuel = [1] * {fuel}
    a, b = 0, 1
    xs = [0, 1]
    ys = {ys}
    zs = [xs, {zs}]
    d = {{0: xs, 1: [7]}}
    s = {{0, 8, 16}}
    t = (xs, ys)
    e = None
    log = []
    h = Count()
    o = Thing(xs)
    def f(p=2, keep=[]):
        nonlocal a
        a += p
        keep.append(a)
        xs.append(p)
        return a + len(keep)
    fs = [f, lambda: b + len(xs)]
    def gen(n):
        for i in range(n):
            try:
                got = yield i + b
                if got:
                    log.append(got)
            finally:
                pass
    g = gen(5)
    it = {iterator}
"""

ITERATORS = (
    "iter(xs)",
    "iter(range(9))",
    "enumerate(xs)",
    "zip(xs, range(9))",
    "map(lambda x: x * 2, xs)",
    "filter(None, ys)",
    "reversed([1, 2, 3, 4])",
    "itertools.chain(xs, ys)",
    "itertools.count(b)",
    "itertools.cycle([1, 2])",
    "itertools.islice(itertools.count(), 2, 20, 3)",
    "itertools.accumulate(xs)",
    "iter({5: 1, 6: 2, 7: 3})",
    "iter({1: [1], 2: xs}.items())",
    "iter({0, 8, 16, 24})",
    "(x + b for x in xs)",
    "gen(4)",
)


class Writer:
    """Writes one program. `draw` decides everything."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.budget = draw(st.integers(3, 14))
        self.loops = 0
        self.handlers = False

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def number(self) -> str:
        return str(
            self.pick(
                "a", "b", "1", "2", "len(xs)", "len(d)", "sum(ys)", "fs[0]()", "fs[1]()", "min(s)",
                "next(it, 0) and 1", "next(g, 3)", "h.total", "xs[-1]",
            )
        )  # fmt: skip

    def ask(self) -> str:
        options = self.pick("0, 1", "1, 2", "2, 3", "0, 1, 5", "4")
        form = self.pick("yield", "yield", "yield from")
        return f"(({form} choose({options})) if fuel and fuel.pop() else 3)"

    def value(self) -> str:
        return self.ask() if self.pick(True, False) else self.number()

    def line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def block(self, depth: int, loop: bool = False) -> None:
        for _ in range(self.draw(st.integers(1, 3))):
            if self.budget > 0:
                self.budget -= 1
                self.statement(depth, loop)
        self.line(depth, "pass")

    def statement(self, depth: int, loop: bool) -> None:
        kinds: list[Callable[[int], None]] = [
            self.assign, self.assign, self.change, self.change, self.change, self.alias,
            self.display, self.iterate, self.hold,
        ]  # fmt: skip
        if depth < 5:
            kinds += [self.branch, self.attempt, self.sub, self.sub, self.match, self.manage]
            if self.loops < 3:
                kinds += [self.loop, self.loop]
        if loop and self.pick(False, False, False, True):
            self.line(depth, f"if {self.number()} == {self.pick(0, 1, 2)}: "
                             f"{self.pick('break', 'continue')}")  # fmt: skip
            return
        self.pick(*kinds)(depth)

    # --- statements ---------------------------------------------------------------------------

    def assign(self, depth: int) -> None:
        self.line(depth, f"{self.pick('a', 'b')} {self.pick('=', '+=')} {self.value()}")

    def change(self, depth: int) -> None:
        value = self.value()
        self.line(
            depth,
            self.pick(
                f"xs.append({value})",
                f"ys.insert(0, {value})",
                f"zs[0].append({value})",
                f"zs[-1][:1] = [{value}]",
                f"d[{value}] = xs",
                f"d.setdefault({value}, []).append({self.number()})",
                f"d.pop({value}, None)",
                f"o.push({value})",
                f"o.items[:1] = [{value}]",
                f"s.add(({value}) * 8)",
                f"s.discard(({value}) * 8)",
                f"t[0].append({value})",
                f"xs[-1] += {value}",
                f"fs[0]({value})",
                "del xs[:1]; xs.append(9)",
                f"(push := xs.append)({value})",
            ),
        )

    def alias(self, depth: int) -> None:
        self.line(
            depth,
            self.pick(
                "ys = xs",
                "xs = ys",
                "zs.append(xs)",
                "zs.append(zs)",
                "zs.append(o)" if self.pick(False, True) else "o.held = zs",
                "fs.append(o.push)" if self.pick(False, False, True) else "o = Thing(o)",
                "xs = list(xs)",
                "t = (ys, (xs, t))",
                "d[3] = d",
                "fs.append(fs[0])",
                "xs, ys = ys, xs",
                "log = xs",
                "s = set(s)",
            ),
        )

    def display(self, depth: int) -> None:
        first, second = self.value(), self.value()
        self.line(
            depth,
            self.pick(
                f"zs = [[*xs, {first}], xs, [{second}]]",
                f"d = {{**d, {first}: ys, 2: [{second}]}}",
                f"s = {{*s, {first}, {second}}}",
                f"t = (t, {first}, xs, {second})",
                f"a = max({first}, *xs, {second})",
                f"b = len(f'{{{first}}}-{{{second}}}-{{xs}}')",
                f"a = 1 if {first} < ({second}) <= 3 else 0",
                f"xs = [x + 1 for x in xs if x != b] + [{first}]",
                f"fs.append(lambda p={first}: p + a)",
                f"zs = [[y for y in z if isinstance(y, int)] for z in zs[:3]] + [[{second}]]",
            ),
        )

    def iterate(self, depth: int) -> None:
        self.line(
            depth,
            self.pick(
                f"it = {self.pick(*ITERATORS)}",
                f"it = zip(it, {self.pick(*ITERATORS)})",
                "it = enumerate(it)",
                "it = itertools.chain([5], it)",
                "log.append(next(it, None))",
                f"log.append(({self.ask()}, next(it, None)))",
            ),
        )

    def hold(self, depth: int) -> None:
        self.line(
            depth,
            self.pick(
                f"g = gen({self.number()})",
                f"log.append((next(g, None), {self.ask()}, next(g, None)))",
                "fs.append(gen(2).__next__)" if self.pick(False, True) else "log.append(g)",
                "g = (y + len(xs) for y in [1, 2, 3])",
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
        over = self.pick(
            "range(2)", "xs[:3]", "enumerate(ys[:2])", "zip(xs[:2], 'ab')", "list(d)[:2]",
            "itertools.islice(it, 2)", "itertools.islice(g, 2)", "{0, 8}", "d.copy()", "reversed(xs)",
            "itertools.islice(xs, 3)",
        )  # fmt: skip
        self.line(depth, f"for x in {over}:")
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
            self.line(
                depth + 1, f"if {self.value()}: raise {self.pick('ValueError', 'KeyError')}(a)"
            )
        caught = self.pick("except ValueError as e:", "except (ValueError, KeyError):", "")
        if caught:
            self.line(depth, caught)
            self.block(depth + 1)
            if self.pick(False, False, True):
                self.line(depth + 1, f"log.append({self.ask()})")
                self.line(depth + 1, "raise")
        if not caught or self.pick(True, False):
            self.line(depth, "finally:")
            self.block(depth + 1)

    def sub(self, depth: int) -> None:
        name = f"sub{len(self.lines)}"
        self.line(depth, f"def {name}(p, zs=zs):")
        self.line(depth + 1, f"nonlocal {self.pick('a', 'b', 'xs', 'it', 'a, ys')}")
        inner = depth + 1
        self.line(inner, "q = [p]")
        self.line(inner, f"q.append({self.ask()})")
        if self.pick(True, False):
            self.line(inner, f"xs.append({self.value()})")
        if self.pick(True, False):
            self.line(inner, "zs.append(q)")
        if self.pick(False, False, True):
            self.line(inner, f"if q[-1] == {self.pick(0, 1, 2)}: raise ValueError(p)")
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
        kind = self.pick("handler", "handler", "shared", "managed", "suppress")
        if kind in ("handler", "shared"):
            self.handlers = True
        self.line(
            depth,
            {
                "handler": "with Count() as h:",
                "shared": "with h:",
                "managed": "with managed(log):",
                "suppress": "with suppress(ValueError):",
            }[kind],
        )
        self.block(depth + 1)


class Drawn:
    """A drawn model: call it. Its repr is the program."""

    def __init__(self, writer: Writer, text: str) -> None:
        self.text, self.handlers = text, writer.handlers
        scope = dict(NAMES)
        exec(compile(text, "<drawn model>", "exec"), scope)
        self.model = scope["model"]

    def __repr__(self) -> str:
        return self.text


@st.composite
def models(draw: Any) -> Drawn:
    """Draws a model."""
    writer = Writer(draw)
    prelude = PRELUDE.format(
        fuel=FUEL,
        ys=writer.pick("xs", "[2]", "[]"),
        zs=writer.pick("xs", "ys", "[3]"),
        iterator=writer.pick(*ITERATORS),
    )
    while writer.budget > 0:
        writer.budget -= 1
        writer.statement(1, loop=False)
    writer.line(1, "return shape(a, b, xs, ys, zs, d, s, t, e, log, h, o, g, it, fs, len(fuel))")
    return Drawn(writer, prelude + "\n".join(writer.lines) + "\n")
