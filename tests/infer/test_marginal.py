"""Marginal: a mapping by content, its laws, and how it looks."""

from __future__ import annotations

import math
import pickle
import random
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contpoutine.errors import MissingDependencyError
from contpoutine.infer.marginal import Marginal

weights = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8)


def normalised(ws, total=1.0):
    return [(i, total * w / math.fsum(ws)) for i, w in enumerate(ws)]


@given(weights, st.floats(0.1, 1.0))
def test_it_is_a_mapping_whose_probabilities_sum_to_the_presence(ws, presence) -> None:
    pairs = normalised(ws, presence)
    m = Marginal(pairs, name="x", presence=presence)
    assert dict(m) == dict(pairs) and len(m) == len(pairs)
    assert math.fsum(m.values()) == pytest.approx(presence)
    assert list(m.values()) == pytest.approx(sorted(m.values(), reverse=True), rel=1e-11)
    assert m.mode == next(iter(m)) and m[m.mode] == pytest.approx(max(m.values()), rel=1e-11)
    for value, p in m.items():
        assert m[value] == p and value in m and m.log_prob(value) == pytest.approx(math.log(p))
        assert m.bounds(value) == (p, p)


@given(weights, st.floats(0.1, 1.0))
def test_mean_and_variance_are_those_given_that_the_site_occurs(ws, presence) -> None:
    m = Marginal(normalised(ws, presence), name="x", presence=presence)
    total = math.fsum(ws)
    mean = sum(i * w for i, w in enumerate(ws)) / total
    assert m.mean == pytest.approx(mean)
    variance = sum((i - mean) ** 2 * w for i, w in enumerate(ws)) / total
    assert m.variance == pytest.approx(variance)
    empirical = m.to_torch()
    assert empirical.mean.item() == pytest.approx(mean, abs=1e-9)
    assert empirical.variance.item() == pytest.approx(variance, abs=1e-9)


def test_a_value_that_was_never_seen_has_probability_zero() -> None:
    m = Marginal([("a", 1.0)])
    assert m["b"] == 0.0 and "b" not in m and m.get("b", 7) == 7 and m.get("a", 7) == 1.0
    assert m.log_prob("b") == -math.inf and m[["unhashable"]] == 0.0


def test_tensors_are_keyed_by_content() -> None:
    m = Marginal([(torch.tensor([0.0, 1.0]), 0.25), (torch.tensor([1.0, 0.0]), 0.75)])
    assert m[torch.tensor([0.0, 1.0])] == 0.25 and torch.tensor([1.0, 0.0]) in m
    assert m[torch.tensor([0, 1])] == 0.0
    assert m.mean.tolist() == [0.75, 0.25]
    assert m.variance.tolist() == [0.1875, 0.1875]
    assert m == Marginal([(torch.tensor([1.0, 0.0]), 0.75), (torch.tensor([0.0, 1.0]), 0.25)])


def test_a_zero_dimensional_tensor_is_found_by_its_number_and_a_number_by_such_a_tensor() -> None:
    tensors = Marginal([(torch.tensor(0.0), 0.25), (torch.tensor(1.0), 0.75)])
    assert tensors[1] == tensors[1.0] == tensors[True] == tensors[torch.tensor(1)] == 0.75
    numbers = Marginal([(False, 0.25), (True, 0.75)])
    assert numbers[torch.tensor(1.0)] == numbers[np.float32(1)] == 0.75
    assert tensors.mean == numbers.mean == 0.75 and type(tensors.mean) is float


def test_numbers_are_told_apart_by_type_and_found_by_value() -> None:
    m = Marginal([(True, 0.5), (1, 0.25), ("1", 0.25)])
    assert len(m) == 3 and m[True] == 0.5 and m[1] == 0.25
    assert m[1.0] == 0.5 and 1.0 in m and 2 not in m  # the first entry that equals it
    assert [type(value) for value in m] == [bool, int, str]
    coin = Marginal([(False, 0.25), (True, 0.75)])
    assert coin[1] == coin[1.0] == coin.get(1) == 0.75
    assert coin == {0: 0.25, 1: 0.75} == coin and coin == Marginal([(0, 0.25), (1, 0.75)])
    assert coin != {0: 0.25, 1: 0.75, 2: 0.0} and coin != {0: 0.75, 1: 0.25} and coin != {1: 0.75}
    nan = Marginal([(math.nan, 0.5), ("nan", 0.5)])
    assert len(nan) == 2 and nan[float("nan")] == 0.5


def test_arrays_average_as_arrays() -> None:
    m = Marginal([(np.array([0, 2]), 0.5), (np.array([2, 0]), 0.5)])
    assert m.mean.tolist() == [1.0, 1.0] and m.variance.tolist() == [1.0, 1.0]


def test_ties_are_in_the_order_in_which_they_were_found() -> None:
    noise = 1e-17
    m = Marginal([("b", 0.25), ("a", 0.25 + noise), ("c", 0.5)])
    assert list(m) == ["c", "b", "a"]


def test_samples_follow_the_probabilities() -> None:
    random.seed(1)
    m = Marginal([("a", 0.1), ("b", 0.4)], presence=0.5)
    draws = m.sample(2000)
    assert len(draws) == 2000 and m.sample() in ("a", "b")
    assert draws.count("b") / 2000 == pytest.approx(0.8, abs=0.05)


def test_to_torch_is_an_empirical_distribution() -> None:
    d = Marginal([(torch.tensor([0.0, 1.0]), 0.25), (torch.tensor([1.0, 0.0]), 0.75)]).to_torch()
    assert d.log_prob(torch.tensor([1.0, 0.0])).exp().item() == pytest.approx(0.75)
    assert d.log_prob(torch.tensor([1.0, 1.0])).item() == -math.inf
    assert d.sample((5,)).shape == (5, 2)
    with pytest.raises(TypeError, match="cannot become tensors"):
        Marginal([("a", 1.0)]).to_torch()
    with pytest.raises(TypeError, match="one shape"):
        Marginal([(torch.zeros(2), 0.5), (torch.zeros(3), 0.5)]).to_torch()


def test_what_is_no_number_has_no_mean() -> None:
    with pytest.raises(TypeError, match=r"has no mean: the value 'a' is no number.*expectation"):
        _ = Marginal([("a", 1.0)]).mean


def test_an_incomplete_marginal_has_bounds_that_cover_all_that_the_rest_may_do() -> None:
    m = Marginal([("a", 0.75), ("b", 0.25)], complete=False, explored_mass=0.9, known=0.8)
    assert m.bounds("a") == pytest.approx((0.6, 0.8))
    assert m.bounds("b") == pytest.approx((0.2, 0.4))
    assert m.bounds("new") == pytest.approx((0.0, 0.2))
    unknown = Marginal([("a", 1.0)], complete=False, explored_mass=0.9, known=0.0)
    assert unknown.bounds("a") == (0.0, 1.0)


def test_the_repr_says_what_the_numbers_are_about() -> None:
    partial = Marginal(
        [("a", 0.5), ("b", 0.25)],
        name="x",
        presence=0.75,
        complete=False,
        explored_mass=0.9,
        known=0.8,
    )
    assert repr(partial).splitlines() == [
        "Marginal of site 'x'",
        "  over the explored executions only (90.0% of the prior mass), bounds in brackets",
        "  the bounds hold if no likelihood above 1 is left",
        "  the site occurs with probability 0.7500",
        "  'a'  0.5000 [0.4000, 0.6000]  ████████████████████████",
        "  'b'  0.2500 [0.2000, 0.4000]  ████████████",
    ]
    unbounded = Marginal([("a", 1.0)], complete=False, explored_mass=0.9, known=0.0)
    assert "no bounds" in repr(unbounded) and "[" not in repr(unbounded)
    assert "bounds hold" not in repr(unbounded)
    many = Marginal([(i, 0.05) for i in range(20)], name="x", occurrence=-1)
    assert repr(many).splitlines()[0] == "Marginal of site 'x', occurrence -1"
    assert repr(Marginal([("a", 1.0)])).splitlines()[0] == "Marginal of the return value"
    assert repr(many).splitlines()[-1] == "  and 10 more values, 0.5000 together"


def test_the_html_repr_is_escaped() -> None:
    text = Marginal([("<b>&", 1.0)], name="<x>")._repr_html_()
    assert "<b>&" not in text and "&lt;b&gt;&amp;" in text and "&lt;x&gt;" in text
    assert text.count("<tr>") == text.count("</tr>") == 1


def test_it_can_be_pickled_and_not_hashed() -> None:
    m = Marginal([(torch.tensor(1.0), 0.5), ("a", 0.5)], name="x")
    again = pickle.loads(pickle.dumps(m))
    assert again == m and repr(again) == repr(m)
    with pytest.raises(TypeError):
        hash(m)


def test_the_plot_shows_numbers_in_their_order_and_bounds_as_whiskers() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    m = Marginal([(2, 0.5), (1, 0.3), (3, 0.2)], complete=False, explored_mass=0.9, known=0.8)
    ax = m.plot()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "3"]
    assert [bar.get_height() for bar in ax.patches] == [0.3, 0.5, 0.2]
    assert "explored executions only" in ax.get_xlabel() and ax.get_ylim()[0] == 0.0
    assert "bounds hold if no likelihood" in ax.get_xlabel().replace("\n", " ")
    assert ax.get_title() == "the return value"
    assert Marginal([("a", 1.0)], name="x").plot(ax) is ax and ax.get_title() == "site 'x'"
    pyplot.close("all")


def test_the_plot_without_matplotlib_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match="pip install matplotlib"):
        Marginal([("a", 1.0)]).plot()
