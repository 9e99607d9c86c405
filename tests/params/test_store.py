"""The parameter store: a mapping, states, files, scopes; the same numbers as Pyro's."""

from __future__ import annotations

import pyro
import pytest
import torch
from torch.distributions import constraints

import contpoutine as cp
from contpoutine.errors import ParamError, ParamMismatchError, UnknownParamError
from contpoutine.params.store import ParamStore

KINDS = {
    "real": (constraints.real, torch.tensor([0.5, -1.25])),
    "positive": (constraints.positive, torch.tensor([0.5, 3.0])),
    "unit": (constraints.unit_interval, torch.tensor(0.25)),
    "interval": (constraints.interval(-1.0, 3.0), torch.tensor(2.5)),
    "simplex": (constraints.simplex, torch.tensor([0.2, 0.3, 0.5])),
    "cholesky": (constraints.lower_cholesky, torch.tensor([[1.0, 0.0], [0.5, 2.0]])),
    "vectors": (constraints.independent(constraints.real, 1), torch.ones(2, 3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_value_and_leaf_are_those_of_pyro(kind):
    constraint, value = KINDS[kind]
    store = ParamStore()
    ours = store.setdefault("x", value, constraint)
    theirs = pyro.get_param_store().setdefault("x", value.clone(), constraint)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours.unconstrained(), theirs.unconstrained())
    assert ours.unconstrained().is_leaf and ours.unconstrained().requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_leaf_as_in_pyro(kind):
    constraint, value = KINDS[kind]
    grads = []
    for store in (ParamStore(), pyro.get_param_store()):
        x = store.setdefault("x", value.clone(), constraint)
        (x * torch.arange(1.0, 1.0 + x.numel()).reshape(x.shape)).sum().backward()
        grads.append(x.unconstrained().grad)
    assert torch.allclose(*grads)


def test_a_tensor_that_was_given_as_initial_value_is_never_changed():
    start = torch.zeros(2)
    store = ParamStore()
    leaf = store.setdefault("x", start).unconstrained()
    with torch.no_grad():
        leaf += 1.0
    assert start.tolist() == [0.0, 0.0] and not start.requires_grad


def test_an_initial_value_is_computed_only_where_it_is_needed():
    calls = []
    store = ParamStore()
    for _ in range(3):
        store.setdefault("x", lambda: calls.append(1) or torch.ones(2))
    assert len(calls) == 1 and store["x"].tolist() == [1.0, 1.0]


def test_numbers_and_lists_become_tensors():
    store = ParamStore()
    store["a"], store["b"] = 2, [1, 2.5]
    assert store["a"].dtype is torch.get_default_dtype()
    assert store["b"].tolist() == [1.0, 2.5]


def test_it_is_a_mapping():
    store = ParamStore()
    assert not store and len(store) == 0
    store["a"] = torch.tensor(1.0)
    store.setdefault("b", torch.tensor(2.0), constraints.positive)
    assert store and list(store) == list(store.keys()) == ["a", "b"] and "a" in store
    assert [round(v.item(), 5) for v in store.values()] == [1.0, 2.0]
    assert [name for name, _ in store.items()] == ["a", "b"]
    assert [leaf.is_leaf for _, leaf in store.named_parameters()] == [True, True]
    del store["a"]
    assert list(store) == ["b"]
    store.clear()
    assert "b" not in store


def test_a_new_value_keeps_the_constraint():
    store = ParamStore()
    store.setdefault("s", torch.tensor(2.0), constraints.positive)
    store["s"] = 5.0
    assert store["s"].item() == pytest.approx(5.0)
    assert store["s"].unconstrained().item() == pytest.approx(torch.tensor(5.0).log().item())
    with pytest.raises(ParamError, match="outside its constraint"):
        store["s"] = -5.0
    assert store["s"].item() == pytest.approx(5.0)


def test_a_leaf_knows_its_name():
    store = ParamStore()
    first = store.setdefault("a", 1.0).unconstrained()
    assert store.param_name(first) == "a" and store.param_name(torch.ones(())) is None
    store["a"] = 2.0
    assert store.param_name(first) is None
    assert store.param_name(store["a"].unconstrained()) == "a"


def test_one_tensor_under_two_names_keeps_the_other_when_one_is_deleted():
    weight = torch.nn.Parameter(torch.ones(2))
    store = ParamStore()
    store.setdefault("a", weight)
    store.setdefault("b", weight)
    assert store["a"] is store["b"] is weight and store.param_name(weight) == "a"
    del store["a"]
    assert store.param_name(weight) == "b"


def test_match_takes_a_regular_expression_from_the_beginning():
    store = ParamStore()
    for name in ("loc_1", "loc_2", "scale_loc"):
        store[name] = 0.0
    assert list(store.match("loc")) == ["loc_1", "loc_2"]
    assert list(store.match(r".*_2$")) == ["loc_2"]


def test_a_state_is_that_of_pyro():
    ours, theirs = ParamStore(), pyro.get_param_store()
    for name, (constraint, value) in KINDS.items():
        for store in (ours, theirs):
            store.setdefault(name, value.clone(), constraint)
    mine, pyros = ours.get_state(), theirs.get_state()
    assert mine.keys() == pyros.keys() and mine["constraints"] == pyros["constraints"]
    assert all(torch.equal(mine["params"][name], pyros["params"][name]) for name in KINDS)
    fresh = ParamStore()
    fresh.set_state(pyros)
    assert all(torch.equal(fresh[name], ours[name]) for name in KINDS)


def test_a_file_comes_back_bit_for_bit(tmp_path):
    store = ParamStore()
    for name, (constraint, value) in KINDS.items():
        store.setdefault(name, value, constraint)
    store.save(tmp_path / "params.pt")
    fresh = ParamStore()
    fresh.load(tmp_path / "params.pt")
    for name, (constraint, value) in KINDS.items():
        assert torch.equal(fresh[name], store[name])
        fresh.setdefault(name, value, constraint)  # the model asks for what it has
        (fresh[name] ** 2).sum().backward()
        assert fresh[name].unconstrained().grad is not None


def test_files_are_exchanged_with_pyro(tmp_path):
    ours, theirs = ParamStore(), pyro.get_param_store()
    ours.setdefault("s", torch.tensor(2.0), constraints.positive)
    ours["r"] = torch.tensor([1.0, 2.0])
    ours.save(tmp_path / "ours.pt")
    theirs.load(str(tmp_path / "ours.pt"))
    assert torch.equal(theirs["s"], ours["s"]) and torch.equal(theirs["r"], ours["r"])
    theirs["r"] = torch.tensor([3.0, 4.0])
    theirs.save(str(tmp_path / "theirs.pt"))
    fresh = ParamStore()
    fresh.load(tmp_path / "theirs.pt")
    assert fresh["r"].tolist() == [3.0, 4.0]
    assert fresh["r"].unconstrained() is fresh["r"]


def test_scopes_keep_two_models_apart():
    store = ParamStore()
    store["x"] = 1.0
    with store.scope() as first:
        assert len(store) == 0
        store["x"] = 2.0
    with store.scope() as second:
        store["x"] = torch.zeros(3)
    assert store["x"].item() == 1.0
    with store.scope(first) as again:
        assert again is first and store["x"].item() == 2.0
        store["x"] = 5.0
    with store.scope(second):
        assert store["x"].shape == (3,)
    assert first["params"]["x"].item() == 5.0


def test_a_scope_that_is_left_by_an_exception_loses_nothing():
    store = ParamStore()
    leaf = store.setdefault("x", 1.0).unconstrained()
    state = {"params": {}, "constraints": {}}
    with pytest.raises(KeyError), store.scope(state):
        store["y"] = 2.0
        raise KeyError("left")
    assert store["x"].unconstrained() is leaf and list(store) == ["x"]
    assert list(state["params"]) == ["y"]


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "constraint", "says"),
    [
        (torch.tensor([1.0, -2.0]), constraints.positive, r"outside its constraint .*-2"),
        (1.5, constraints.unit_interval, "outside its constraint"),
        (torch.tensor([0.5, 0.6]), constraints.simplex, "outside its constraint"),
        (0.0, constraints.nonnegative, "on the edge of its constraint"),
        (float("nan"), constraints.real, "is NaN"),
        (torch.tensor(1), constraints.real, r"dtype torch\.int64"),
        ("one", constraints.real, "a tensor, a number, a list"),
        (1.0, constraints.dependent, "no transform"),
    ],
)
def test_a_value_that_no_parameter_can_have_is_refused_and_nothing_is_stored(
    given, constraint, says
):
    store = ParamStore()
    with pytest.raises(ParamError, match=rf"'x'|{says}") as caught:
        store.setdefault("x", given, constraint)
    assert __import__("re").search(says, str(caught.value))
    assert len(store) == 0


def test_what_is_no_constraint_is_refused():
    with pytest.raises(TypeError, match="torch.distributions.constraints"):
        ParamStore().setdefault("x", 1.0, "positive")


def test_a_failing_initial_value_stores_nothing():
    store = ParamStore()
    with pytest.raises(ZeroDivisionError):
        store.setdefault("x", lambda: 1 / 0, constraints.positive)
    assert len(store) == 0
    assert store.setdefault("x", -1.0).item() == -1.0


def test_an_unknown_parameter_is_named_with_a_near_one():
    store = ParamStore()
    store["weight_loc"] = 0.0
    with pytest.raises(UnknownParamError, match=r"'weight_lok'.* Did you mean 'weight_loc'\?"):
        store["weight_lok"]
    with pytest.raises(KeyError):
        del store["nothing"]


@pytest.mark.parametrize(
    ("init", "constraint", "says"),
    [
        (torch.zeros(3), constraints.real, r"shape \(2,\).*shape \(3,\)"),
        (0.0, constraints.real, r"shape \(2,\).*shape \(\)"),
        (torch.ones(2), constraints.positive, r"constraint Real\(\).*GreaterThan"),
    ],
)
def test_a_parameter_of_another_model_is_refused(init, constraint, says):
    store = ParamStore()
    leaf = store.setdefault("x", torch.zeros(2)).unconstrained()
    with pytest.raises(ParamMismatchError, match=says) as caught:
        store.setdefault("x", init, constraint)
    assert "clear_param_store" in str(caught.value)
    assert store["x"].unconstrained() is leaf


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ([1, 2], "the keys 'params' and 'constraints'"),
        ({"params": {}}, "the keys 'params' and 'constraints'"),
        (torch.nn.Linear(2, 1).state_dict(), "state_dict of a torch.nn.Module"),
        ({"params": {"x": torch.zeros(2)}, "constraints": {}}, "not in both"),
        ({"params": {"x": 1}, "constraints": {"x": constraints.real}}, "no tensor"),
        (
            {"params": {"x": torch.zeros(3)}, "constraints": {"x": constraints.real}},
            r"shape \(3,\).*shape \(2,\).*another model",
        ),
        (
            {
                "params": {"a": torch.zeros(2), "x": torch.zeros(2)},
                "constraints": {"a": constraints.real, "x": constraints.positive},
            },
            "GreaterThan.*another model",
        ),
    ],
)
def test_a_state_of_another_model_is_refused_and_nothing_is_lost(state, says):
    store = ParamStore()
    leaf = store.setdefault("x", torch.zeros(2)).unconstrained()
    with pytest.raises(ParamMismatchError, match=says):
        store.set_state(state)
    assert list(store) == ["x"] and store["x"].unconstrained() is leaf


def test_a_copy_of_a_value_is_no_parameter():
    import copy
    import pickle

    store = ParamStore()
    for constraint in (constraints.real, constraints.positive):
        value = store.setdefault(f"{constraint}", 2.0, constraint)
        again = pickle.loads(pickle.dumps(value))
        assert torch.equal(again, value)
        with pytest.raises(ParamError, match="copy of a parameter"):
            again.unconstrained()
    with pytest.raises(ParamError, match="copy of a parameter"):
        copy.deepcopy(store[f"{constraints.real}"]).unconstrained()


def test_the_store_of_the_library_is_one_object():
    assert cp.get_param_store() is cp.get_param_store()
    cp.get_param_store()["x"] = 1.0
    cp.clear_param_store()
    assert len(cp.get_param_store()) == 0
