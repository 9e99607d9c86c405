"""Posterior: every question against brute force over random trees built by hand."""

from __future__ import annotations

import dataclasses
import math
import pickle
import random
import sys
from array import array
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contpoutine.errors import (
    AmbiguousSiteError,
    ContpoutineError,
    MissingDependencyError,
    UnknownSiteError,
    ZeroEvidenceError,
)
from contpoutine.infer.posterior import Posterior
from contpoutine.infer.tree import Tree

# A tree by hand is a leaf, (value, log-weight), or a site, (name, {value: subtree}).


def build(root) -> Tree:
    parents, visits, picks = [-1], [-1], [-1]
    names, values, nodes, log_weights, returned = [], [], [], [], []

    def visit(node, tree):
        if not isinstance(tree[1], dict):
            nodes.append(node)
            returned.append(tree[0])
            log_weights.append(tree[1])
            return
        name, branches = tree
        number = len(names)
        names.append(name)
        values.append(tuple(branches))
        for pick, subtree in enumerate(branches.values()):
            parents.append(node)
            visits.append(number)
            picks.append(pick)
            visit(len(parents) - 1, subtree)

    visit(0, root)
    return Tree(parents, visits, picks, names, values, nodes, log_weights, returned)


def posterior(root, **changes) -> Posterior:
    facts = {
        "complete": True,
        "explored_mass": 1.0,
        "frontier_log_priors": [],
        "frontier_log_weights": [],
        "likelihood_bounded": True,
        "branches": 3,
    }
    return Posterior(build(root), **{**facts, **changes})


def paths(root, choices=()):
    """(choices, log-weight, value) of each leaf."""
    if not isinstance(root[1], dict):
        yield choices, root[1], root[0]
        return
    for value, subtree in root[1].items():
        yield from paths(subtree, (*choices, (root[0], value)))


def distribution(weighted):
    """{(type, value): probability}"""
    total = math.fsum(w for _, w in weighted)
    result = defaultdict(float)
    for value, w in weighted:
        result[type(value), value] += w / total
    return {value: p for value, p in result.items() if p > 0}


def typed(marginal):
    return {(type(value), value): p for value, p in marginal.items()}


leaves = st.tuples(
    st.sampled_from(["a", "b", 1, True, None]),
    st.floats(-30, 5) | st.just(-math.inf),
)
trees = st.recursive(
    leaves,
    lambda inner: st.tuples(
        st.sampled_from(["x", "y", "z"]),
        st.dictionaries(st.sampled_from([0, 1, "u"]), inner, min_size=1, max_size=3),
    ),
    max_leaves=20,
)

COINS = ("a", {
    True: ("b", {True: ("both", math.log(0.2)), False: ("one", math.log(0.3))}),
    False: ("none", math.log(0.5)),
})  # fmt: skip


@given(trees)
def test_evidence_and_return_values_agree_with_brute_force(root) -> None:
    p = posterior(root)
    runs = [(value, math.exp(w)) for _, w, value in paths(root)]
    total = math.fsum(w for _, w in runs)
    if total == 0.0:
        assert p.log_evidence == -math.inf
        for ask in (p.marginal, p.sample, p.most_probable, lambda: p.expectation(bool)):
            with pytest.raises(ZeroEvidenceError, match="every execution"):
                ask()
        return
    assert p.log_evidence == pytest.approx(math.log(total), abs=1e-12)
    assert p.log_evidence_bounds == (p.log_evidence, p.log_evidence)
    assert typed(p.marginal()) == pytest.approx(distribution(runs))
    assert all(p.marginal()[value] == pr for value, pr in p.marginal().items())
    assert math.fsum(p.marginal().values()) == pytest.approx(1.0)
    expected = sum(pr * (value == "a") for (_, value), pr in distribution(runs).items())
    assert p.expectation(lambda value: value == "a") == pytest.approx(expected)


@given(trees, st.sampled_from(["x", "y"]), st.integers(-3, 3) | st.none())
def test_site_marginals_agree_with_brute_force(root, site, occurrence) -> None:
    p = posterior(root)
    runs = [(choices, math.exp(w)) for choices, w, _ in paths(root) if w > -math.inf]
    if not runs:
        return
    found = []
    most = 0
    for choices, w in runs:
        mine = [value for name, value in choices if name == site]
        most = max(most, len(mine))
        at = 0 if occurrence is None else occurrence
        if -len(mine) <= at < len(mine):
            found.append((mine[at], w))
    if most == 0 or (occurrence is not None and not found):
        with pytest.raises(UnknownSiteError, match=repr(site)):
            p.marginal(site, occurrence)
    elif occurrence is None and most > 1:
        with pytest.raises(AmbiguousSiteError, match="occurrence=0"):
            p.marginal(site)
    else:
        marginal = p.marginal(site, occurrence)
        total = math.fsum(w for _, w in runs)
        presence = math.fsum(w for _, w in found) / total
        expected = {v: pr * presence for v, pr in distribution(found).items()}
        assert typed(marginal) == pytest.approx(expected)
        assert marginal.presence == pytest.approx(presence)
        assert math.fsum(marginal.values()) == pytest.approx(marginal.presence)


@given(trees, st.integers(1, 4))
def test_the_most_probable_executions_come_first(root, n) -> None:
    p = posterior(root)
    if p.log_evidence == -math.inf:
        return
    best = p.most_probable(n)
    log_weights = sorted((w for _, w, _ in paths(root)), reverse=True)
    assert [e.log_weight for e in best] == log_weights[:n]
    for e in best:
        assert (e.choices, e.log_weight, e.value) in list(paths(root))
        expected = math.exp(e.log_weight - p.log_evidence)
        assert e.probability == pytest.approx(expected, abs=1e-12)


def cut(root, keep, log_prior=0.0):
    """`root` without the subtrees that `keep()` says no to: tree, frontier priors and weights.

    The branches of a site are equally likely here, and a leaf's likelihood is what its weight has
    beside that prior.
    """
    if not isinstance(root[1], dict):
        value, log_likelihood = root
        return (value, log_prior + log_likelihood), [], []
    branches, priors, weights = {}, [], []
    share = log_prior - math.log(len(root[1]))
    for value, subtree in root[1].items():
        if keep():
            branches[value], more_priors, more_weights = cut(subtree, keep, share)
            priors += more_priors
            weights += more_weights
        else:
            priors.append(share)
            weights.append(share)
    return (root[0], branches), priors, weights


bounded = st.recursive(
    st.tuples(st.sampled_from(["a", "b"]), st.floats(-5, 0) | st.just(-math.inf)),
    lambda inner: st.tuples(
        st.just("x"), st.dictionaries(st.sampled_from([0, 1, 2]), inner, min_size=1, max_size=3)
    ),
    max_leaves=20,
)


@given(bounded, st.randoms(use_true_random=False))
def test_the_bounds_of_a_partial_result_contain_the_truth(root, rng) -> None:
    whole, _, _ = cut(root, lambda: True)
    part, priors, weights = cut(root, lambda: rng.random() < 0.7)
    exact = posterior(whole)
    partial = posterior(
        part,
        complete=not priors,
        explored_mass=1.0 - math.fsum(map(math.exp, priors)),
        frontier_log_priors=priors,
        frontier_log_weights=weights,
    )
    assert partial.explored_mass + partial.frontier_mass == pytest.approx(1.0)
    low, high = partial.log_evidence_bounds
    assert low <= exact.log_evidence + 1e-9 and exact.log_evidence <= high + 1e-9
    if partial.log_evidence == -math.inf:
        with pytest.raises(ZeroEvidenceError):
            partial.bounds()
        return
    marginal = partial.marginal()
    for value in ("a", "b", "never"):
        low, high = marginal.bounds(value)
        truth = exact.marginal()[value]
        assert 0.0 <= low <= high <= 1.0
        assert low - 1e-9 <= truth <= high + 1e-9
    assert {value: (lo, hi) for value, lo, hi in partial.bounds()} == {
        value: marginal.bounds(value) for value in marginal
    }


def test_a_site_on_some_paths_says_with_what_probability_it_occurs() -> None:
    b = posterior(COINS).marginal("b")
    assert b.presence == pytest.approx(0.5)
    assert dict(b) == pytest.approx({True: 0.2, False: 0.3})
    assert "occurs with probability 0.5000" in repr(b)
    assert posterior(COINS).marginal("a").presence == 1.0


def test_weights_far_below_the_range_of_floats_are_no_trouble() -> None:
    p = posterior(("x", {0: ("a", -10_000.0), 1: ("b", -10_000.0 + math.log(3))}))
    assert p.log_evidence == pytest.approx(-10_000 + math.log(4))
    assert p.marginal()["b"] == pytest.approx(0.75)


def test_a_likelihood_above_one_leaves_no_bounds() -> None:
    p = posterior(
        COINS,
        complete=False,
        explored_mass=0.5,
        frontier_log_priors=[math.log(0.5)],
        frontier_log_weights=[math.log(0.5)],
        likelihood_bounded=False,
    )
    assert p.log_evidence_bounds[1] == math.inf
    assert p.marginal("a").bounds(True) == (0.0, 1.0)
    assert "no upper bound" in repr(p) and "no bounds" in repr(p.marginal())


def test_tensors_and_lists_are_one_value_where_they_hold_the_same() -> None:
    root = ("x", {
        0: (torch.tensor([1.0, 0.0]), math.log(0.25)),
        1: (torch.tensor([1.0, 0.0]), math.log(0.25)),
        2: ([1, 2], math.log(0.25)),
        3: ([1, 2], math.log(0.25)),
    })  # fmt: skip
    m = posterior(root).marginal()
    assert len(m) == 2 and m[torch.tensor([1.0, 0.0])] == m[[1, 2]] == 0.5


def test_floats_are_values_and_nan_is_one_of_them() -> None:
    nan_root = ("x", {0: (math.nan, 0.0), 1: (float("nan"), 0.0), 2: (0.5, 0.0)})
    m = posterior(nan_root).marginal()
    assert len(m) == 2 and m[math.nan] == pytest.approx(2 / 3)
    assert dict(posterior(("x", {0: (0.5, 0.0), 1: (0.5, 0.0)})).marginal()) == {0.5: 1.0}


def test_a_model_without_choices_has_one_execution() -> None:
    p = posterior(("done", math.log(0.25)), branches=0)
    assert p.log_evidence == math.log(0.25) and p.marginal()["done"] == 1.0
    assert "1 execution, 0 branches" in repr(p)
    with pytest.raises(UnknownSiteError, match="no choices at all"):
        p.marginal("x")


def test_expectations_of_tensors_are_tensors() -> None:
    root = ("x", {0: (1.0, math.log(0.25)), 1: (2.0, math.log(0.75))})
    mean = posterior(root).expectation(lambda v: torch.tensor([v, 2 * v]))
    assert mean.tolist() == pytest.approx([1.75, 3.5])
    assert posterior(root).expectation(lambda v: v > 1) == pytest.approx(0.75)


def test_samples_are_whole_executions() -> None:
    random.seed(0)
    p = posterior(COINS)
    draws = p.sample(1000)
    assert sum(e.value == "none" for e in draws) / 1000 == pytest.approx(0.5, abs=0.06)
    one = p.sample()
    assert one["a"] is (one.value != "none")


def test_an_execution_knows_its_sites() -> None:
    best = posterior(("x", {0: ("x", {1: ("a", 0.0)}), 1: ("y", {2: ("b", -1.0)})}))
    first, second = best.most_probable(2)
    assert second["y"] == 2 and second["x"] == 1
    with pytest.raises(AmbiguousSiteError, match=r"2 times.*\[0, 1\]"):
        first["x"]
    with pytest.raises(UnknownSiteError, match="'w' does not occur in this execution"):
        second["w"]
    assert repr(second) == "Execution('b', probability 0.2689: x=1, y=2)"


def test_unknown_sites_suggest_near_names() -> None:
    with pytest.raises(UnknownSiteError, match=r"Did you mean 'sprinkler'\?.*observed") as caught:
        posterior(("sprinkler", {0: ("a", 0.0)})).marginal("sprinklr")
    assert isinstance(caught.value, KeyError) and isinstance(caught.value, ContpoutineError)
    with pytest.raises(TypeError, match="occurrence is for a site"):
        posterior(COINS).marginal(occurrence=0)


@pytest.mark.parametrize(
    ("ask", "advice"),
    [
        (lambda p: p.marginal("a", "b"), r"whole number, not 'b'.*`joint"),
        (lambda p: p.bounds("a", 0.0), "whole number, not 0.0"),
        (lambda p: p.marginal(["a"]), r"one site, not \['a'\].*`joint"),
        (lambda p: p.marginal(("a", "b")), r"`joint\(\"a\", \"b\"\)`"),
        (lambda p: p.expectation("b"), r"lambda value.*marginal\('b'\).mean"),
    ],
)
def test_a_question_of_another_kind_says_what_to_write(ask, advice) -> None:
    with pytest.raises(TypeError, match=advice):
        ask(posterior(COINS))


def test_true_one_and_one_as_a_float_are_three_return_values() -> None:
    root = ("x", {0: (True, math.log(0.5)), 1: (1, math.log(0.3)), 2: (1.0, math.log(0.2))})
    assert typed(posterior(root).marginal()) == pytest.approx(
        {(bool, True): 0.5, (int, 1): 0.3, (float, 1.0): 0.2}
    )
    columns = dataclasses.replace(
        build(root), leaf_log_weights=array("d", map(math.log, (5, 3, 2)))
    )
    counted = Posterior(
        columns, complete=True, explored_mass=1.0, frontier_log_priors=[], frontier_log_weights=[],
        likelihood_bounded=True, branches=3,
    )  # fmt: skip
    assert [p for _, p in counted.marginal().items()] == pytest.approx([0.5, 0.3, 0.2])
    two = posterior(("x", {0: (True, 0.0), 1: ("a", 0.0), 2: (True, 0.0)})).marginal()
    assert two[1] == two[True] == two[1.0] == pytest.approx(2 / 3)


def test_a_site_that_repeats_only_where_nothing_has_weight_is_no_trouble() -> None:
    root = ("x", {0: ("x", {0: ("a", -math.inf)}), 1: ("b", 0.0)})
    assert dict(posterior(root).marginal("x")) == {1: 1.0}


def test_nothing_found_within_the_budget_says_so() -> None:
    p = posterior(
        ("x", {}),
        complete=False,
        explored_mass=0.0,
        frontier_log_priors=[0.0],
        frontier_log_weights=[0.0],
    )
    assert p.executions == 0 and p.log_evidence == -math.inf
    assert p.log_evidence_bounds == (-math.inf, 0.0)
    with pytest.raises(ZeroEvidenceError, match="larger budget"):
        p.marginal()
    for text in (repr(p), p._repr_html_()):
        assert "no execution was finished" in text and "weight zero" not in text
        assert "0% of the prior mass explored, 100% left out" in text


def test_only_a_complete_result_says_that_every_execution_has_weight_zero() -> None:
    root = ("x", {0: ("a", -math.inf)})
    assert "  every execution has weight zero" in repr(posterior(root))
    partial = posterior(
        root,
        complete=False,
        explored_mass=0.5,
        frontier_log_priors=[math.log(0.5)],
        frontier_log_weights=[math.log(0.5)],
    )
    assert "  every execution that was finished has weight zero" in repr(partial)


def test_sites_drawn_at_random_take_the_word_exact_away() -> None:
    p = posterior(COINS, exact=False)
    assert repr(p).startswith("Posterior (not exact): 3 executions")
    assert not p.exact and posterior(COINS).exact
    assert "not exact: given the values" in repr(p.marginal("a"))
    partial = posterior(
        COINS,
        exact=False,
        complete=False,
        explored_mass=0.5,
        frontier_log_priors=[math.log(0.5)],
        frontier_log_weights=[math.log(0.5)],
    )
    assert repr(partial).startswith("Posterior (partial, not exact): 3 executions")


def test_a_part_of_the_prior_mass_is_never_shown_as_all_or_none_of_it() -> None:
    for explored in (1.0, 1.0 - 1e-15, 1.0 - 1e-8):
        p = posterior(
            COINS,
            complete=False,
            explored_mass=explored,
            frontier_log_priors=[-50.0],
            frontier_log_weights=[-50.0],
        )
        assert ">99.9999% of the prior mass explored, <0.0001% left out" in repr(p)
        assert "(>99.9999% of the prior mass)" in repr(p.marginal("a"))


@pytest.mark.parametrize("error", [0.0, -0.0, 1e-17, -1e-17, -1e-15])
def test_certain_evidence_is_plus_zero(error) -> None:
    p = posterior(("a", error))
    assert "log evidence  0\n" in repr(p)
    assert str(posterior(("a", -0.0)).log_evidence) == "0.0"


def test_the_dataframe_has_one_row_an_execution() -> None:
    pandas = pytest.importorskip("pandas")
    frame = posterior(COINS).to_dataframe()
    assert list(frame.columns) == ["a", "b", "value", "log_weight", "probability"]
    assert frame["value"].tolist() == ["both", "one", "none"]
    assert frame["b"].tolist() == [True, False, None]
    assert frame["probability"].tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert isinstance(frame, pandas.DataFrame)


def test_the_dataframe_numbers_repeated_sites_and_keeps_tensors_whole() -> None:
    pytest.importorskip("pandas")
    tensors = {torch.tensor(0.0): ("x", {1: (torch.zeros(2), 0.0)}), torch.tensor(1.0): ([1], 0.0)}
    frame = posterior(("value", {0: ("x", tensors)})).to_dataframe()
    assert list(frame.columns) == ["value", "x#0", "x#1", "value_", "log_weight", "probability"]
    assert frame["x#0"].tolist() == [0.0, 1.0] and frame["x#1"].tolist() == [1, None]
    assert frame["value_"][0].shape == (2,) and frame["value_"][1] == [1]


def test_the_dataframe_without_pandas_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        posterior(COINS).to_dataframe()


def test_the_repr_of_an_exact_posterior() -> None:
    assert repr(posterior(COINS, branches=4)).splitlines() == [
        "Posterior (exact): 3 executions, 4 branches",
        "  log evidence  0",
        "  sites         a, b",
        "  return value",
        "    'none'  0.5000  ████████████████████████",
        "    'one'   0.3000  ██████████████▍",
        "    'both'  0.2000  █████████▋",
    ]


def test_the_repr_of_a_partial_posterior_says_so_first() -> None:
    p = posterior(
        COINS,
        complete=False,
        explored_mass=0.8,
        frontier_log_priors=[math.log(0.2)],
        frontier_log_weights=[math.log(0.25)],
        notes=["2 choices were replayed: the model holds a file"],
    )
    text = repr(p)
    assert text.startswith("Posterior (partial)")
    assert "80.0% of the prior mass explored, 20.0% left out" in text
    assert (
        "log evidence  0 explored, at most 0.223144 in all, if no likelihood above 1 is left"
        in text
    )
    assert "  return value, bounds on the same condition\n" in text
    assert "note          2 choices were replayed: the model holds a file" in text
    assert "0.5000 [0.4000, 0.6000]" in text
    assert "explored executions only" in p._repr_html_() and "[0.4000, 0.6000]" in p._repr_html_()


def test_elements_of_a_batched_site_are_not_listed_beside_it() -> None:
    root = ("x[0]", {0: ("x[1]", {0: ("x", {5: ("a", 0.0)})})})
    assert posterior(root).sites == ("x[0]", "x[1]", "x")
    assert "sites         x\n" in repr(posterior(root))


def test_it_can_be_pickled() -> None:
    p = posterior(COINS)
    assert p.marginal() == pickle.loads(pickle.dumps(p)).marginal()


def test_fifty_thousand_choices_deep_is_no_recursion() -> None:
    n = 50_000
    tree = Tree(
        range(-1, n), [-1, *range(n)], [-1] + [0] * n, ["x"] * n, [(i,) for i in range(n)], [n],
        [0.0], ["end"],
    )  # fmt: skip
    p = Posterior(
        tree, complete=True, explored_mass=1.0, frontier_log_priors=[], frontier_log_weights=[],
        likelihood_bounded=True, branches=n,
    )  # fmt: skip
    assert dict(p.marginal("x", 0)) == {0: 1.0} and dict(p.marginal("x", -1)) == {n - 1: 1.0}
    assert dict(p.marginal("x", -n)) == {0: 1.0}
    assert len(p.most_probable()[0].choices) == n
