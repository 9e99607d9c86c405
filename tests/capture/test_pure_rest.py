"""Which frames have nothing left to do but arithmetic and a return."""

import dis

import pytest

from contpoutine.capture.pure_rest import reads_before_return


def names_read(function, which=-1):
    """The names of the locals read behind one of the function's yields, or None."""
    code = function.__code__
    offsets = [i.offset for i in dis.get_instructions(code) if i.opname == "YIELD_VALUE"]
    reads = reads_before_return(code, offsets[which])
    return None if reads is None else [code.co_varnames[i] for i in reads]


def returns_the_answer():
    return (yield)


def adds_one():
    return 1 + (yield)


def combines(a, b):
    left = yield a
    right = yield b
    return left * 2 - right + a


def compares(limit):
    answer = yield
    return not answer < limit


def overwrites(n):
    n = yield n
    return n + n


@pytest.mark.parametrize(
    ("function", "reads"),
    [
        (returns_the_answer, []),
        (adds_one, []),
        (combines, ["left", "a"]),
        (compares, ["limit"]),
        (overwrites, []),
    ],
)
def test_arithmetic_and_a_return_are_pure_and_name_what_they_read(function, reads):
    assert sorted(names_read(function)) == sorted(reads)


def calls():
    return abs((yield))


def reads_an_attribute(x):
    return (yield) + x.value


def reads_a_global():
    return (yield) + LIMIT


def branches():
    answer = yield
    return 1 if answer else 2


def builds_a_list():
    return [(yield)]


def yields_again():
    answer = yield
    yield answer
    return answer


def closes_over(n):
    def inner():
        return n

    answer = yield inner
    return answer + n


def stores_outside(x):
    x.value = yield
    return 1


def cleans_up():
    try:
        answer = yield
    finally:
        print("done")
    return answer


def loops():
    for _ in range(3):
        answer = yield
    return answer


def has_a_tuple_for_a_constant():
    return (yield) + (1, 2)


LIMIT = 3


@pytest.mark.parametrize(
    "function",
    [
        calls,
        reads_an_attribute,
        reads_a_global,
        branches,
        builds_a_list,
        closes_over,
        stores_outside,
        cleans_up,
        loops,
        has_a_tuple_for_a_constant,
    ],
)
def test_anything_else_is_not_pure(function):
    assert names_read(function) is None


def test_a_second_yield_is_not_pure_and_the_last_one_is():
    assert names_read(yields_again, 0) is None
    assert names_read(yields_again, 1) == ["answer"]
