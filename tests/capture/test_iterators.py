"""Hazard 4: an iterator that a model made goes on from its own place in every branch."""

from __future__ import annotations

import collections
import functools
import itertools
import operator
from typing import NamedTuple

import pytest

from tests.capture.law import assert_law, assert_refused, choose


class Doubled(NamedTuple):
    x: object


def add(x, y):
    return x + y


WORD_BY_WORD = {
    "range": lambda: iter(range(6)),
    "a long range": lambda: iter(range(2**70, 2**70 + 6)),
    "list": lambda: iter([0, 1, 2, 3, 4, 5]),
    "tuple": lambda: iter((0, 1, 2, 3, 4, 5)),
    "str": lambda: iter("abcdef"),
    "str with wide letters": lambda: iter("ab\u1234def"),
    "bytes": lambda: iter(b"abcdef"),
    "bytearray": lambda: iter(bytearray(b"abcdef")),
    "dict": lambda: iter(dict.fromkeys(range(6))),
    "dict values": lambda: iter({i: i for i in range(6)}.values()),
    "dict items": lambda: iter({i: [i] for i in range(6)}.items()),
    "reversed dict": lambda: reversed({i: i for i in range(6)}),
    "reversed dict items": lambda: reversed({i: i for i in range(6)}.items()),
    "reversed dict values": lambda: reversed({i: i for i in range(6)}.values()),
    "set": lambda: iter({32 * i for i in range(6)}),
    "frozenset": lambda: iter(frozenset(range(6))),
    "reversed list": lambda: reversed([0, 1, 2, 3, 4, 5]),
    "reversed tuple": lambda: reversed((0, 1, 2, 3, 4, 5)),
    "reversed str": lambda: reversed("abcdef"),
    "reversed range": lambda: reversed(range(6)),
    "enumerate": lambda: enumerate([[i] for i in range(6)]),
    "enumerate from a large number": lambda: enumerate("abcdef", 2**70),
    "zip": lambda: zip([0, 1, 2, 3, 4, 5], iter("abcdef")),
    "strict zip": lambda: zip([0, 1, 2, 3, 4, 5], "abcdef", strict=True),
    "zip of zips": lambda: zip(zip(range(6), "abcdef"), enumerate("ghijkl")),
    "map": lambda: map(add, range(6), [1] * 6),
    "map of a type": lambda: map(str, [0, 1, 2, 3, 4, 5]),
    "map of a class": lambda: map(Doubled, [0, 1, 2, 3, 4, 5]),
    "map of map": lambda: map(list, map(map, [str] * 6, [[1]] * 6)),
    "filter": lambda: filter(None, [1, 0, 2, 0, 3, 4, 5, 6, 7]),
    "filter by a type": lambda: filter(int, ["1", "0", "2", "3", "4", "5", "6"]),
    "callable iterator": lambda: iter([6, 5, 4, 3, 2, 1, 0].pop, 7),
    "count": lambda: itertools.count(3),
    "count of large numbers": lambda: itertools.count(2**70, 2),
    "count of fractions": lambda: itertools.count(0.5, 0.25),
    "cycle": lambda: itertools.cycle([0, 1]),
    "repeat": lambda: itertools.repeat("x", 6),
    "repeat a class": lambda: itertools.repeat(Doubled, 6),
    "repeat for ever": lambda: itertools.repeat([]),
    "chain": lambda: itertools.chain([0], (1, 2), "ab", range(3)),
    "chain from iterable": lambda: itertools.chain.from_iterable([[0], [1, 2], [3, 4, 5]]),
    "islice": lambda: itertools.islice(itertools.count(), 1, 30, 2),
    "accumulate": lambda: itertools.accumulate([1, 2, 3, 4, 5, 6]),
    "accumulate with a function": lambda: itertools.accumulate(
        [1, 2, 3, 4, 5, 6], operator.mul, initial=1
    ),
    "takewhile": lambda: itertools.takewhile(lambda x: x < 10, itertools.count()),
    "dropwhile": lambda: itertools.dropwhile(lambda x: x < 3, itertools.count()),
    "filterfalse": lambda: itertools.filterfalse(lambda x: x % 2, itertools.count()),
    "starmap": lambda: itertools.starmap(pow, [(2, i) for i in range(6)]),
    "starmap of a class": lambda: itertools.starmap(complex, [(2, i) for i in range(6)]),
    "compress": lambda: itertools.compress(range(20), itertools.cycle([1, 0, 1])),
    "zip_longest": lambda: itertools.zip_longest("abcdef", range(3), fillvalue=[]),
    "pairwise": lambda: itertools.pairwise([0, 1, 2, 3, 4, 5, 6]),
    "product": lambda: itertools.product([0, 1], "abc"),
    "product of one's own power": lambda: itertools.product("ab", repeat=3),
    "permutations": lambda: itertools.permutations("abc"),
    "short permutations": lambda: itertools.permutations([[0], [1], [2]], 2),
    "combinations": lambda: itertools.combinations("abcd", 2),
    "combinations with replacement": lambda: itertools.combinations_with_replacement("abc", 2),
    "tee": lambda: itertools.tee(iter([0, 1, 2, 3, 4, 5]))[0],
    "tee of a long run": lambda: itertools.tee(iter(range(200)))[1],
    "generator expression": lambda: (x * 2 for x in range(6)),
    "enumerate of generator expression": lambda: enumerate(x * 2 for x in range(6)),
    "deque turned into a list": lambda: iter(list(collections.deque(range(6)))),
}

REFUSED = {
    "deque": lambda: iter(collections.deque([0, 1, 2, 3, 4, 5])),
    "reversed deque": lambda: reversed(collections.deque([0, 1, 2, 3, 4, 5])),
    "ordered dict": lambda: iter(collections.OrderedDict.fromkeys(range(6))),
    "memoryview": lambda: iter(memoryview(b"abcdef")),
}


def in_a_local(make):
    def model():
        it = make()
        also = it
        first = next(it)
        a = yield choose(0, 1)
        second = [next(it) for _ in range(a)]
        b = yield choose(0, 1)
        third = [next(also) for _ in range(b + 1)]
        c = yield choose(0, 1)
        fourth = list(itertools.islice(it, c)) if c else None
        return first, second, third, fourth, also is it

    return model


def in_a_loop(make):
    def model():
        seen = []
        for x in make():
            seen.append(x)
            if len(seen) < 4:
                seen.append((yield choose("a", "b")))
            if len(seen) > 12:
                break
        return seen

    return model


@pytest.mark.parametrize("name", WORD_BY_WORD)
def test_an_iterator_in_a_local_goes_on_from_its_own_place(name):
    assert_law(in_a_local(WORD_BY_WORD[name]), orders=3)


@pytest.mark.parametrize("name", WORD_BY_WORD)
def test_an_iterator_of_a_loop_goes_on_from_its_own_place(name):
    assert_law(in_a_loop(WORD_BY_WORD[name]), orders=3)


@pytest.mark.parametrize("name", REFUSED)
def test_an_iterator_that_cannot_be_copied_is_refused_by_name_and_replayed(name):
    make = REFUSED[name]

    def model():
        seen = []
        it = make()
        for x in it:
            seen.append(x)
            if len(seen) < 4:
                seen.append((yield choose("a", "b")))
        return seen

    assert_refused(model, because=type(make()).__name__.strip("_"), orders=2)


def test_a_list_that_grows_while_it_is_iterated():
    def model():
        todo = [3]
        seen = []
        for x in todo:
            seen.append(x)
            if len(seen) < 5 and (yield choose(False, True)):
                todo.append(x + 1)
        return seen, todo

    assert_law(model)


def test_a_list_that_shrinks_while_it_is_iterated():
    def model():
        todo = [0, 1, 2, 3, 4]
        seen = []
        for x in todo:
            seen.append(x)
            if len(seen) < 4 and (yield choose(False, True)):
                todo.pop()
        return seen, todo

    assert_law(model)


def test_a_dict_whose_values_change_while_it_is_iterated():
    def model():
        d = {"a": [0], "b": [1], "c": [2]}
        for key, value in d.items():
            value.append((yield choose(0, 1)))
            d[key] = [*value, key]
        return d

    assert_law(model)


def test_a_dict_with_deleted_entries_is_iterated_right():
    def model():
        d = {i: i for i in range(8)}
        for i in (0, 2, 3, 5):
            del d[i]
        seen = []
        for key in d:
            seen.append(key)
            seen.append((yield choose("a", "b")))
        return seen

    assert_law(model, strategies=("auto", "replay"))


@pytest.mark.parametrize("make", [dict, collections.Counter, collections.OrderedDict])
def test_a_mapping_with_one_deleted_entry_is_iterated_right(make):
    def model():
        d = make({i: i for i in range(20)})
        del d[0], d[1]
        seen = []
        for key in d:
            seen.append(key)
            if len(seen) < 6:
                seen.append((yield choose("a", "b")))
        d["new"] = 1
        return seen, list(d)

    assert_law(model, strategies=("auto", "replay"))


def test_a_change_of_size_during_iteration_is_still_noticed():
    def model():
        d = {0: 0, 1: 1, 2: 2}
        for key in d:
            if (yield choose(False, True)):
                d[key + 10] = 0

    assert_law(model)


def test_a_set_with_deleted_members_is_iterated_right():
    def model():
        s = {i * 8 for i in range(12)}
        for i in (1, 4, 5, 9):
            s.discard(i * 8)
        seen = []
        for x in s:
            seen.append(x)
            if len(seen) < 6:
                seen.append((yield choose("a", "b")))
        s.add(8)
        return seen, list(s)

    assert_law(model)


def test_nested_loops_each_keep_their_place():
    def model():
        seen = []
        for i, (x, y) in enumerate(zip([1, 2], map(str, range(5)))):
            for z in itertools.chain("ab", [i]):
                if len(seen) < 5:
                    seen.append((x, y, z, (yield choose(0, 1))))
        return seen

    assert_law(model)


def test_two_loops_over_one_iterator():
    def model():
        it = iter(range(6))
        seen = []
        for x in it:
            seen.append(x)
            for y in it:
                seen.append((y, (yield choose(0, 1))))
                break
        return seen

    assert_law(model)


def test_an_iterator_held_by_two_consumers_stays_one():
    def model():
        it = iter(range(100))
        pairs = zip(it, it)
        doubled = map(add, it, it)
        seen = [next(pairs)]
        seen.append((yield choose(0, 1)))
        seen.append(next(doubled))
        seen.append((yield choose(0, 1)))
        seen.append(next(pairs))
        return seen, next(it)

    assert_law(model)


def test_an_iterator_over_an_owned_list_sees_its_own_list():
    def model():
        xs = [1, 2]
        it = iter(xs)
        back = reversed(xs)
        cyc = itertools.cycle(xs)
        next(it), next(cyc)
        xs.append((yield choose(3, 4)))
        xs.append((yield choose(5, 6)))
        return list(it), list(back), [next(cyc) for _ in range(5)]

    assert_law(model)


def test_a_map_over_a_closure_of_the_model():
    def model():
        total = 0

        def count(x):
            nonlocal total
            total += x
            return total

        it = map(count, itertools.count(1))
        next(it)
        a = yield choose(1, 2)
        for _ in range(a):
            next(it)
        b = yield choose(1, 2)
        return next(it), total, b

    assert_law(model)


def test_exhausted_iterators_stay_exhausted():
    def model():
        its = [
            iter([]),
            iter(()),
            iter({}),
            iter(""),
            iter(range(0)),
            zip(),
            map(str, []),
            iter(set()),
        ]
        for it in its:
            list(it)
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, [list(it) for it in its]

    assert_law(model)


def test_an_iterable_by_getitem_is_iterated_from_its_own_place():
    def model():
        seen = []
        for x in LETTERS:
            seen.append(x)
            seen.append((yield choose(0, 1)))
        return seen

    assert_law(model)


class Letters:
    def __getitem__(self, i):
        return "abc"[i]


LETTERS = Letters()


def test_a_reduction_over_a_partially_consumed_iterator():
    def model():
        it = iter([1, 2, 3, 4])
        start = next(it)
        a = yield choose(0, 10)
        b = yield choose(0, 100)
        return functools.reduce(add, it, start + a + b)

    assert_law(model)


def test_a_user_iterator_is_never_shared():
    class Countdown:
        def __init__(self, n):
            self.n = n

        def __iter__(self):
            return self

        def __next__(self):
            if self.n == 0:
                raise StopIteration
            self.n -= 1
            return self.n

    def model():
        return (yield from body())

    def body():
        seen = []
        for x in Countdown(4):
            seen.append((x, (yield choose(0, 1))))
        return seen

    assert_law(model)


@pytest.mark.parametrize(
    "make",
    [lambda: iter([1, 2, 3]), lambda: (x for x in (1, 2, 3)), lambda: map(str, [1, 2, 3])],
    ids=["list iterator", "generator", "map"],
)
def test_an_iterator_given_as_an_argument_is_refused_by_name(make, capture):
    import contpoutine as cp
    from contpoutine.errors import CaptureError
    from tests.capture.law import Keeping

    def model(it):
        a = next(it)
        b = yield choose(0, 1)
        return a, b, next(it)

    asked = cp.run(cp.handle(Keeping(), model), make())
    with pytest.raises(CaptureError, match="iterator|handed to the model from outside"):
        for _ in range(2):
            cp.run(asked.k(1))


def test_a_file_given_as_an_argument_is_refused_by_name(capture, tmp_path):
    import contpoutine as cp
    from contpoutine.errors import CaptureError
    from tests.capture.law import Keeping

    path = tmp_path / "lines"
    path.write_text("a\nb\nc\n")

    def model(file):
        a = next(file)
        b = yield choose(0, 1)
        return a, b, next(file)

    with path.open() as file:
        asked = cp.run(cp.handle(Keeping(), model), file)
        with pytest.raises(CaptureError):
            for _ in range(2):
                cp.run(asked.k(1))


def test_two_halves_of_a_tee_read_one_source():
    def model():
        source = iter([0, 1, 2, 3, 4, 5, 6, 7])
        a, b = itertools.tee(source)
        seen = [next(a), next(a), next(b)]
        for _ in range((yield choose(1, 3))):
            seen.append(next(a))
        yield choose(0, 1)
        seen.append(next(b))
        c = a.__copy__()
        return seen, next(source, None), list(b), list(a), list(c)

    assert_law(model)


def test_a_tee_whose_halves_lie_far_apart():
    def model():
        a, b = itertools.tee(map(add, range(300), [1] * 300))
        first = [next(a) for _ in range(130)]
        x = yield choose(0, 5)
        second = [next(b) for _ in range(60 + x)]
        y = yield choose(0, 1)
        return sum(first), sum(second), y, sum(a), sum(b)

    assert_law(model)


def test_groupby_and_the_group_that_it_gave_last():
    def model():
        seen = []
        groups = itertools.groupby([1, 1, 1, 2, 2, 3, 3, 3, 4], key=float)
        for key, group in groups:
            seen.append((key, next(group)))
            if key < 4:
                seen.append((yield choose("all", "one", "none")))
            if seen[-1] == "all":
                seen.extend(group)
            elif seen[-1] == "one":
                seen.append(next(group, "no more"))
        return seen

    assert_law(model, orders=2)


def test_a_group_that_was_left_behind_stays_empty():
    def model():
        groups = itertools.groupby("aabbbc")
        _, first = next(groups)
        x = yield choose(0, 1)
        key, second = next(groups)
        y = yield choose(0, 1)
        return x, y, list(first), key, list(second), [k for k, _ in groups]

    assert_law(model)


def test_products_of_owned_lists_give_the_branchs_own_lists():
    def model():
        xs, ys = [0], [1]
        pairs = itertools.product([xs, ys], repeat=2)
        seen = [next(pairs), next(pairs)]
        xs.append((yield choose(2, 3)))
        seen += [next(pairs)]
        ys.append((yield choose(4, 5)))
        seen += pairs
        return seen, all(any(x is z for z in (xs, ys)) for pair in seen for x in pair)

    assert_law(model)


def test_an_exhausted_product_stays_exhausted():
    def model():
        done = [itertools.product("a"), itertools.permutations("a"), itertools.combinations("a", 1)]
        never = [itertools.product([], "a"), itertools.combinations("a", 3)]
        seen = [list(it) for it in done]
        x = yield choose(0, 1)
        y = yield choose(0, 1)
        return x, y, seen, [list(it) for it in done + never]

    assert_law(model)
