"""`module`: a torch module learns with the store, and is changed only by the store's tensors."""

from __future__ import annotations

import pyro
import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine


def net():
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))


def registering(name, made, **options):
    def model(x):
        f = yield cp.module(name, made, **options)
        return f, f(x)

    return model


def test_the_store_holds_the_tensors_of_the_module_under_the_names_of_pyro():
    made = net()
    f, _ = cp.run(registering("net", made), torch.zeros(1, 2))
    pyro.module("net", net())
    store = cp.get_param_store()
    assert f is made and list(store) == list(pyro.get_param_store())
    for name, own in made.named_parameters():
        assert store[f"net$$${name}"] is own


def test_its_parameters_are_param_sites():
    made = net()
    trace = poutine.trace(registering("net", made)).get_trace(torch.zeros(1, 2))
    assert trace.param_nodes == [f"net$$${name}" for name, _ in made.named_parameters()]


def test_a_second_module_takes_the_stored_parameters_when_told():
    first, second = net(), net()
    x = torch.ones(1, 2)
    _, expected = cp.run(registering("net", first), x)
    f, y = cp.run(registering("net", second, update_module_params=True), x)
    assert f is second and torch.equal(y, expected)
    assert second[0].weight is first[0].weight


def test_a_second_module_that_is_not_told_is_reported():
    cp.run(registering("net", net()), torch.zeros(1, 2))
    with pytest.warns(UserWarning, match="update_module_params=True"):
        cp.run(registering("net", net()), torch.zeros(1, 2))


def test_a_loaded_file_goes_into_the_module(tmp_path):
    first, x = net(), torch.ones(1, 2)
    _, expected = cp.run(registering("net", first), x)
    cp.get_param_store().save(tmp_path / "net.pt")
    cp.clear_param_store()
    cp.get_param_store().load(tmp_path / "net.pt")
    second = net()
    _, y = cp.run(registering("net", second, update_module_params=True), x)
    assert torch.equal(y, expected)


def test_frozen_parameters_are_reported_in_training_and_quiet_in_evaluation():
    made = net()
    made[0].weight.requires_grad_(False)
    with pytest.warns(UserWarning, match=r"'0\.weight' of module 'net' is not learned"):
        cp.run(registering("net", made), torch.zeros(1, 2))
    made.eval()
    cp.run(registering("net", made), torch.zeros(1, 2))
    assert "net$$$0.weight" not in cp.get_param_store()


def test_values_of_a_handler_go_into_a_copy(capture):
    made = torch.nn.Linear(1, 1, bias=False)
    own = made.weight

    def model():
        slope = yield cp.sample("slope", dist.Finite({-1.0: 0.5, 2.0: 0.5}))
        with poutine.replay(params={"line$$$weight": torch.full((1, 1), slope)}):
            f = yield cp.module("line", made, update_module_params=True)
        y, same = f(torch.ones(1, 1)).item(), f is made
        del f  # a clone cannot copy a module that the model has made
        yield cp.sample("later", dist.Flip(0.5))
        return slope, y, same

    posterior = cp.infer.enumerate(model)()
    assert all(slope == y and not same for slope, y, same in posterior.tree.leaf_values)
    assert made.weight is own


def test_gradients_of_a_loss_reach_the_module():
    made = net()
    _, y = cp.run(registering("net", made), torch.ones(4, 2))
    y.sum().backward()
    assert all(p.grad is not None for p in made.parameters())


@pytest.mark.parametrize("given", [torch.nn.Linear, lambda x: x])
def test_what_is_no_module_is_refused_at_once(given):
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        cp.module("net", given)


def test_a_name_with_the_divider_is_refused():
    with pytest.raises(TypeError, match="has no"):
        cp.module("a$$$b", torch.nn.Linear(1, 1))
