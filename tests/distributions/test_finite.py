"""Finite distributions: what they hold, what they refuse, and that nothing can change them."""

from __future__ import annotations

import copy
import math
import pickle
import random
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contpoutine.distributions import Delta, Finite, Flip, RandInt, UniformDraw, Unit
from contpoutine.errors import (
    BadWeightError,
    DistributionError,
    EmptySupportError,
    OutsideSupportError,
)

EXAMPLES = [
    Flip(0.3),
    Flip(0),
    Flip(1.0),
    Finite({"a": 0.5, "b": 0.5, "never": 0.0}),
    Finite([([1], 0.25), ([2], 0.75)]),
    UniformDraw("aab"),
    RandInt(1, 7),
    Delta((1, "x")),
    Delta([1]),
    Unit(-1.5),
]

weights = st.lists(
    st.floats(0.0, 1e300, allow_subnormal=False) | st.integers(0, 10), min_size=1, max_size=12
).filter(lambda ws: any(w > 0 for w in ws))


def test_importing_the_package_does_not_import_torch() -> None:
    code = (
        "import sys, contpoutine.distributions as d\n"
        "from contpoutine.distributions import choices\n"
        "choices.log_weight(d.Flip(0.5), True, 'x'); d.Finite({1: 1.0}); d.Unit(0.0)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("d", EXAMPLES, ids=repr)
def test_the_three_columns_are_plain_and_in_step(d) -> None:
    assert type(d.values) is tuple and type(d.log_probs) is tuple
    assert len(d.values) == len(d.log_probs) == len(d.enumerate_support())
    assert all(type(x) is float and x > -math.inf for x in d.log_probs)
    if d.table is not None:
        assert type(d.table) is dict
        assert [d.table[v] for v in d.values] == list(d.log_probs)


@pytest.mark.parametrize("d", [d for d in EXAMPLES if not isinstance(d, Unit)], ids=repr)
def test_the_probabilities_sum_to_one(d) -> None:
    assert math.fsum(d.probs) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("d", EXAMPLES, ids=repr)
def test_a_pickle_has_the_very_same_weights(d) -> None:
    for other in (pickle.loads(pickle.dumps(d)), copy.deepcopy(d)):
        assert type(other) is type(d)
        assert (other.values, other.log_probs, other.table) == (d.values, d.log_probs, d.table)
        assert other.impossible == d.impossible and repr(other) == repr(d)
    assert copy.copy(d) is d


@pytest.mark.parametrize("d", EXAMPLES, ids=repr)
def test_nothing_can_be_changed(d) -> None:
    for name in ("values", "log_probs", "table", "new"):
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(d, name, ())
    with pytest.raises(AttributeError, match="cannot be changed"):
        del d.values


@pytest.mark.parametrize("d", EXAMPLES, ids=repr)
def test_every_draw_is_a_value_with_its_weight(d) -> None:
    random.seed(0)
    for _ in range(20):
        assert d.log_weight(d.sample()) > -math.inf
        assert d() in list(d.values)


@given(weights)
def test_weights_are_normalised_in_proportion(ws) -> None:
    d = Finite.from_weights(enumerate(ws))
    assert math.fsum(d.probs) == pytest.approx(1.0, abs=1e-12)
    assert list(d.values) == [i for i, w in enumerate(ws) if w > 0]
    top = max(ws)
    log_total = math.log(top) + math.log(math.fsum(w / top for w in ws))
    for i, w in enumerate(ws):
        expected = math.log(w) - log_total if w > 0 else -math.inf
        assert d.log_weight(i) == pytest.approx(expected, abs=1e-9)


@given(st.floats(0.0, 1.0))
def test_a_flip_has_the_two_weights_of_its_probability(p) -> None:
    d = Flip(p)
    assert math.exp(d.log_weight(True)) == pytest.approx(p, abs=1e-15)
    assert math.exp(d.log_weight(False)) == pytest.approx(1 - p, abs=1e-15)
    assert d.p == p and set(d.values) <= {True, False}


@given(st.integers(-50, 50), st.integers(1, 30))
def test_rand_int_follows_the_convention_of_range(low, width) -> None:
    d = RandInt(low, low + width)
    assert d.values == tuple(range(low, low + width))
    assert d.log_weight(low) == pytest.approx(-math.log(width))
    with pytest.raises(OutsideSupportError):
        d.log_weight(low + width)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12))
def test_a_uniform_draw_counts_duplicates(values) -> None:
    d = UniformDraw(values)
    for value in set(values):
        assert math.exp(d.log_weight(value)) == pytest.approx(values.count(value) / len(values))


def test_flips_and_small_ranges_are_one_object_each() -> None:
    assert Flip(0.3) is Flip(0.3) and Flip(1) is Flip(1.0)
    assert RandInt(1, 7) is RandInt(1, 7) and RandInt(6) is RandInt(0, 6)


def test_the_table_of_flips_is_bounded() -> None:
    from contpoutine.distributions import finite

    for i in range(finite._INTERNED_MAX + 10):
        Flip(i / (2 * finite._INTERNED_MAX))
    assert len(finite._flips) <= finite._INTERNED_MAX


def test_probabilities_of_any_numeric_type() -> None:
    assert Flip(Fraction(3, 10)).p == 0.3
    thirds = Finite({i: Fraction(1, 3) for i in range(3)})
    assert math.fsum(thirds.probs) == pytest.approx(1.0)


def test_a_declared_value_of_probability_zero_is_not_enumerated_and_weighs_nothing() -> None:
    d = Finite({"a": 1.0, "b": 0.0})
    assert d.values == ("a",) and d.log_weight("b") == -math.inf == d.table["b"]
    assert Flip(0.0).values == (False,) and Flip(0.0).log_weight(True) == -math.inf
    lists = Finite([([1], 1.0), ([2], 0.0)])
    assert lists.table is None and lists.log_weight([2]) == -math.inf


def test_unhashable_values_are_found_by_content_and_equal_ones_add_up() -> None:
    d = Finite([([1, 2], 0.25), ({"k": [1]}, 0.5), ([1, 2], 0.25)])
    assert d.table is None and len(d.values) == 2
    assert d.log_weight([1, 2]) == math.log(0.5)
    assert d.log_weight({"k": [1]}) == math.log(0.5)
    with pytest.raises(OutsideSupportError, match=r"\[3\] is no value"):
        d.log_weight([3])


def test_a_fork_shares_what_cannot_change_and_copies_what_can() -> None:
    def copy_lists(value):
        return list(value) if isinstance(value, list) else value

    plain, owned = Finite({"a": 0.5, "b": 0.5}), Finite([([1], 0.5), ([2], 0.5)])
    assert plain.__fork__(copy_lists) is plain
    forked = owned.__fork__(copy_lists)
    assert forked.values == owned.values and forked.values[0] is not owned.values[0]
    assert forked.log_probs == owned.log_probs


def test_unit_weighs_its_factor() -> None:
    assert Unit(-1.5).log_weight(()) == -1.5
    assert Unit(2).log_weight(()) == 2.0
    assert Unit(-math.inf).log_weight(()) == -math.inf


def test_long_distributions_are_shown_in_short() -> None:
    assert repr(RandInt(1, 7)) == "RandInt(1, 7)"
    assert repr(Flip(0.25)) == "Flip(0.25)"
    assert repr(UniformDraw("ab")) == "UniformDraw({'a': 0.5, 'b': 0.5})"
    assert repr(UniformDraw(range(100))).endswith("4: 0.01, ... (100 values)})")


@pytest.mark.parametrize("p", [-0.1, 1.1, math.inf, -math.inf, 1.0000000000001])
def test_a_probability_outside_the_unit_interval_is_refused(p) -> None:
    with pytest.raises(DistributionError, match=r"outside \[0, 1\]") as caught:
        Flip(p)
    assert repr(p) in str(caught.value)


@pytest.mark.parametrize("p", ["0.3", b"1", None, [0.3], 1j, object()])
def test_what_is_no_number_is_refused(p) -> None:
    with pytest.raises(DistributionError, match="takes one number"):
        Flip(p)


def test_nan_is_refused_by_name() -> None:
    with pytest.raises(DistributionError, match="NaN"):
        Flip(math.nan)
    with pytest.raises(DistributionError, match="'a' the weight NaN"):
        Finite({"a": math.nan, "b": 0.5})
    with pytest.raises(BadWeightError, match="nan"):
        Unit(math.nan)
    with pytest.raises(BadWeightError, match="inf"):
        Unit(math.inf)


def test_probabilities_that_do_not_sum_to_one_point_to_from_weights() -> None:
    with pytest.raises(DistributionError, match=r"sum to 0\.9, .*Finite\.from_weights"):
        Finite({"a": 0.5, "b": 0.4})
    assert Finite(dict.fromkeys(range(10), 0.1)).log_weight(0) == pytest.approx(math.log(0.1))
    with pytest.raises(DistributionError, match=r"weight -0\.5"):
        Finite({"a": 1.5, "b": -0.5})


@pytest.mark.parametrize(
    "make", [lambda: Finite({}), lambda: Finite({"a": 0.0}), lambda: Finite([])]
)
def test_an_empty_support_is_refused(make) -> None:
    with pytest.raises(EmptySupportError, match="at least one value"):
        make()


def test_empty_draws_are_refused() -> None:
    with pytest.raises(EmptySupportError, match="no values"):
        UniformDraw([])
    with pytest.raises(EmptySupportError, match=r"low <= x < high"):
        RandInt(3, 3)
    with pytest.raises(EmptySupportError):
        Finite.from_weights({"a": 0})


def test_wrong_arguments_say_what_to_write() -> None:
    with pytest.raises(DistributionError, match="UniformDraw"):
        Finite([1, 2, 3])
    with pytest.raises(DistributionError, match=r"RandInt\(0, n\)"):
        UniformDraw(6)
    with pytest.raises(DistributionError, match="two integers"):
        RandInt(1.0, 7.0)


def test_an_observation_of_an_unknown_value_lists_the_values() -> None:
    with pytest.raises(OutsideSupportError, match=r"'c' is no value of .*'a', 'b'"):
        UniformDraw("ab").log_weight("c")
    with pytest.raises(OutsideSupportError):
        UniformDraw("ab").log_weight(["unhashable"])
