"""Hazards 3 and 27, and what is outside: cells, functions, classes, methods; shared or copied."""

from __future__ import annotations

import collections
import functools
import math

import contpoutine as cp
from tests.capture.law import assert_law, assert_refused, choose


def test_an_inner_function_that_rebinds_a_local():
    def model():
        n = 0

        def step(x):
            nonlocal n
            n += x
            return n

        step((yield choose(1, 2)))
        step((yield choose(10, 20)))
        n += yield choose(100, 200)
        return n, step(1000)

    assert_law(model)


def test_lambdas_that_close_over_a_loop_variable():
    def model():
        fs = []
        for i in range(3):
            fs.append(lambda: i)
            i += yield choose(0, 10)
        return [f() for f in fs]

    assert_law(model)


def test_two_functions_share_one_cell():
    def model():
        state = []

        def put(x):
            state.append(x)

        def get():
            return tuple(state)

        put((yield choose(0, 1)))
        a = get()
        put((yield choose(0, 1)))
        return a, get(), put.__closure__[0] is get.__closure__[0]

    assert_law(model)


def test_functions_that_call_each_other_and_themselves():
    def model():
        calls = []

        def even(n):
            calls.append(n)
            return n == 0 or odd(n - 1)

        def odd(n):
            return n != 0 and even(n - 1)

        a = even((yield choose(1, 4)))
        b = odd((yield choose(1, 4)))
        return a, b, calls

    assert_law(model)


def test_defaults_attributes_and_keyword_defaults_of_functions():
    def model():
        def f(x, seen=[], *, more={}):  # noqa: B006
            seen.append(x)
            more[x] = len(seen)
            f.count += 1
            return list(seen), dict(more), f.count

        f.count = 0
        f((yield choose(0, 1)))
        f((yield choose(2, 3)))
        return f(9)

    assert_law(model)


def test_defaults_without_a_cell():
    def model():
        def f(x, seen=[]):  # noqa: B006
            seen.append(x)
            return seen

        f((yield choose(0, 1)))
        return f((yield choose(2, 3)))

    assert_law(model)


def test_a_function_made_by_a_helper_keeps_its_own_state():
    def model():
        a, b = counter(), counter()
        for _ in range((yield choose(1, 2))):
            a()
        for _ in range((yield choose(1, 2))):
            b()
        return a(), b()

    assert_law(model)


def counter():
    n = 0

    def count():
        nonlocal n
        n += 1
        return n

    return count


def test_a_nested_generator_function_shares_cells_with_its_maker():
    def model():
        log = []

        def sub(n):
            nonlocal total
            for i in range(n):
                total += yield choose(1, 2)
                log.append((i, total))
            return total

        total = 0
        a = yield sub(2)
        b = yield from sub(1)
        return a, b, log

    assert_law(model)


def test_generator_expressions_close_over_locals():
    def model():
        factor = 1
        xs = [1, 2, 3, 4]
        g = (x * factor for x in xs)
        seen = [next(g)]
        factor = yield choose(10, 100)
        seen.append(next(g))
        factor += yield choose(1, 2)
        return seen, list(g)

    assert_law(model)


def test_a_decorated_helper_with_state():
    def traced(f):
        calls = []

        @functools.wraps(f)
        def wrapper(*args):
            calls.append(args)
            return f(*args), list(calls)

        return wrapper

    def model():
        @traced
        def double(x):
            return x * 2

        a = double((yield choose(1, 2)))
        b = double((yield choose(3, 4)))
        return a, b, double.__wrapped__(1)

    assert_law(model)


def test_a_comprehension_with_state_around_a_capture():
    def model():
        xs = [x for x in range(3) if x or True]
        ys = {x: [x] for x in xs}
        zs = [[y for y in ys[x]] for x in xs]
        zs[0].append((yield choose(0, 1)))
        ys[0].append((yield choose(0, 1)))
        return xs, ys, zs

    assert_law(model)


def test_a_class_made_by_the_model_is_never_shared():
    def model():
        class Counter:
            count = 0
            seen = []

            @classmethod
            def step(cls, x):
                cls.count += x
                cls.seen.append(x)

        Counter.step((yield choose(1, 2)))
        Counter.step((yield choose(10, 20)))
        return Counter.count, Counter.seen

    assert_refused(model, because="class .*Counter")


def test_an_instance_of_a_class_made_by_the_model_is_never_shared():
    def model():
        class Base:
            def put(self, x):
                self.xs.append(x)

        class Thing(Base):
            def __init__(self):
                super().__init__()
                self.xs = []

            def put(self, x):
                super().put(x + 1)

        thing = Thing()
        put = thing.put
        del Thing, Base
        put((yield choose(1, 2)))
        put((yield choose(10, 20)))
        return thing.xs

    assert_law(model, strategies=("auto", "replay"))


def test_a_named_tuple_class_made_by_the_model_is_refused():
    def model():
        P = collections.namedtuple("P", "x")
        p = P((yield choose(1, 2)))
        P.tag = p.x
        q = yield choose(3, 4)
        return p.x, q, P.tag

    assert_refused(model, because="class")


class Model:
    def __init__(self, n):
        self.n = n

    def __call__(self):
        xs = []
        for _ in range(self.n):
            xs.append((yield choose(0, 1)))
        return xs

    def method(self, extra):
        return (yield from self()) + [extra, (yield choose(2, 3))]

    @classmethod
    def of_class(cls):
        return cls.__name__, (yield choose(0, 1)), (yield choose(0, 1))

    @staticmethod
    def static():
        return (yield choose(0, 1)), (yield choose(0, 1))

    def with_super(self):
        assert super().__init__ is not None
        a = yield choose(0, 1)
        assert __class__ is Model
        return a, (yield choose(0, 1)), super().__hash__() == hash(self)


def test_methods_callables_partials_and_decorated_functions_as_models():
    model = Model(2)
    assert_law(model)
    assert_law(model.method, "x")
    assert_law(Model.of_class)
    assert_law(Model.static)
    assert_law(model.with_super)
    assert_law(functools.partial(model.method, "y"))
    assert_law(functools.partial(lambda n: (yield from Model(n)()), 2))

    @functools.wraps(model.method)
    def wrapped(*args):
        return model.method(*args)

    assert_law(wrapped, "z")


# --- outside: shared, identity kept -------------------------------------------------------------

TABLE = [1, 2, 3]
NESTED = {"a": [TABLE]}
SENTINEL = object()


class Config:
    table = TABLE
    own = [7]

    def __init__(self):
        self.items = [TABLE, {"x": 1}]


CONFIG = Config()


def identities(*args, **kwargs):
    """Holds everything in locals while it is captured; says what is still the same object."""
    table, inner, sentinel = TABLE, NESTED["a"], SENTINEL
    config, items, own = CONFIG, CONFIG.items, Config.own
    helper, pi, bound = counter, math, CONFIG.__init__
    given = [*args, *kwargs.values()]
    a = yield choose(0, 1)
    b = yield choose(0, 1)
    return (
        a,
        b,
        table is TABLE,
        inner is NESTED["a"],
        sentinel is SENTINEL,
        config is CONFIG,
        items is CONFIG.items,
        own is Config.own,
        helper is counter,
        pi is math,
        bound.__self__ is CONFIG,
        all(x is y for x, y in zip(given, (*args, *kwargs.values()))),
        [id(x) for x in given],
    )


def test_what_globals_closures_classes_and_arguments_hold_is_shared():
    argument = [[1], {"k": [2]}, Config(), (SENTINEL, [3])]
    expected = assert_law(identities, argument, *argument)
    assert all(all(x is not False for x in outcome) for outcome in expected.values())


def test_what_a_closure_of_the_model_holds_is_shared():
    held = [[0], {}]
    thing = Config()

    def model():
        a, b, c = held, held[0], thing
        x = yield choose(0, 1)
        y = yield choose(0, 1)
        return a is held, b is held[0], c is thing, x, y

    assert_law(model)


def test_what_a_module_holds_is_shared_however_deep_it_is_named():
    import xml.etree.ElementTree

    def model():
        registry = xml.etree.ElementTree._namespace_map
        x = yield choose(0, 1)
        y = yield choose(0, 1)
        return registry is xml.etree.ElementTree._namespace_map, x, y

    assert_law(model)


def test_an_owned_list_that_holds_outside_objects_is_copied_and_they_are_not():
    outside = [1]

    def model(given):
        xs = [outside, given, [outside]]
        xs.append((yield choose(0, 1)))
        ys = list(given)
        ys.append((yield choose(0, 1)))
        return xs[0] is outside, xs[1] is given, xs[2][0] is outside, xs[3:], ys

    assert_law(model, [outside, 2])


def test_an_argument_of_a_million_numbers_costs_a_fork_nothing():
    import time

    def model(data, table, row):
        total = 0
        for _ in range(30):
            total += yield choose(0, 1)
        return total, data[0], table[0], row[0]

    class First(cp.Handler):
        def on_choose(self, msg, k):
            yield k(1)
            return (yield k(0))

    def seconds(n):
        data, table, row = list(range(n)), dict.fromkeys(range(n)), tuple(range(n))
        begun = time.perf_counter()
        for _ in range(3):
            cp.run(cp.handle(Last(), model), data, table, row)
        return time.perf_counter() - begun

    class Last(cp.Handler):
        def on_choose(self, msg, k):
            kept = []
            for _ in range(20):  # forks that nobody runs
                kept.append(k._snapshot.fork(k.origin.outside) if CLONES else None)
            return (yield k(1))

    from tests.capture.law import NATIVE as CLONES

    small, large = seconds(10), seconds(1_000_000)
    # one walk over the arguments at the start is fine; one for each of 1,800 forks is not
    assert large < small + 2.0


def test_a_global_bound_by_the_model_is_read_again():
    def model():
        a = len(TABLE)
        b = yield choose(0, 1)
        return a, b, len(TABLE), (yield choose(0, 1))

    assert_law(model)


def test_a_list_stored_by_a_handler_further_out_stays_the_models_own():
    stored = []

    class Recorder(cp.Messenger):
        def __init__(self):
            self.kept = []

        def _pyro_note(self, msg):
            self.kept.append(msg["args"][0])
            msg["value"] = 1

    note = cp.operation("note")

    def model():
        xs = [0]
        yield note(xs)
        a = yield choose(1, 2)
        xs.append(a)
        xs.append((yield choose(3, 4)))
        return xs

    from tests.capture.law import WORKING, Asked, Keeping, strategy

    for name in WORKING:
        recorder = Recorder()
        with strategy(name), recorder:
            asked = cp.run(cp.handle(Keeping(), model))
            outcomes = []
            for a in (1, 2, 1):
                inner = cp.run(asked.k(a))
                assert isinstance(inner, Asked)
                outcomes += [cp.run(inner.k(b)) for b in (3, 4, 3)]
        assert outcomes == [[0, a, b] for a in (1, 2, 1) for b in (3, 4, 3)], name
        stored.append(recorder.kept)
