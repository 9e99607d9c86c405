"""What a drawn model can hold, and what it does with it: the words of `drawing.py`.

VALUE stands for a question or a number, ASK for a question, NUMBER for a number, NAME for anything
that the model holds, LIST for one of its lists, ITERATOR for a fresh iterator.
"""

from __future__ import annotations

from typing import NamedTuple

PRELUDE = """\
def model():
    fuel = [1] * {fuel}
    a, b = 0, 1
    xs = [0, 1]
    log = []
    if not fuel: yield"""


class Ingredient(NamedTuple):
    """A name that the model holds, the lines that make it, and pieces of text that use it."""

    name: str
    setup: tuple[str, ...]
    changes: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    managers: tuple[str, ...] = ()
    ending: tuple[str, ...] = ()


ITERATORS = (
    "iter(xs)",
    "iter(range(9))",
    "iter(range(2 ** 70, 2 ** 70 + 9))",
    "enumerate(xs)",
    "zip(xs, range(9))",
    "map(lambda x: [x, b], xs)",
    "filter(None, xs)",
    "reversed([1, 2, 3, 4])",
    "reversed(xs)",
    "iter('abcdef')",
    "iter((1, xs, 3))",
    "iter(xs.pop, 0)",
    "itertools.chain(xs, (7, 8))",
    "itertools.chain.from_iterable([xs, [b]])",
    "itertools.count(b)",
    "itertools.repeat(xs, 4)",
    "itertools.cycle([1, xs])",
    "itertools.islice(itertools.count(), 2, 20, 3)",
    "itertools.accumulate([1, 2, 3, 4])",
    "itertools.pairwise([1, 2, 3, 4])",
    "itertools.takewhile(lambda x: x != b + 9, itertools.count())",
    "itertools.dropwhile(lambda x: x == b, itertools.count())",
    "itertools.starmap(max, [(1, 2), (3, b)])",
    "itertools.compress('abcdef', itertools.cycle([1, 0]))",
    "itertools.zip_longest(xs, range(4))",
    "iter({5: 1, 6: 2, 7: 3})",
    "iter({1: [1], 2: xs}.items())",
    "iter({0, 8, 16, 24})",
    "(x for x in xs if x != b)",
    "((x, [y]) for x in range(3) for y in [b, x])",
    "Walk(xs)",
)

INGREDIENTS = (
    Ingredient(
        "ys",
        ("ys = [2]",),
        ("ys.insert(0, VALUE)", "xs, ys = ys, xs", "ys = LIST", "ys *= 2; del ys[6:]"),
        ("sum(y for y in ys if type(y) is int)",),
        lists=("ys",),
    ),
    Ingredient(
        "zs",
        ("zs = [xs, [3]]",),
        ("zs[0].append(VALUE)", "zs[1][:1] = [VALUE]", "zs[1] = LIST", "zs.append(zs)"),
        lists=("zs",),
    ),
    Ingredient(
        "d",
        ("d = {0: xs, 1: [7]}",),
        (
            "d[VALUE] = NAME",
            "d.setdefault(VALUE, []).append(NUMBER)",
            "d.pop(VALUE, None)",
            "d[3] = d",
            "d = {**d, VALUE: LIST}",
            "d |= {VALUE: [NUMBER]}",
            "d = {k: v for k, v in d.items() if k != NUMBER}",
        ),
        ("len(d)",),
        runs=("list(d)[:2]", "d.copy()", "dict(d).items()"),
    ),
    Ingredient(
        "s",
        ("s = {0, 8, 16}",),
        ("s.add((VALUE) * 8)", "s.discard((VALUE) * 8)", "s = set(s)", "s ^= {8, VALUE}"),
        ("len(s)",),
        runs=("sorted(s)[:2]", "frozenset(s)"),
    ),
    Ingredient(
        "t",
        ("t = (xs, log, [4])",),
        ("t[0].append(VALUE)", "t = (*t[-3:], VALUE)", "t = (LIST, (xs, t), [VALUE])"),
        ("len(t)",),
    ),
    Ingredient(
        "q",
        ("q = deque([1, xs], 4)",),
        ("q.append(VALUE)", "q.appendleft(NAME)", "q.rotate(VALUE)", "q.extend((NUMBER, NAME))"),
        ("len(q)",),
        runs=("tuple(q)[:2]",),
    ),
    Ingredient(
        "m",
        ("m = defaultdict(list, {0: xs})",),
        ("m[VALUE].append(NUMBER)", "m[VALUE] = NAME", "m.pop(VALUE, None)"),
        ("len(m)",),
    ),
    Ingredient(
        "c",
        ("c = Counter('aab')", "od = OrderedDict(a=xs, b=[1], c=2)"),
        (
            "c[VALUE] += 1",
            "c.subtract({NUMBER: VALUE})",
            "od.move_to_end('a', bool(VALUE))",
            "od['b'].append(VALUE)",
        ),
        ("c['a']", "c.total()"),
        ending=("log.append(od)",),
    ),
    Ingredient(
        "ba",
        ("ba = bytearray(b'ab')",),
        ("ba.append(VALUE & 127)", "ba[:1] = b''", "ba += bytes([NUMBER & 127])"),
        ("len(ba)",),
        runs=("bytes(ba[:2])",),
    ),
    Ingredient(
        "h",
        ("h = Count()",),
        ("h.seen.append(VALUE)", "h = Count()"),
        ("h.total", "len(h.seen)"),
        managers=("with Count() as h:", "with h:"),
    ),
    Ingredient(
        "o",
        ("o = Thing(xs)",),
        (
            "o.push(VALUE)",
            "o.items[:1] = [VALUE]",
            "o.held = NAME",
            "o = Thing(o)",
            "log.append(o.push)",
            "o.extra = [VALUE]",
        ),
        ("o.push(1)", "len(o.items)"),
        lists=("o.items",),
    ),
    Ingredient(
        "sl",
        ("sl = Slotted(xs, 1)",),
        ("sl.right = VALUE", "sl.left = NAME", "sl = Slotted(sl, VALUE)"),
        ("hasattr(sl, 'missing') + 1",),
    ),
    Ingredient(
        "r",
        ("r = Record(1, xs)", "fr = Frozen(1, log)"),
        (
            "r.total += VALUE",
            "r = replace(r, items=[VALUE])",
            "r.items.append(VALUE)",
            "fr = Frozen(VALUE, NAME)",
            "fr.items.append(VALUE)",
        ),
        ("r.total",),
        lists=("r.items",),
        ending=("log.append(fr)",),
    ),
    Ingredient(
        "nt",
        ("nt = Named(xs, [5])",),
        ("nt.second.append(VALUE)", "nt = nt._replace(first=VALUE)", "nt = Named(nt, LIST)"),
    ),
    Ingredient(
        "w",
        ("w = Words([1, xs])", "tb = Table({1: xs})"),
        ("w.append(VALUE)", "w.touched += VALUE", "tb[VALUE].append(NUMBER)", "tb[w.touched] = w"),
        ("w.touched", "len(tb)"),
        lists=("w",),
        ending=("log.append(tb)",),
    ),
    Ingredient(
        "fs",
        (
            "def f(p=2, keep=[]):",
            "    nonlocal a",
            "    a += p",
            "    keep.append(a)",
            "    xs.append(p)",
            "    return a + len(keep)",
            "fs = [f, lambda: b + len(xs)]",
        ),
        (
            "fs[0](VALUE)",
            "fs.append(fs[0])",
            "f.calls = getattr(f, 'calls', 0) + VALUE",
            "fs.append(lambda p=VALUE: p + a)",
            "fs[1:] = [functools.partial(f, NUMBER)]",
        ),
        ("fs[0]()", "fs[-1]()", "f()"),
        ending=("log.append([g() for g in fs[:3]])",),
    ),
    Ingredient(
        "it",
        ("it = ITERATOR",),
        (
            "it = ITERATOR",
            "it = zip(it, ITERATOR)",
            "it = enumerate(it)",
            "it = itertools.chain([5], it)",
            "log.append(next(it, None))",
            "log.append((ASK, next(it, None)))",
        ),
        ("next(it, 0) and 1",),
        runs=("itertools.islice(it, 2)",),
        ending=("log.append(list(itertools.islice(it, 4)))",),
    ),
    Ingredient(
        "g",
        (
            "def gen(n):",
            "    for i in range(n):",
            "        try:",
            "            got = yield i + b",
            "            if got: log.append(got)",
            "        except KeyError:",
            "            log.append('caught')",
            "            yield -1",
            "        finally:",
            "            got = None",  # what a finalizer changes, it changes at no certain time
            "    return n",
            "def outer(n):",
            "    log.append((yield from gen(n)))",
            "    yield 'end'",
            "g = gen(5)",
            "next(g)",
        ),
        (
            "g = gen(VALUE)",
            "g = outer(NUMBER)",
            "log.append((next(g, None), ASK, next(g, None)))",
            "log.append(gen(2).__next__)",
            "log.append(next(g, 0) and g.send(VALUE))",
            "log.append(next(g, 0) and g.throw(KeyError))",
            "g.close()",
            "log.append(g)",
            "g = (y + len(xs) for y in [1, 2, VALUE])",
        ),
        ("next(g, 3)",),
        runs=("itertools.islice(g, 2)",),
        ending=("log.append(list(itertools.islice(g, 4)))",),
    ),
    Ingredient(
        "rng",
        ("rng = random.Random(7)",),
        ("log.append(rng.randrange(9))", "rng.shuffle(xs)", "log.append((VALUE, rng.random()))"),
        ("rng.randrange(4)",),
        ending=("rng = rng.random()",),
    ),
    Ingredient(
        "stack",
        ("stack = ExitStack()", "stack.callback(log.append, xs)"),
        ("stack.callback(xs.append, VALUE)", "stack.enter_context(Guard(log))", "stack.close()"),
        managers=("with ExitStack() as stack:", "with stack:"),
    ),
)
