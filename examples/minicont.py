"""The whole idea in one small file: models that are suspended, copied, and resumed more than once.

Nothing here comes from contpoutine, and nothing from outside the standard library. Read it from top
to bottom, beside Pyro's minipyro. There a model calls `sample`; here it is a generator that yields
what it asks for, so whoever answers holds the rest of the model in hand, and may answer twice.
"""

import copy
import ctypes
import random
import sys
from collections import Counter
from types import BuiltinMethodType, CellType, FunctionType, GeneratorType, ModuleType

# --- 1. A model yields messages. They say what it asks for; a distribution is {value: probability}.


def sample(name, table, obs=None):
    return {"type": "sample", "name": name, "fn": table, "value": obs}


def choose(*values):  # an effect of another type, for a handler of our own
    return {"type": "choose", "name": None, "fn": values, "value": None}


def flip(p):
    return {True: p, False: 1 - p}


# --- 2. Messengers see a message on its way up, to give it a value, and down, when it has one.

STACK = []  # the messengers that are installed right now, innermost last


class Messenger:
    def __enter__(self):
        STACK.append(self)
        return self

    def __exit__(self, *error):
        if STACK and STACK[-1] is self:
            STACK.pop()

    def up(self, msg): ...
    def down(self, msg): ...


class condition(Messenger):  # observes the sites that `data` names
    def __init__(self, data):
        self.data = data

    def up(self, msg):
        msg["value"] = self.data.get(msg["name"], msg["value"])


class trace(Messenger):  # records what happened in `sites`, and in `weight` how likely it was
    def __init__(self):
        self.sites, self.weight = {}, 1.0

    def down(self, msg):
        if msg["type"] == "sample":
            self.sites[msg["name"]] = msg["value"]
            self.weight *= msg["fn"].get(msg["value"], 0.0)


# --- 3. A computation is a suspended model with its messengers. A control handler calls it k.


class Computation:
    def __init__(self, model, args, handler=None):
        self.model, self.args, self.handler = model, args, handler
        self.body, self.segment, self.msg = model(*args), [], None

    def resume(self, answer=None):
        """Answer the message that the model waits at; give its next one, or raise StopIteration."""
        base = len(STACK)
        STACK.extend(self.segment)  # its own messengers come back with it
        try:
            if self.msg is not None:
                self.msg["value"] = answer
                for messenger in self.segment:
                    messenger.down(self.msg)
            self.msg = self.body.send(answer)
            self.segment = STACK[base:]
            for messenger in reversed(self.segment):
                messenger.up(self.msg)
            return self.msg
        finally:
            del STACK[base:]

    def __call__(self, answer):
        """k(answer): go on, this once. The handler takes what it has a clause for."""
        while True:
            try:
                msg = self.resume(answer)
            except StopIteration as end:
                return self.handler.on_return(end.value)
            if clause := getattr(self.handler, "on_" + msg["type"], None):
                return (yield from clause(msg, self))
            answer = yield msg  # the rest is asked further out

    def each(self, answers):
        """k.each(answers): go on with every one of them, all but the last in a copy."""
        results = []
        for answer in answers[:-1]:
            results.append((yield from self.copy()(answer)))
        return [*results, (yield from self(answers[-1]))]


def run(model, *args):
    """Run a model to its end. What nobody decides is drawn."""
    computation, answer = Computation(model, args), None
    computation.segment = STACK[:]
    while True:
        try:
            msg = computation.resume(answer)
        except StopIteration as end:
            return end.value
        if (answer := msg["value"]) is None:
            answer = random.choices(list(msg["fn"]), list(msg["fn"].values()))[0]


# --- 4. Two ways to have a second computation in the same state.


class Replayed(Computation):  # runs the model again with the same answers, and works everywhere
    def resume(self, answer=None):
        self.answers = [] if self.msg is None else [*self.answers, (self.msg["name"], answer)]
        return super().resume(answer)

    def copy(self):
        fresh = Replayed(self.model, self.args, self.handler)
        msg = fresh.resume()
        for name, answer in self.answers:
            if msg["name"] != name:
                raise RuntimeError(f"not deterministic: {msg['name']!r} came instead of {name!r}")
            msg = fresh.resume(answer)
        return fresh


class Cloned(Computation):  # copies the suspended frames, and the model does not notice
    def copy(self):
        return clone(self, {})


def clone(x, memo):
    """A deep copy, generators included. What `deepcopy` refuses, such as a file, is refused.
    Functions are shared. Objects from outside are copied: compare with them by `==`, not `is`."""
    if id(x) in memo:
        return memo[id(x)]
    if isinstance(x, BuiltinMethodType) and not isinstance(x.__self__, ModuleType):
        raise TypeError(f"cannot clone {x!r}: it belongs to an object that can change")
    if isinstance(x, CellType):  # a variable of an outer function
        return x
    if isinstance(x, Computation):
        fresh = memo[id(x)] = object.__new__(type(x))
        vars(fresh).update({name: clone(value, memo) for name, value in vars(x).items()})
        return fresh
    return clone_generator(x, memo) if isinstance(x, GeneratorType) else copy.deepcopy(x, memo)


def clone_generator(old, memo):
    """CPython keeps a generator's frame inside of the generator: what comes next in the code, the
    variables, and the values of loops and expressions that are half done. Starting the same code
    again makes another object of that layout, and the frame is written into it."""
    known = sys.implementation.cache_tag in ("cpython-311", "cpython-312", "cpython-313")
    if not known or "t" in getattr(sys, "abiflags", ""):  # t: without the global lock
        raise TypeError("frames are copied on CPython 3.11 to 3.13 only; use Replayed")
    code = old.gi_code
    if code.co_cellvars or not old.gi_suspended:
        raise TypeError(f"cannot clone {old!r}: an inner function has its variables, or it runs")
    closure = tuple(CellType() for _ in code.co_freevars)
    start_again = FunctionType(code, old.gi_frame.f_globals, closure=closure)
    new = memo[id(old)] = start_again(*[None] * code.co_argcount)
    at = type(old).__basicsize__ // 8  # where the variables begin, in words
    filled, count = (ctypes.c_uint32.from_address(id(g) + 8 * at - 8).value for g in (new, old))
    target, source = ((ctypes.c_size_t * (at + count)).from_address(id(g)) for g in (new, old))
    if source[at - 13] not in (0, id(None)):
        raise TypeError(f"cannot clone {old!r}: it waits inside an except block")
    held = [ctypes.cast(word, ctypes.py_object) if word else None for word in source[at:]]
    fresh = [clone(ref.value, memo) if ref else None for ref in held]
    for i in range(count):
        before = target[at + i] if i < filled else 0
        target[at + i] = id(fresh[i]) if held[i] else 0
        if held[i]:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(fresh[i]))
        if before:
            ctypes.pythonapi.Py_DecRef(ctypes.cast(before, ctypes.py_object))
    for i in (at - 10, at - 2, at - 1):  # its state, its next instruction, the count
        target[i] = source[i]
    return new


# --- 5. A control handler owns the rest of the computation: it goes on once, often, or never.


def handle(handler, model, how=Cloned):
    return lambda *args: how(model, args, handler)(None)


class AllChoices:
    def on_choose(self, msg, k):
        return [result for branch in (yield from k.each(msg["fn"])) for result in branch]

    def on_return(self, value):
        return [value]


class Enumeration:
    """Exact inference is a control handler: the total weight of each value that may be returned."""

    def on_sample(self, msg, k):
        total, table = Counter(), msg["fn"]
        values = list(table) if msg["value"] is None else [msg["value"]]
        for value, branch in zip(values, (yield from k.each(values)), strict=True):
            for result, weight in branch.items():
                total[result] += weight * table.get(value, 0.0)
        return total

    def on_return(self, value):
        return {value: 1.0}


# --- 6. What it looks like.


def sprinkler():
    rain = yield sample("rain", flip(0.2))
    on = yield sample("sprinkler", flip(0.01 if rain else 0.4))
    wet = flip(0.99 if rain and on else 0.9 if on else 0.8 if rain else 0.0)
    yield sample("wet", wet, obs=True)
    return rain


def right_triangle(limit):
    sides = []
    for _ in range(3):
        sides.append((yield choose(*range(1, limit))))
    a, b, c = sides
    return (a, b, c) if a <= b and a * a + b * b == c * c else None


if __name__ == "__main__":
    with trace() as seen, condition({"rain": True, "sprinkler": False}):
        run(sprinkler)
    print(f"p{tuple(seen.sites)} at {tuple(seen.sites.values())}: {seen.weight:.4f}")
    for how in (Replayed, Cloned):
        weights = run(handle(Enumeration(), sprinkler, how))
        print(f"p(rain | wet) by {how.__name__}: {weights[True] / sum(weights.values()):.4f}")
    print("right triangles:", *filter(None, run(handle(AllChoices(), right_triangle), 14)))
