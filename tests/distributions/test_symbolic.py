"""Distributions with a parameter that is not known yet: what they are, and what they refuse."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine.distributions.symbolic import Symbolic, SymbolicDistribution
from contpoutine.errors import DistributionError, SymbolicAttributeError, SymbolicValueError

MAKE = {
    "Flip": (lambda x: dist.Flip(x), {"p"}),
    "Bernoulli": (lambda x: dist.Bernoulli(x), {"probs"}),
    "Bernoulli logits": (lambda x: dist.Bernoulli(logits=x), {"logits"}),
    "Categorical": (lambda x: dist.Categorical(x), {"probs"}),
    "Categorical logits": (lambda x: dist.Categorical(logits=x), {"logits"}),
    "Normal": (lambda x: dist.Normal(x, 1.0), {"loc", "scale"}),
    "Normal scale": (lambda x: dist.Normal(0.0, scale=x), {"loc", "scale"}),
    "Poisson": (lambda x: dist.Poisson(x), {"rate"}),
    "Gamma": (lambda x: dist.Gamma(1.0, rate=x), {"concentration", "rate"}),
}


@pytest.mark.parametrize("name", MAKE)
def test_a_constructor_keeps_what_it_was_given(name):
    make, parameters = MAKE[name]
    symbol = Symbolic()
    made = make(symbol)
    assert type(made) is SymbolicDistribution
    assert made.cls is getattr(dist, name.split()[0]) and set(made.parameters) == parameters
    assert sum(x is symbol for x in made.parameters.values()) == 1
    assert repr(made).startswith(name.split()[0] + "(")


@pytest.mark.parametrize("name", MAKE)
def test_nothing_can_be_asked_of_it(name):
    made = MAKE[name][0](Symbolic())
    asks = [
        made.sample,
        lambda: made.log_prob(1.0),
        lambda: made.to_event(1),
        lambda: made.mask(False),
        lambda: dist.choices.choices(made, "x"),
        lambda: dist.choices.log_weight(made, 1.0, "x"),
    ]
    for ask in asks:
        with pytest.raises(SymbolicValueError, match="poutine.realize"):
            ask()


def test_a_batch_of_it_is_another_one():
    made = dist.Poisson(Symbolic())
    assert made.expand([2, 3]).batch_shape == (2, 3) and made.batch_shape == ()
    assert repr(made.expand(torch.Size([2]))).endswith(".expand([2])")


def test_a_finite_table_takes_numbers_only():
    for make in (
        lambda x: dist.Finite({"a": x, "b": 0.5}),
        lambda x: dist.Categorical([x, 0.5]),
        lambda x: dist.RandInt(x),
    ):
        with pytest.raises((SymbolicValueError, DistributionError, TypeError)):
            make(Symbolic())


def test_a_symbol_is_equal_to_itself_and_compares_with_nothing_else():
    symbol = Symbolic()
    assert symbol == symbol and {symbol: 1}[symbol] == 1
    for compare in (lambda: symbol == 1, lambda: symbol != Symbolic(), lambda: symbol < 1):
        with pytest.raises(SymbolicValueError):
            compare()


def test_an_attribute_is_missing_in_the_way_that_python_expects():
    symbol = Symbolic()
    assert not hasattr(symbol, "item") and getattr(symbol, "shape", None) is None
    with pytest.raises(SymbolicAttributeError, match="'item'"):
        symbol.item()
    assert copy.copy(symbol) is not None and pickle.loads(pickle.dumps(symbol)) is not None


def test_without_a_handler_a_draw_is_refused():
    symbol = Symbolic()

    def model():
        return (yield cp.sample("x", dist.Normal(symbol, 1.0)))

    with pytest.raises(SymbolicValueError, match=r"poutine\.delayed"):
        cp.run(model)
    with pytest.raises(SymbolicValueError, match="'x'"):
        cp.infer.enumerate(model)()
