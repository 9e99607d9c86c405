"""Optimisers: step for step those of torch and of Pyro."""

from __future__ import annotations

import pyro
import pyro.optim
import pytest
import torch
from torch.distributions import constraints

import contpoutine as cp
from contpoutine import optim
from contpoutine.errors import ParamError
from contpoutine.optim.clipped_adam import ClippedAdam
from contpoutine.optim.optimizer import Optimizer, names

STARTS = {"a": torch.tensor([0.5, -1.0]), "b": torch.tensor(2.0)}


def gradient(name, step):
    return torch.sin(STARTS[name] * (step + 1)) * 3.0


def path(store, optimizer, steps=6, visited=lambda step: ("a", "b")):
    """The values of two parameters along some steps on made-up gradients."""
    found = []
    for step in range(steps):
        leaves = []
        for name in visited(step):
            constraint = constraints.positive if name == "b" else constraints.real
            leaf = store.setdefault(name, STARTS[name].clone(), constraint).unconstrained()
            leaf.grad = gradient(name, step)
            leaves.append(leaf)
        optimizer(leaves)
        found.append([store[name].detach().clone() for name in store.keys()])
    return found


def assert_same_path(ours, theirs, **options):
    mine = path(cp.get_param_store(), ours, **options)
    pyros = path(pyro.get_param_store(), theirs, **options)
    for one, other in zip(mine, pyros, strict=True):
        for x, y in zip(one, other, strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0)


CASES = {
    "Adam": {"lr": 0.1, "betas": (0.8, 0.9)},
    "ClippedAdam": {"lr": 0.1, "clip_norm": 1.0, "lrd": 0.9, "weight_decay": 0.1},
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "RMSprop": {"lr": 0.05},
    "Adagrad": {"lr": 0.5},
}


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_that_of_pyro(name):
    assert_same_path(getattr(optim, name)(CASES[name]), getattr(pyro.optim, name)(CASES[name]))


def test_centered_variance_is_that_of_pyro():
    args = {"lr": 0.1, "centered_variance": True}
    assert_same_path(optim.ClippedAdam(args), pyro.optim.ClippedAdam(args))


def test_without_arguments_the_defaults_of_torch_hold():
    assert_same_path(optim.Adam({}), pyro.optim.Adam({}))
    assert_same_path(optim.Adam(), pyro.optim.Adam({}))


def test_a_parameter_that_a_step_does_not_visit_stands_still():
    def some(step):
        return ("a",) if step % 2 else ("a", "b")

    for name in ("Adam", "ClippedAdam"):
        cp.clear_param_store(), pyro.clear_param_store()
        assert_same_path(
            getattr(optim, name)(CASES[name]), getattr(pyro.optim, name)(CASES[name]), visited=some
        )


def test_arguments_can_depend_on_the_name():
    def args(name):
        return {"lr": 0.5 if name == "a" else 0.01}

    assert_same_path(optim.Adam(args), pyro.optim.Adam(args))


@pytest.mark.parametrize("clip", [{"clip_norm": 0.5}, {"clip_value": 0.5}])
def test_gradients_are_clipped_as_in_pyro(clip):
    args = {"lr": 0.1}
    assert_same_path(optim.SGD(args, clip), pyro.optim.SGD(args, clip))


def test_step_and_call_are_the_same():
    first = path(cp.get_param_store(), optim.Adam({"lr": 0.1}))
    cp.clear_param_store()
    second = path(cp.get_param_store(), optim.Adam({"lr": 0.1}).step)
    assert all(torch.equal(x, y) for a, b in zip(first, second) for x, y in zip(a, b))


def test_parameters_of_a_module_are_named_as_the_module_names_them():
    asked = []

    def args(name):
        asked.append(name)
        return {"lr": 0.1}

    net = torch.nn.Linear(2, 1)

    def model():
        yield cp.module("net", net)

    cp.run(model)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optim.SGD(args).step(net.parameters())
    assert asked == ["net.weight", "net.bias"]


def test_an_optimiser_of_ones_own_can_be_used():
    class Signs(torch.optim.Optimizer):
        def __init__(self, params, step):
            super().__init__(params, {"step": step})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p -= group["step"] * p.grad.sign()

    leaf = cp.get_param_store().setdefault("x", 1.0).unconstrained()
    leaf.grad = torch.tensor(-7.0)
    Optimizer(Signs, {"step": 0.25}).step([leaf])
    assert leaf.item() == 1.25


@pytest.mark.parametrize("name", names())
def test_every_optimiser_of_torch_makes_a_step(name):
    leaf = cp.get_param_store().setdefault("x", torch.ones(2, 2)).unconstrained()
    gradient = torch.ones(2, 2)
    leaf.grad = gradient.to_sparse() if name == "SparseAdam" else gradient
    getattr(optim, name)({"lr": 0.1}).step([leaf])
    assert (leaf != 1.0).all()


# --- states ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Adam", "ClippedAdam"])
def test_a_file_lets_training_go_on_where_it_stopped(name, tmp_path):
    store = cp.get_param_store()
    whole = path(store, getattr(optim, name)(CASES[name]), steps=6)
    cp.clear_param_store()
    first = getattr(optim, name)(CASES[name])
    path(store, first, steps=3)
    first.save(tmp_path / "optimizer.pt")
    store.save(tmp_path / "params.pt")
    cp.clear_param_store()
    store.load(tmp_path / "params.pt")
    second = getattr(optim, name)(CASES[name])
    second.load(tmp_path / "optimizer.pt")
    assert second.get_state().keys() == {"a", "b"}
    for step in range(3, 6):
        for key in ("a", "b"):
            store[key].unconstrained().grad = gradient(key, step)
        second([leaf for _, leaf in store.named_parameters()])
    assert all(torch.equal(store[k], x) for k, x in zip(("a", "b"), whole[-1]))


def test_a_state_is_exchanged_with_pyro():
    ours, theirs = optim.Adam({"lr": 0.1}), pyro.optim.Adam({"lr": 0.1})
    path(cp.get_param_store(), ours, steps=2)
    path(pyro.get_param_store(), theirs, steps=2)
    mine, pyros = ours.get_state(), theirs.get_state()
    assert mine.keys() == pyros.keys()
    for name in mine:
        assert mine[name]["state"][0].keys() == pyros[name]["state"][0].keys()
    swapped = optim.Adam({"lr": 0.1})
    swapped.set_state(pyros)
    assert_same_path(swapped, theirs)


# --- bad input ------------------------------------------------------------------------------


def test_unknown_names_are_refused_with_a_near_one():
    with pytest.raises(AttributeError, match="'Adm'.*Did you mean 'Adam'"):
        optim.Adm  # noqa: B018


def test_an_optimiser_that_needs_the_loss_again_is_refused_by_name():
    with pytest.raises(AttributeError, match="LBFGS.*one parameter at a time"):
        optim.LBFGS  # noqa: B018


@pytest.mark.parametrize("args", [{"learning_rate": 0.1}, {"lr": -1.0}])
def test_arguments_that_torch_refuses_are_refused_at_once(args):
    with pytest.raises((TypeError, ValueError), match="Adam does not take the arguments"):
        optim.Adam(args)


def test_arguments_that_are_no_dictionary_are_refused():
    with pytest.raises(TypeError, match="optim_args is a dictionary"):
        optim.Adam(0.1)
    with pytest.raises(ValueError, match="clip_norm or clip_value, not 'clip'"):
        optim.Adam({}, {"clip": 1.0})
    with pytest.raises(ValueError, match="clip_norm"):
        ClippedAdam([torch.zeros((), requires_grad=True)], clip_norm=0.0)
    with pytest.raises(TypeError, match=r"a class of torch\.optim"):
        Optimizer(optim.Adam)


def test_a_constrained_value_is_no_tensor_to_move():
    value = cp.get_param_store().setdefault("s", 2.0, constraints.positive)
    with pytest.raises(ParamError, match=r"value\.unconstrained\(\)"):
        optim.Adam().step([value])


def test_a_state_of_something_else_is_refused():
    with pytest.raises(ParamError, match="state of an optimiser"):
        optim.Adam().set_state(cp.get_param_store().get_state())
