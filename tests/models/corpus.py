"""One corpus of small models, each with arguments; every algorithm is held against all of them.

`brute_force` is the reference: it shares no code with the library but the messages and
distributions. It runs the generator again from its start for each prefix of answers.
"""

from __future__ import annotations

import atexit
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.core.native import native


@dataclass(frozen=True)
class Case:
    model: Callable[..., Any]
    args: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"{self.model.__name__}{self.args!r}"


@atexit.register
def _forget() -> None:
    if native is not None:
        for stack in _abandoned:
            native.discard(stack)


def brute_force(model: Callable[..., Any], *args: Any) -> dict[Any, float]:
    """Unnormalised probability of each return value, by running from the start for each prefix."""
    table: defaultdict[Any, float] = defaultdict(float)
    pending: list[tuple[Any, ...]] = [()]
    while pending:
        answers = pending.pop()
        outcome, weight = _run(model, args, answers)
        if isinstance(outcome, _Ask):
            pending.extend((*answers, value) for value in outcome.values)
        else:
            table[outcome] += weight
    return dict(table)


# Prefixes that are not run on. They are kept: closing them would run their `finally` blocks.
_abandoned: list[Any] = []


@dataclass
class _Ask:
    values: tuple[Any, ...]


def _run(model: Callable[..., Any], args: Any, answers: tuple[Any, ...]) -> tuple[Any, float]:
    stack: list[Iterator[Any]] = [model(*args)]
    left, weight, value = list(answers), 1.0, None
    error: BaseException | None = None
    while stack:
        try:
            if error is None:
                request = stack[-1].send(value)
            else:
                raised, error = error, None
                request = stack[-1].throw(raised)
        except StopIteration as stop:
            stack.pop()
            value = stop.value
            continue
        except ValueError as raised:
            stack.pop()
            if not stack:
                raise
            error = raised
            continue
        if isinstance(request, GeneratorType):
            stack.append(request)
            value = None
            continue
        request.perform()
        fn = request["fn"]
        if request["is_observed"]:
            value = request["value"]
        elif left:
            value = left.pop(0)
        else:
            _abandoned.append(stack)
            return _Ask(fn.values), 0.0
        weight *= math.exp(fn.log_weight(value))
    return value, weight


# --- the models -----------------------------------------------------------------------------


def constant():
    return 7
    yield  # pragma: no cover


def one_flip():
    return (yield cp.sample("x", dist.Flip(0.3)))


def flips(n):
    heads = 0
    for i in range(n):
        heads += yield cp.sample(f"x{i}", dist.Flip(0.4))
    return heads


def sprinkler():
    rain = yield cp.sample("rain", dist.Flip(0.2))
    on = yield cp.sample("sprinkler", dist.Flip(0.01 if rain else 0.4))
    wet = 0.99 if rain and on else 0.9 if on else 0.8 if rain else 0.0
    yield cp.sample("wet", dist.Flip(wet), obs=True)
    return rain


def typed_yield_from(n):
    total = 0
    for i in range(n):
        total += yield from cp.sample(f"d{i}", dist.RandInt(1, 4))
    return total


TRANSITION = {"a": {"a": 0.7, "b": 0.3}, "b": {"a": 0.4, "b": 0.6}}
EMISSION = {"a": {"x": 0.9, "y": 0.1}, "b": {"x": 0.2, "y": 0.8}}


def hidden_markov(symbols):
    state, path = "a", []
    for t, symbol in enumerate(symbols):
        state = yield cp.sample(f"z{t}", dist.Finite(TRANSITION[state]))
        yield cp.observe(f"y{t}", dist.Finite(EMISSION[state]), symbol)
        path.append(state)
    return "".join(path)


def geometric(n):
    if n == 0 or (yield cp.sample(f"stop{n}", dist.Flip(0.5))):
        return 0
    return 1 + (yield geometric(n - 1))


def geometric_yield_from(n):
    if n == 0 or (yield cp.sample("stop", dist.Flip(0.5))):
        return 0
    return 1 + (yield from geometric_yield_from(n - 1))


def grammar(depth):
    if depth == 0:
        return "t"
    rule = yield cp.sample("rule", dist.Finite({"t": 0.5, "S": 0.3, "SS": 0.2}))
    if rule == "t":
        return "t"
    words = []
    for _ in rule:
        words.append((yield grammar(depth - 1)))
    return "(" + "".join(words) + ")"


def owned_list():
    seen = []
    for letter in "ab":
        for number in (1, 2):
            seen.append((letter, number, (yield cp.sample("x", dist.Flip(0.5)))))
    return tuple(seen)


def closures():
    count = 0

    def bump(by):
        nonlocal count
        count += by
        return count

    history = []
    for i in range(3):
        history.append(bump((yield cp.sample(f"x{i}", dist.RandInt(0, 2))) + 1))
    return tuple(history)


def half_built():
    pair = [
        1,
        (yield cp.sample("a", dist.Flip(0.5))),
        *range(2),
        (yield cp.sample("b", dist.Flip(0.5))),
    ]
    named = {
        "c": (yield cp.sample("c", dist.Flip(0.5))),
        "d": (yield cp.sample("d", dist.Flip(0.5))),
    }
    return tuple(pair), tuple(named.items()), f"{(yield cp.sample('e', dist.Flip(0.5)))}!"


def weighted():
    x = yield cp.sample("x", dist.RandInt(0, 4))
    yield cp.factor("big", 0.5 * x)
    if x == 3:
        yield cp.factor("never", -math.inf)
    yield cp.deterministic("square", x * x)
    return x


def try_finally():
    log = []
    try:
        log.append((yield cp.sample("a", dist.Flip(0.5))))
        if log[-1]:
            raise KeyError("a")
    except KeyError as error:
        log.append((str(error), (yield cp.sample("b", dist.Flip(0.25)))))
    finally:
        log.append((yield cp.sample("c", dist.Flip(0.75))))
    return tuple(log)


def lazy_streams():
    letters = zip("abc", map(str, enumerate([5, 6, 7], start=1)))
    kept = (pair for pair in letters if pair[0] != "b")
    out = []
    for pair in kept:
        out.append((pair, (yield cp.sample("keep", dist.Flip(0.5)))))
    return tuple(out)


def _append(log, name):
    log.append((name, (yield cp.sample(name, dist.Flip(0.5)))))
    log.append((name + "again", (yield cp.sample(name + "2", dist.Flip(0.25)))))
    return len(log)


def a_list_handed_down():
    log, lengths = [], []
    for name in "ab":
        lengths.append((yield _append(log, name)))
        log.append(lengths[-1])
    return tuple(log), tuple(lengths)


def _take(source):
    item = next(source)
    return (item, (yield cp.sample("keep", dist.Flip(0.5))), next(source, None))


def an_iterator_handed_down():
    source = iter("abcde")
    first = yield _take(source)
    second = yield _take(source)
    return first, second, tuple(source)


def a_call_kept_in_a_local():
    def counting():
        seen = 0
        while (yield cp.sample("more", dist.Flip(0.5))) and seen < 2:
            seen += 1
        return seen

    call = counting()
    first = yield call
    return first, (yield counting()), call.gi_frame is None


def _deep(depth, trail):
    if depth == 0:
        return tuple(trail)
    mine = [depth]
    trail = [*trail, (yield cp.sample(f"l{depth}", dist.Flip(0.5)))]
    below = yield _deep(depth - 1, trail)
    mine.append((yield cp.sample(f"r{depth}", dist.Flip(0.25))))
    return below + tuple(mine)


def choices_before_and_after_deep_calls():
    return (yield _deep(4, []))


def a_cell_shared_by_two_frames():
    total = 0

    def add(n):
        nonlocal total
        total += yield cp.sample(f"n{n}", dist.RandInt(0, 2))
        if n:
            yield add(n - 1)
        total += yield cp.sample(f"m{n}", dist.RandInt(0, 2))
        return total

    first = yield add(1)
    return first, total


def an_exception_through_deep_calls():
    def inner(n):
        if n == 0:
            if (yield cp.sample("fail", dist.Flip(0.5))):
                raise ValueError((yield cp.sample("why", dist.RandInt(0, 2))))
            return "fine"
        try:
            return (yield inner(n - 1))
        finally:
            yield cp.sample(f"clean{n}", dist.Flip(0.5))

    try:
        return (yield inner(2))
    except ValueError as error:
        return f"caught {error} {(yield cp.sample('after', dist.Flip(0.5)))}"


def unequal_depths():
    if (yield cp.sample("short", dist.Flip(0.5))):
        return 0
    return 1 + (yield cp.sample("long", dist.UniformDraw([1, 2, 3])))


CORPUS = [
    Case(constant),
    Case(one_flip),
    Case(flips, (6,)),
    Case(sprinkler),
    Case(typed_yield_from, (3,)),
    Case(hidden_markov, ("xyyx",)),
    Case(geometric, (6,)),
    Case(geometric_yield_from, (6,)),
    Case(grammar, (3,)),
    Case(owned_list),
    Case(closures),
    Case(half_built),
    Case(weighted),
    Case(try_finally),
    Case(lazy_streams),
    Case(unequal_depths),
    Case(a_list_handed_down),
    Case(an_iterator_handed_down),
    Case(a_call_kept_in_a_local),
    Case(choices_before_and_after_deep_calls),
    Case(a_cell_shared_by_two_frames),
    Case(an_exception_through_deep_calls),
]
