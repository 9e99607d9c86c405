"""State that a fork or a state key could fail to see: cloning, merging and replay give one answer."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import types

import pytest

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.capture.instances import is_held_apart
from contpoutine.core.native import native
from contpoutine.infer.nested import is_frozen

pytestmark = pytest.mark.skipif(native is None, reason="compares with the C extension")


def flip(name):
    return cp.sample(name, dist.Flip(0.5))


def answer(b):
    return int((yield flip("b"))) + b


def divides(y):
    try:
        return 1 // (yield answer(0))
    except ZeroDivisionError:
        return y


def a_handler_returns_a_local_that_the_arithmetic_does_not_read():
    y = int((yield flip("y")))
    return y, (yield divides(y))


def a_set_pops_from_where_it_popped_last():
    members = set(range(4))
    if (yield flip("x")):
        members.pop()
        members.pop()
    else:
        members.discard(0)
        members.discard(1)
    for i in range(12):
        members.add(i)
    yield flip("q")
    return members.pop()


@dataclasses.dataclass(frozen=True, eq=False)
class ByIdentity:
    n: int


def a_frozen_dataclass_can_compare_by_identity():
    a = ByIdentity(1)
    b = a if (yield flip("x")) else ByIdentity(1)
    yield flip("q")
    return a == b


@dataclasses.dataclass(frozen=True)
class Frozen:
    n: int


class Thawed(Frozen):
    pass


def a_class_derived_from_a_frozen_one_has_attributes_that_change():
    a = Thawed(1)
    a.total = 0
    b = a if (yield flip("x")) else Thawed(1)
    b.total = 0
    for name in "yz":
        a.total += int((yield flip(name)))
    return a.total, b.total


def a_time_can_be_folded():
    time = datetime.datetime(2020, 1, 1, fold=int((yield flip("x"))))
    yield flip("q")
    return time.fold


class Key:
    def __init__(self, n):
        self.n = n

    def __hash__(self):
        return self.n

    def __eq__(self, other):
        return self.n == other.n


def a_dict_finds_a_key_by_the_hash_it_had():
    key = Key(1)
    if (yield flip("x")):
        table = {key: 0}
        key.n = 2
    else:
        key.n = 2
        table = {key: 0}
    yield flip("q")
    return key in table


class AttrDict(dict):
    def __init__(self, **items):
        super().__init__(**items)
        self.__dict__ = self


class Plain:
    def __init__(self, n=0):
        self.n = n


def an_instance_is_its_own_dict():
    d = AttrDict(n=0)
    d.n += int((yield flip("x")))
    d["n"] += int((yield flip("y")))
    yield flip("z")
    return d.n, d["n"]


def counted_in(o):
    attributes = vars(o)
    o.n += int((yield flip("x")))
    attributes["n"] += int((yield flip("y")))
    yield flip("z")
    return o.n


def the_dict_of_an_instance_is_a_local():
    return (yield counted_in(Plain()))


def the_dict_of_a_namespace_is_a_local():
    return (yield counted_in(types.SimpleNamespace(n=0)))


def the_dict_of_an_instance_may_be_a_local():
    o = Plain(1)
    attributes = vars(o) if (yield flip("x")) else {"n": 1}
    yield flip("q")
    o.n = 9
    return attributes["n"]


def two_instances_may_have_one_dict():
    a, b = Plain(1), Plain(1)
    b.__dict__ = vars(a) if (yield flip("x")) else {"n": 1}
    yield flip("q")
    a.n = 9
    return b.n


def the_empty_dict_of_a_function_is_its_own():
    def base():
        pass

    @functools.wraps(base)
    def f():
        pass

    attributes = f.__dict__
    f.x = int((yield flip("x")))
    attributes["y"] = int((yield flip("y")))
    yield flip("q")
    return f.x, f.y


def annotations_and_doc_of_a_function_change():
    def f(x: int):
        pass

    f.__annotations__["y"] = int((yield flip("y")))
    if (yield flip("z")):
        f.__annotations__["z"] = 1
    f.__doc__ = str((yield flip("doc")))
    yield flip("q")
    return tuple(f.__annotations__.items()), f.__doc__


def a_detached_view_has_more_behind_it():
    import torch

    whole = torch.zeros(2)
    part = whole[0:1].detach()
    if (yield flip("x")):
        whole[1] = 7
    del whole
    yield flip("q")
    return float(torch.as_strided(part, (2,), (1,), 0)[1])


MODELS = [
    a_handler_returns_a_local_that_the_arithmetic_does_not_read,
    a_set_pops_from_where_it_popped_last,
    a_frozen_dataclass_can_compare_by_identity,
    a_class_derived_from_a_frozen_one_has_attributes_that_change,
    a_time_can_be_folded,
    a_dict_finds_a_key_by_the_hash_it_had,
    an_instance_is_its_own_dict,
    the_dict_of_an_instance_is_a_local,
    the_dict_of_a_namespace_is_a_local,
    the_dict_of_an_instance_may_be_a_local,
    two_instances_may_have_one_dict,
    the_empty_dict_of_a_function_is_its_own,
    annotations_and_doc_of_a_function_change,
    a_detached_view_has_more_behind_it,
]


@pytest.mark.parametrize("options", [{}, {"merge": True}], ids=["clone", "merge"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_way_to_fork_gives_what_replay_gives(model, options):
    expected = dict(cp.infer.enumerate(model, capture="replay")().marginal().items())
    found = dict(cp.infer.enumerate(model, **options)().marginal().items())
    assert found == pytest.approx(expected)


def test_only_a_dict_with_an_alias_is_held_apart():
    o = Plain()
    attributes = o.__dict__
    assert not is_held_apart(attributes)
    other = attributes
    assert is_held_apart(attributes)
    assert other is attributes


def test_what_only_derives_from_a_frozen_class_is_not_frozen():
    assert is_frozen(Frozen(1))
    assert not is_frozen(Thawed(1))
    assert not is_frozen(ByIdentity(1))
    hiding = Frozen(1)
    object.__setattr__(hiding, "cache", [])
    assert not is_frozen(hiding)
