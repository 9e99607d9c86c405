"""Trace: nodes by name, log-probabilities with finite and torch distributions."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys

import pytest
import torch

import contpoutine as cp
import contpoutine.distributions as dist
from contpoutine import poutine
from contpoutine.core.message import KEYS
from contpoutine.errors import (
    DuplicateSiteError,
    OutsideSupportError,
    ShapeError,
    UnknownSiteError,
)
from tests.models.twice import OURS, PYROS


def get_trace(model, *args, **data):
    return poutine.trace(poutine.condition(model, data=data)).get_trace(*args)


def mixed(p):
    a = yield cp.sample("a", dist.Flip(p))
    z = yield cp.sample("z", dist.Normal(torch.tensor(0.5), 2.0))
    yield cp.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(0.25))
    yield cp.factor("f", -0.75)
    return a


def test_a_node_has_every_field_of_its_message():
    trace = get_trace(mixed, 0.25, a=True, z=torch.tensor(1.0))
    assert list(trace.nodes) == ["_INPUT", "a", "z", "y", "f", "_RETURN"]
    for name in "azyf":
        node = trace.nodes[name]
        assert type(node) is dict
        assert set(KEYS) <= set(node)
        assert node["name"] == name and node["type"] == "sample" and node["done"]
    assert trace.nodes["_INPUT"] == {
        "name": "_INPUT",
        "type": "args",
        "args": (0.25,),
        "kwargs": {},
    }
    assert trace.nodes["_RETURN"] == {"name": "_RETURN", "type": "return", "value": True}


def test_nodes_are_sorted_by_what_they_are():
    trace = get_trace(mixed, 0.25, a=True)
    trace.add_node("w", type="param", name="w", value=1.0)
    assert trace.stochastic_nodes == ["z"]
    assert trace.observation_nodes == ["a", "y", "f"]
    assert trace.param_nodes == ["w"]
    assert trace.reparameterized_nodes == ["z"]
    assert trace.nonreparam_stochastic_nodes == []
    assert [name for name, _ in trace.iter_stochastic_nodes()] == ["z"]
    assert "z" in trace and "nothing" not in trace and len(trace) == 7


def test_log_prob_sum_is_the_log_joint_by_hand():
    trace = get_trace(mixed, 0.25, a=True, z=torch.tensor(1.0))
    by_hand = (
        math.log(0.25)
        + torch.distributions.Normal(0.5, 2.0).log_prob(torch.tensor(1.0)).item()
        + torch.distributions.Normal(1.0, 1.0).log_prob(torch.tensor(0.25)).item()
        - 0.75
    )
    total = trace.log_prob_sum()
    assert total.shape == () and total.dtype == torch.float64
    assert float(total) == pytest.approx(by_hand, abs=1e-6)


def test_finite_sites_alone_give_float64_and_touch_torch_only_at_the_end():
    code = """
import sys, contpoutine as cp, contpoutine.distributions as dist
from contpoutine import poutine
def model():
    for i in range(5):
        yield cp.sample(f"x{i}", dist.Flip(0.5))
trace = poutine.trace(model).get_trace()
assert len(trace) == 7 and repr(trace) and "torch" not in sys.modules
print(trace.log_prob_sum().dtype, float(trace.log_prob_sum()))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split()[0] == "torch.float64"
    assert float(out.stdout.split()[1]) == pytest.approx(5 * math.log(0.5))


def test_torch_sites_alone_keep_torchs_dtype_and_gradients():
    loc = torch.tensor(0.5, requires_grad=True)

    def model():
        yield cp.sample("z", dist.Normal(loc, 1.0), obs=torch.tensor(2.0))
        yield cp.sample("w", dist.Normal(loc, 2.0), obs=torch.tensor(1.0))

    total = poutine.trace(model).get_trace().log_prob_sum()
    assert total.dtype == torch.float32
    total.backward()
    assert loc.grad == pytest.approx(1.5 + 0.125)


def test_gradients_flow_through_a_factor_beside_finite_sites():
    weight = torch.tensor(0.5, requires_grad=True)

    def model():
        yield cp.sample("a", dist.Flip(0.5))
        yield cp.factor("f", 3.0 * weight)

    total = poutine.trace(model).get_trace().log_prob_sum()
    assert total.item() == pytest.approx(math.log(0.5) + 1.5)
    total.backward()
    assert weight.grad == 3.0


def test_a_torch_distribution_of_plain_numbers_is_weighed_as_the_enumeration_weighs_it():
    def model():
        x = yield cp.sample("x", dist.Bernoulli(0.1))
        yield cp.sample("y", dist.Normal(0.1, 2.0), obs=0.3)
        return x

    total = get_trace(model, x=1.0).log_prob_sum()
    exact = math.log(0.1) - 0.5 * 0.1**2 - math.log(2.0) - 0.5 * math.log(2 * math.pi)
    assert total.dtype == torch.float64
    assert float(total) == pytest.approx(exact, rel=1e-14)
    impossible = get_trace(lambda: certain(), c=0.0).log_prob_sum()
    assert impossible == -math.inf


def certain():
    yield cp.sample("c", dist.Bernoulli(1.0))


def test_a_value_that_carries_a_gradient_passes_it_on():
    z = torch.tensor(2.0, requires_grad=True)

    def model():
        yield cp.sample("z", dist.Normal(0.0, 1.0))
        yield cp.sample("a", dist.Flip(0.5))

    get_trace(model, z=z).log_prob_sum().backward()
    assert z.grad == -2.0


def test_an_empty_trace_has_log_probability_zero():
    total = poutine.Trace().log_prob_sum()
    assert total == 0.0 and total.shape == ()


def test_a_site_filter_chooses_the_sites_that_count():
    trace = get_trace(mixed, 0.25, a=True, z=torch.tensor(1.0))
    only_a = trace.log_prob_sum(lambda name, node: name == "a")
    assert float(only_a) == math.log(0.25)
    observed = trace.log_prob_sum(lambda name, node: node["is_observed"])
    latent = trace.log_prob_sum(lambda name, node: not node["is_observed"])
    assert float(observed + latent) == pytest.approx(float(trace.log_prob_sum()))


class Scaled(poutine.messenger.Messenger):
    def __init__(self, scale=1.0, mask=None):
        self.scale, self.mask = scale, mask

    def _pyro_sample(self, msg):
        msg["scale"], msg["mask"] = self.scale, self.mask


@pytest.mark.parametrize(
    "fn", [dist.Flip(0.25), dist.Bernoulli(0.25), dist.Bernoulli(torch.tensor(0.25))]
)
def test_scale_and_mask_apply(fn):
    def model():
        yield cp.sample("x", fn, obs=torch.tensor(1.0))

    def weight(**how):
        return float(poutine.trace(Scaled(**how)(model)).get_trace().log_prob_sum())

    one = pytest.approx(math.log(0.25))
    double = pytest.approx(2 * math.log(0.25))
    assert weight() == one and weight(mask=True) == one and weight(mask=False) == 0.0
    assert weight(scale=2.0) == double and weight(scale=torch.tensor(2.0)) == double
    assert weight(mask=torch.tensor(True)) == one and weight(mask=torch.tensor(False)) == 0.0


def test_an_elementwise_mask_leaves_out_elements():
    def model():
        yield cp.sample("x", dist.Bernoulli(torch.tensor([0.25, 0.5])), obs=torch.ones(2))

    mask = torch.tensor([True, False])
    total = poutine.trace(Scaled(mask=mask)(model)).get_trace().log_prob_sum()
    assert float(total) == pytest.approx(math.log(0.25))


def test_compute_log_prob_writes_tensors_into_the_nodes():
    trace = poutine.trace(Scaled(scale=2.0)(lambda: mixed(0.25))).get_trace()
    trace.compute_log_prob()
    for name in "azyf":
        node = trace.nodes[name]
        assert node["log_prob"] == 2.0 * node["unscaled_log_prob"]
        assert node["log_prob_sum"].shape == ()
    total = sum(float(trace.nodes[name]["log_prob_sum"]) for name in "azyf")
    assert float(trace.log_prob_sum()) == pytest.approx(total)
    assert "log_prob" not in trace.nodes["_INPUT"]


def test_numbers_are_observed_where_torch_wants_tensors():
    def model():
        yield cp.sample("n", dist.Normal(0.0, 1.0))
        yield cp.sample("b", dist.Bernoulli(0.25))
        yield cp.sample("c", dist.Categorical(torch.tensor([0.25, 0.75])))

    trace = get_trace(model, n=0, b=True, c=1)
    by_hand = -0.5 * math.log(2 * math.pi) + math.log(0.25) + math.log(0.75)
    assert float(trace.log_prob_sum()) == pytest.approx(by_hand)


def test_a_distribution_that_knows_no_torch_counts():
    class Halves:
        def sample(self):
            return 1

        def log_prob(self, value):
            return math.log(0.5)

    def model():
        yield cp.sample("h", Halves())

    assert float(poutine.trace(model).get_trace().log_prob_sum()) == math.log(0.5)


def test_a_value_outside_the_support_is_refused_by_name():
    def model():
        yield cp.sample("x", dist.Flip(0.5), obs="neither")

    with pytest.raises(OutsideSupportError, match="site 'x'"):
        poutine.trace(model).get_trace().log_prob_sum()


def test_an_error_of_a_distribution_names_the_site():
    def model():
        yield cp.sample("x", dist.Normal(torch.zeros(2), 1.0), obs=torch.zeros(3))

    with pytest.raises(ShapeError, match=r"site 'x' has shape \(3,\).*\(2,\)") as caught:
        poutine.trace(model).get_trace().log_prob_sum()
    assert caught.value.__notes__[0].splitlines()[-2:] == ["       x dist 2 |", "        value 3 |"]


def test_any_other_error_of_a_distribution_names_the_site():
    class Broken(dist.Normal):
        def log_prob(self, value):
            raise ZeroDivisionError("broken")

    def model():
        yield cp.sample("x", Broken(torch.tensor(0.0), 1.0), obs=torch.tensor(0.0))

    for ask in ("compute_log_prob", "compute_score_parts", "log_prob_sum"):
        with pytest.raises(ZeroDivisionError) as caught:
            getattr(poutine.trace(model).get_trace(), ask)()
        assert any("recorded site 'x'" in note for note in caught.value.__notes__)


# --- names ----------------------------------------------------------------------------------


def test_two_sites_of_one_name_are_refused_naming_both_places():
    def model():
        yield cp.sample("x", dist.Flip(0.5))
        yield cp.sample("x", dist.Flip(0.25))

    line = model.__code__.co_firstlineno
    with pytest.raises(DuplicateSiteError) as caught:
        poutine.trace(model).get_trace()
    text = str(caught.value)
    assert f"test_trace_struct.py:{line + 1}, in" in text
    assert f"test_trace_struct.py:{line + 2}, in" in text
    assert 'sample(f"x_{i}", ...)' in text


def test_one_line_that_runs_twice_is_named_once():
    def model():
        for _ in range(2):
            yield cp.sample("x", dist.Flip(0.5))

    with pytest.raises(DuplicateSiteError, match="both performed at .*test_trace_struct.py"):
        poutine.trace(model).get_trace()


def test_two_executions_in_one_trace_are_told_to_be_traced_apart():
    def model():
        yield cp.sample("x", dist.Flip(0.5))

    with pytest.raises(DuplicateSiteError, match=r"Two executions inside one trace.*get_trace"):
        with poutine.trace() as traced:
            cp.run(model)
            cp.run(model)
        len(traced.trace)


def test_a_parameter_may_be_read_again_but_not_become_a_sample():
    trace = poutine.Trace()
    trace.add_node("w", type="param", value=1.0)
    trace.add_node("w", type="param", value=2.0)
    assert trace.nodes["w"]["value"] == 2.0
    with pytest.raises(DuplicateSiteError, match=r"sites \(param, sample\)"):
        trace.add_node("w", type="sample", value=True)


def test_an_unknown_graph_is_refused():
    with pytest.raises(ValueError, match="'flat' or 'dense'"):
        poutine.Trace(graph_type="sparse")


# --- edges ------------------------------------------------------------------------------------


def loops(L):
    a = yield L.sample("a", L.d.Bernoulli(0.5))
    for i in L.plate("steps", 2):
        x = yield L.sample(f"x{i}", L.d.Normal(a, 1.0))
        with L.plate(f"batch{i}", 2):
            yield L.sample(f"y{i}", L.d.Normal(x, 1.0), obs=torch.zeros(2))
    yield L.sample("z", L.d.Normal(a, 1.0))


def test_a_dense_trace_has_pyros_edges():
    found = []
    for L in (OURS, PYROS):
        traced = L.poutine.trace(L.model(loops), graph_type="dense").get_trace()
        found.append(traced)
        assert traced.graph_type == traced.copy().graph_type == "dense"
    mine, pyros = found
    assert set(mine.edges) == set(pyros.edges) and ("x0", "x1") not in set(mine.edges)
    for name in pyros.nodes:
        assert mine.predecessors(name) == pyros.predecessors(name)
        assert mine.successors(name) == pyros.successors(name)
    assert mine._dependencies["z"] == ["a", "x0", "y0", "x1", "y1"]
    order = mine.topological_sort()
    assert all(order.index(one) < order.index(other) for one, other in mine.edges)
    assert mine.topological_sort(reverse=True) == order[::-1]
    assert set(order) == set(mine.nodes)
    mine.remove_node("x0")
    assert not any("x0" in edge for edge in mine.edges)


def test_a_flat_trace_has_the_edges_that_were_added():
    trace = OURS.trace(OURS.model(loops))
    assert list(trace.edges) == [] and trace.predecessors("z") == set()
    trace.add_edge("a", "z")
    copy = pickle.loads(pickle.dumps(trace.copy()))
    assert list(copy.edges) == [("a", "z")] and copy.successors("a") == {"z"}
    trace.remove_node("z")
    assert list(trace.edges) == [] and list(copy.edges) == [("a", "z")]
    with pytest.raises(UnknownSiteError, match="no site 'w'"):
        trace.add_edge("a", "w")


def test_every_branch_has_its_own_edges(capture):
    def model():
        with poutine.trace(graph_type="dense") as tr:
            n = yield cp.sample("n", dist.RandInt(2))
            for i in cp.plate("steps", 2):
                yield cp.sample(f"x{i}", dist.Flip(0.5))
                if n:
                    yield cp.sample(f"y{i}", dist.Flip(0.5))
        return n, tuple(tr.trace.edges)

    posterior = cp.infer.enumerate(model, capture=capture)()
    assert set(posterior.marginal()) == {
        (0, (("n", "x0"), ("n", "x1"))),
        (
            1,
            (("n", "x0"), ("n", "y0"), ("n", "x1"), ("n", "y1"), ("x0", "y0"), ("x1", "y1")),
        ),
    }


# --- score parts, letters and tables ------------------------------------------------------------


def scaled(L):
    with L.poutine.scale(scale=2.0), L.plate("data", 3):
        z = yield L.sample("z", L.d.Normal(torch.zeros(3), 1.0))
        b = yield L.sample("b", L.d.Bernoulli(0.25))
        with L.poutine.mask(mask=torch.tensor([True, False, True])), L.plate("more", 2):
            yield L.sample("y", L.d.Normal(z + b, 1.0), obs=torch.ones(2, 3))
        yield L.sample("e", L.d.Normal(torch.zeros(3, 2), 1.0).to_event(1))


@pytest.mark.parametrize("ask", ["compute_log_prob", "compute_score_parts"])
def test_score_parts_and_packed_tensors_are_pyros(ask):
    mine, pyros = OURS.trace(OURS.model(scaled)), PYROS.trace(PYROS.model(scaled))
    for trace in (mine, pyros):
        getattr(trace, ask)()
        trace.pack_tensors()
    assert mine.plate_to_symbol == pyros.plate_to_symbol
    assert mine.symbol_to_dim == pyros.symbol_to_dim
    for name in ("z", "b", "y", "e"):
        one, other = mine.nodes[name], pyros.nodes[name]
        for key in ("log_prob", "unscaled_log_prob", "log_prob_sum"):
            assert torch.allclose(one[key], other[key])
        assert torch.allclose(one["packed"]["log_prob"], other["packed"]["log_prob"])
        assert one["packed"]["log_prob"]._pyro_dims == other["packed"]["log_prob"]._pyro_dims
        if ask == "compute_score_parts":
            for part, pyro_part in zip(one["score_parts"], other["score_parts"]):
                assert torch.allclose(torch.as_tensor(part), torch.as_tensor(pyro_part))
            assert one["score_parts"]._fields == other["score_parts"]._fields


def test_a_dimension_without_a_plate_cannot_be_packed():
    def model():
        yield cp.sample("x", dist.Normal(torch.zeros(3), 1.0))

    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    with pytest.raises(ShapeError, match="dim -1, which belongs to no plate") as caught:
        trace.pack_tensors()
    assert "x dist 3 |" in caught.value.__notes__[0]


def test_the_table_of_shapes_is_pyros():
    def body(L):
        yield from scaled(L)
        yield L.sample("scalar", L.d.Normal(0.0, 1.0))

    mine, pyros = OURS.trace(OURS.model(body)), PYROS.trace(PYROS.model(body))
    for trace in (mine, pyros):
        trace.compute_log_prob()
    for arguments in ({}, {"last_site": "b"}, {"title": "Shapes"}):
        lines = [
            [line.rstrip().split() for line in trace.format_shapes(**arguments).splitlines()]
            for trace in (mine, pyros)
        ]
        assert lines[0] == lines[1]
    assert poutine.Trace().format_shapes() == "Trace Shapes:"


# --- copies ---------------------------------------------------------------------------------


def test_a_copy_has_the_same_nodes_and_a_life_of_its_own():
    trace = get_trace(mixed, 0.25)
    other = trace.copy()
    other.remove_node("a")
    assert "a" in trace and "a" not in other
    assert other.nodes["z"] is trace.nodes["z"]


def test_traces_are_pickled_and_copied_deeply():
    trace = get_trace(mixed, 0.25, a=True, z=torch.tensor(1.0))
    trace.nodes["a"]["continuation"] = lambda msg: None
    for other in (pickle.loads(pickle.dumps(trace)), copy.deepcopy(trace)):
        assert list(other) == list(trace)
        assert other.nodes["a"]["continuation"] is None
        assert float(other.log_prob_sum()) == pytest.approx(float(trace.log_prob_sum()))


def test_detaching_cuts_the_values():
    z = torch.tensor(1.0, requires_grad=True)
    trace = get_trace(mixed, 0.25, z=z * 2)
    trace.detach_()
    assert not trace.nodes["z"]["value"].requires_grad


def test_the_repr_is_a_table_of_the_sites():
    trace = get_trace(mixed, 0.25, a=True, z=torch.tensor(1.0))
    lines = repr(trace).splitlines()
    assert lines[0] == "Trace of 4 sites:"
    assert lines[1].split() == ["_INPUT", "input", "0.25"]
    assert lines[2].split() == ["a", "observed", "True", "~", "Flip(0.25)"]
    assert lines[-1].split() == ["_RETURN", "return", "True"]

    def many():
        for i in range(100):
            yield cp.sample(f"x{i}", dist.Flip(0.5))

    text = repr(poutine.trace(many).get_trace())
    assert "Trace of 100 sites" in text and len(text.splitlines()) == 21 and "83 more" in text
    assert repr(poutine.Trace()) == "Trace of 0 sites"
