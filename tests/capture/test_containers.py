"""Hazards 1, 2, 8, 9, 10: what a model holds is its own in every branch, aliasing kept."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import operator
import random
import types
from typing import NamedTuple

import pytest

from tests.capture.law import assert_law, assert_refused, choose


def test_a_list_changed_by_one_branch_is_not_seen_by_another():
    def model():
        xs = [0]
        for _ in range(3):
            xs.append((yield choose(1, 2)))
        return xs

    assert_law(model)


def test_a_dict_changed_by_one_branch_is_not_seen_by_another():
    def model():
        d = {}
        for i in range(3):
            d[(yield choose("a", "b"))] = i
        return list(d.items())

    assert_law(model)


def test_a_set_changed_by_one_branch_is_not_seen_by_another():
    def model():
        s = {0}
        for _ in range(3):
            s ^= {(yield choose(0, 1, 2))}
        return s

    assert_law(model)


def test_a_set_iterates_in_the_same_order_after_collisions_and_deletions():
    def model():
        s = set()
        for i in range(20):
            s.add(i * 32)  # all collide in a small table
        for i in range(5, 15):
            s.discard(i * 32)
        seen = []
        for x in s:
            seen.append((x, (yield choose(0, 1)) if len(seen) < 3 else None))
        s.add(32 * 7)
        return seen, list(s)

    assert_law(model)


def test_a_bytearray_is_copied():
    def model():
        b = bytearray(b"ab")
        for _ in range(3):
            b.append((yield choose(99, 100)))
        return bytes(b)

    assert_law(model)


def test_two_names_of_one_list_stay_one_list():
    def model():
        xs = ys = []
        zs = []
        xs.append((yield choose(0, 1)))
        ys.append((yield choose(0, 1)))
        zs.append((yield choose(0, 1)))
        return xs, ys is xs, zs is xs

    assert_law(model)


def test_a_list_inside_a_tuple_and_beside_it_stay_one_list():
    def model():
        xs = []
        t = (1, (xs, "a"))
        t[1][0].append((yield choose(0, 1)))
        xs.append((yield choose(0, 1)))
        return t, t[1][0] is xs

    assert_law(model)


def test_a_list_that_contains_itself_is_copied_as_such():
    def model():
        xs = [0]
        xs.append(xs)
        d = {"me": None}
        d["me"] = d
        t = ([],)
        t[0].append(t)
        a = yield choose(1, 2)
        xs[0] += a
        d["a"] = a
        b = yield choose(1, 2)
        return xs[0], xs[1] is xs, xs[1][1][0], d["me"] is d, d["a"], t[0][0] is t, b

    assert_law(model)


def test_an_unchanged_tuple_shared_many_times_is_walked_once():
    def model():
        t = ()
        for _ in range(60):
            t = (t, t)
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, t[0] is t[1]

    assert_law(model, orders=2)


def test_a_frozenset_nested_many_times_is_walked_once():
    def model():
        t = frozenset()
        for i in range(60):
            t = frozenset([t, frozenset([t, i])])
        a = yield choose(0, 1)
        return a, len(t)

    assert_law(model, orders=2)


def test_a_structure_too_deep_to_copy_is_refused_and_replayed():
    def model():
        xs = []
        for _ in range(20_000):
            xs = [xs]
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        depth = 0
        while xs:
            xs, depth = xs[0], depth + 1
        return a, b, depth

    assert_refused(model, because="too deep", orders=2)


def test_a_deep_structure_is_refused_even_where_the_recursion_limit_is_high():
    import sys

    def model():
        xs = []
        for _ in range(200_000):
            xs = (xs, [])
        a = yield choose(0, 1)
        return a

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000_000)
    try:
        assert_refused(model, because="too deep", orders=2)
    finally:
        sys.setrecursionlimit(limit)


def test_half_built_displays_belong_to_their_branch():
    def model():
        xs = [1, 2]
        d = {"k": 0}
        a = [*xs, (yield choose(0, 1)), *xs]
        b = {**d, "k": (yield choose(0, 1)), "l": 2}
        c = {*xs, (yield choose(5, 6))}
        e = (*xs, (yield choose(7, 8)), [])
        return a, b, c, e

    assert_law(model)


def test_half_built_calls_belong_to_their_branch():
    def f(*args, **kwargs):
        return args, kwargs

    def model():
        xs = [1]
        a = f(*xs, (yield choose(0, 1)), *xs, k=(yield choose(2, 3)), z=xs)
        xs.append(2)
        b = [].append
        b((yield choose(4, 5)))
        return a, b.__self__

    assert_law(model)


def test_a_display_longer_than_thirty_is_built_in_its_branch():
    names = ", ".join(str(i) for i in range(40))
    scope = {"choose": choose}
    exec(
        "def model():\n"
        f"    xs = [{names}, (yield choose(0, 1)), {names}, (yield choose(2, 3))]\n"
        f"    return xs, {{{names}, (yield choose(50, 60))}}\n",
        scope,
    )
    assert_law(scope["model"])


def test_f_strings_comparison_chains_and_boolean_operators_around_a_yield():
    def model():
        text = f"{[1]!r}-{(yield choose('a', 'b'))}-{(yield choose(1, 2)):>3}"
        chain = 0 < (yield choose(0, 1)) <= (yield choose(0, 1))
        either = (yield choose([], [1])) or (yield choose("x", "y"))
        return text, chain, either

    assert_law(model)


def test_augmented_assignment_to_a_place_with_a_yield_on_the_right():
    def model():
        xs = [[0], [10]]
        xs[0][0] += yield choose(1, 2)
        xs[1][0] += yield choose(1, 2)
        d = {}
        d[(yield choose("a", "b"))] = yield choose(1, 2)
        return xs, d

    assert_law(model)


def test_a_bound_method_in_a_local_belongs_to_the_copied_object():
    def model():
        xs = []
        push = xs.append
        also = push
        push((yield choose(0, 1)))
        also((yield choose(0, 1)))
        return xs, also is push, push.__self__ is xs

    assert_law(model)


@pytest.mark.parametrize("name", ["__setitem__", "update", "setdefault"])
def test_every_kind_of_bound_c_method_belongs_to_the_copied_object(name):
    def model():
        d = {}
        put = getattr(d, name)
        for i in range(3):
            key = yield choose("a", "b")
            put({key: i}) if name == "update" else put(key, i)
        return d

    assert_law(model)


def test_a_bound_method_of_a_builtin_class_is_shared():
    def model():
        make = dict.fromkeys
        join = ", ".join
        a = yield choose("a", "b")
        return make(a), join([a, a])

    assert_law(model)


def test_a_memoryview_of_an_owned_buffer_is_never_shared():
    def model():
        b = bytearray(2)
        view = memoryview(b)
        view[0] = yield choose(1, 2)
        view[1] = yield choose(1, 2)
        return bytes(b)

    assert_refused(model, because="memoryview")


def test_objects_of_operator_and_slices_do_not_hide_owned_lists():
    def model():
        xs = []
        push = operator.methodcaller("extend", xs)
        cut = slice(xs, None)
        ys = []
        a = yield choose(1, 2)
        xs.append(a)
        b = yield choose(1, 2)
        xs.append(b)
        push(ys)
        ys2 = []
        operator.methodcaller("append", 1)(ys2)
        ys.extend(xs)
        push(ys)
        return ys, cut.start, ys2

    assert_law(model)


def test_deques_defaultdicts_counters_and_ordered_dicts_are_copied():
    def model():
        q = collections.deque([1, 2], maxlen=3)
        d = collections.defaultdict(list)
        c = collections.Counter("ab")
        o = collections.OrderedDict(a=1, b=2)
        for _ in range(2):
            x = yield choose("a", "b", "c")
            q.append(x)
            d[x].append(len(q))
            c[x] += 1
            o[x] = len(q)
            o.move_to_end(x)
        return q, q.maxlen, d, c, list(o.items()), type(d), type(c)

    assert_law(model)


def test_an_ordered_dict_keeps_its_own_order():
    def model():
        o = collections.OrderedDict(a=1, b=2, c=3)
        o.move_to_end("a")
        x = yield choose("a", "b", "c")
        o.move_to_end(x, last=False)
        y = yield choose("a", "b")
        return list(o), y

    assert_law(model)


def test_views_of_a_dict_follow_their_copy():
    def model():
        d = {1: 1}
        keys, values, items = d.keys(), d.values(), d.items()
        d[(yield choose(2, 3))] = "x"
        d[(yield choose(4, 5))] = "y"
        return list(keys), list(values), list(items)

    assert_law(model)


class Point(NamedTuple):
    x: object
    y: object


class Tagged(Point):
    """A subclass of a named tuple, with a __dict__."""


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def test_named_tuples_and_enums():
    def model():
        xs = []
        p = Point(xs, Colour.RED)
        q = Point(1, 2)
        c = yield choose(Colour.RED, Colour.BLUE)
        p.x.append(c)
        xs.append((yield choose(0, 1)))
        return p, p.x is xs, q, c is Colour.RED

    assert_law(model)


def test_a_named_tuple_in_a_cycle_stays_one_object():
    def model():
        xs = []
        p = Point(xs, 0)
        xs.append(p)
        a = yield choose(0, 1)
        xs.append(a)
        b = yield choose(0, 1)
        return p.x is xs, xs[0] is p, xs[1:], b

    assert_law(model)


def test_a_named_tuple_with_attributes_keeps_them():
    def model():
        p = Tagged([], 0)
        p.tag = ["t"]
        a = yield choose(0, 1)
        p.tag.append(a)
        p.x.append(a)
        b = yield choose(0, 1)
        return p.x, p.tag, b

    assert_law(model)


class Plain:
    def __init__(self):
        self.items = []

    def push(self, x):
        self.items.append(x)


class Slotted:
    __slots__ = ("items",)

    def __init__(self):
        self.items = []


@dataclasses.dataclass
class Data:
    items: list = dataclasses.field(default_factory=list)


class MyList(list):
    pass


class MyDict(dict):
    pass


class MyInt(int):
    pass


class MyDeque(collections.deque):
    pass


class MyStr(str):
    pass


@pytest.mark.parametrize(
    "make", [Plain, Slotted, Data, MyList, MyDict, MyDeque, lambda: random.Random(7)]
)
def test_instances_of_user_classes_are_never_shared(make):
    def model():
        thing = make()
        also = thing
        for i in range(3):
            x = yield choose(1, 2)
            if isinstance(thing, (list, collections.deque)):
                also.append(x)
            elif isinstance(thing, dict):
                also[i] = x
            elif isinstance(thing, random.Random):
                also.seed(x + thing.randrange(100))
            else:
                also.items.append(x)
        if isinstance(thing, (list, collections.deque)):
            return list(thing)
        if isinstance(thing, dict):
            return dict(thing)
        if isinstance(thing, random.Random):
            return thing.random()
        return thing.items

    assert_law(model)


@pytest.mark.parametrize("make", [MyInt, MyStr])
def test_subclasses_of_numbers_and_strings_keep_their_attributes(make):
    def model():
        n = make(3)
        n.notes = []
        n.notes.append((yield choose(0, 1)))
        n.notes.append((yield choose(0, 1)))
        return n, n.notes, type(n) is make

    assert_law(model)


def test_a_bound_method_of_a_user_instance_is_never_shared():
    def model():
        push = Plain().push
        push((yield choose(1, 2)))
        push((yield choose(1, 2)))
        return push.__self__.items

    assert_law(model)


def test_simple_namespaces_and_mapping_proxies_are_never_shared():
    def model():
        n = types.SimpleNamespace(xs=[])
        d = {}
        view = types.MappingProxyType(d)
        n.xs.append((yield choose(1, 2)))
        d["a"] = yield choose(1, 2)
        n.y = d["a"]
        return n.xs, n.y, dict(view)

    assert_law(model)


def test_partials_of_owned_objects():
    def add(xs, x, *, by=None):
        xs.append(x)
        by.append(x)

    def model():
        xs, ys = [], []
        p = functools.partial(add, xs, by=ys)
        q = functools.partial(add)
        q.note = "kept"
        p((yield choose(1, 2)))
        p((yield choose(1, 2)))
        return xs, ys, p.args[0] is xs, q.note

    assert_law(model)


def test_objects_that_a_fork_shares_have_their_attributes():
    def model():
        c = collections.Counter("aab")
        c.note = ["n"]
        a = yield choose(0, 1)
        c.note.append(a)
        b = yield choose(0, 1)
        return c, c.note, b

    assert_law(model)


def test_a_dict_whose_keys_the_model_made_and_knows_by_identity():
    def model():
        a, b = Plain(), Plain()
        d = {b: [0], "x": 1, a: a}
        counted = collections.Counter([a, b, a])
        mine, usual = MyDict({a: b}), collections.defaultdict(list, {b: [a]})
        d[b].append((yield choose(1, 2)))
        a.push((yield choose(1, 2)))
        counted[a] += 1
        order = [k if k == "x" else (a, b).index(k) for k in d]
        return (
            *(order, d[b], d[a].items, counted[a], counted[b]),
            *(mine[a] is b, usual[b][0] is a, list(mine) == [a]),
        )

    assert_law(model)


def test_a_dict_with_owned_keys_known_by_their_contents_is_refused_and_replayed():
    def model():
        thing = Plain()
        d = {(thing, 1): 0}
        d[thing, 1] += yield choose(1, 2)
        d[thing, 1] += yield choose(1, 2)
        return d[thing, 1]

    assert_refused(model, because="has a key that the model made")


def test_a_set_of_objects_hashed_by_identity_is_refused_with_a_remedy():
    def model():
        things = [Plain(), Plain()]
        chosen = {things[0]}
        for thing in things:
            if (yield choose(True, False)):
                chosen ^= {thing}
        return [thing in chosen for thing in things]

    assert_refused(model, because=r"another order in every run.*dict\.fromkeys")


def test_a_function_as_key_with_owned_cells_is_never_shared():
    def model():
        xs = []

        def f():
            return xs

        d = {f: 1}
        s = {f}
        xs.append((yield choose(0, 1)))
        xs.append((yield choose(0, 1)))
        return next(iter(d))(), next(iter(s))(), f in d, f in s

    assert_law(model, strategies=("auto", "replay"))


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: object
    y: object = None


@dataclasses.dataclass(slots=True)
class SlottedData:
    x: object
    y: object = None


class Node:
    def __init__(self, parent=None):
        self.parent = parent
        self.children = []
        if parent is not None:
            parent.children.append(self)


class Child(Slotted):
    __slots__ = ("__private", "late")

    def __init__(self):
        super().__init__()
        self.__private = [1]

    def private(self):
        return self.__private


class Closing:
    def __del__(self):
        pass


def test_frozen_dataclasses_are_shared_like_tuples_and_may_be_keys():
    def model():
        xs = []
        a, b = Frozen(1, "x"), Frozen(xs)
        d = {a: 0}
        d[Frozen(1, "x")] += yield choose(1, 2)
        xs.append((yield choose(3, 4)))
        return a, b, b.x is xs, d[a], next(iter(d)) is a

    assert_law(model)


def test_slots_private_names_and_unset_attributes():
    def model():
        c, s = Child(), SlottedData([1])
        c.private().append((yield choose(1, 2)))
        c.items.append((yield choose(3, 4)))
        s.x.append(c.items[-1])
        return c.private(), c.items, hasattr(c, "late"), s

    assert_law(model)


def test_objects_that_refer_to_each_other():
    def model():
        root = Node()
        leaf = Node(Node(root))
        leaf.found = yield choose(1, 2)
        leaf.parent.children.append((yield choose(3, 4)))
        up = root.children[0]
        return (
            leaf.parent is up,
            up.parent is root,
            up.children[0] is leaf,
            leaf.found,
            up.children[1],
        )

    assert_law(model)


def test_an_object_with_a_del_method_is_refused():
    def model():
        thing = Closing()
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, thing is not None

    assert_refused(model, because="__del__")


def test_a_sentinel_made_by_the_model_keeps_its_identity():
    def model():
        missing = object()
        xs = [missing, 1]
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, xs[0] is missing, xs.index(missing)

    assert_law(model)


def test_a_list_subclass_with_attributes_and_cycles():
    def model():
        xs = MyList([1])
        xs.note = xs
        d = MyDict(xs=xs)
        d.note = [d]
        xs.append((yield choose(2, 3)))
        d["k"] = yield choose(4, 5)
        return list(xs), xs.note is xs, d["xs"] is xs, d.note[0] is d, d["k"], type(xs), type(d)

    assert_law(model)
