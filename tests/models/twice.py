"""Models written once and run by two libraries: this one, and pyro-ppl as an oracle.

A body takes a `Library` and yields its effects. Here it is a generator model as it is. For Pyro,
each request is a call that waits, and the model performs it as soon as it is yielded. So both run
the very same lines, and from the same seed they draw the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions
import torch
from pyro import poutine as pyro_poutine

import contpoutine as cp
import contpoutine.distributions
from contpoutine import poutine

Body = Callable[..., Any]


class Later:
    """A call that waits."""

    def __init__(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.call = lambda: fn(*args, **kwargs)


def later(fn: Callable[..., Any]) -> Callable[..., Later]:
    return lambda *args, **kwargs: Later(fn, args, kwargs)


def performed(body: Any) -> Any:
    """Run a generator of calls that wait, and of such generators."""
    value, error = None, None
    while True:
        try:
            request = body.send(value) if error is None else body.throw(error)
        except StopIteration as stop:
            return stop.value
        error = None
        try:
            value = request.call() if isinstance(request, Later) else performed(request)
        except BaseException as raised:
            error = raised


@dataclass(frozen=True)
class Library:
    """The names that a body uses."""

    name: str
    d: Any
    poutine: Any
    sample: Any
    factor: Any
    deterministic: Any
    subsample: Any
    plate: Any
    get_mask: Any
    effectful: Any

    def model(self, body: Body) -> Callable[..., Any]:
        """The body as a model of this library."""
        if self.name == "contpoutine":
            return lambda *args: body(self, *args)
        return lambda *args: performed(body(self, *args))

    def trace(self, model: Any, seed: int = 0) -> Any:
        """The trace of one run from that seed."""
        torch.manual_seed(seed)
        return self.poutine.trace(model).get_trace()


OURS = Library(
    "contpoutine",
    contpoutine.distributions,
    poutine,
    cp.sample,
    cp.factor,
    cp.deterministic,
    cp.subsample,
    cp.plate,
    getattr(poutine, "get_mask", None),
    cp.effectful,
)
PYROS = Library(
    "pyro",
    pyro.distributions,
    pyro_poutine,
    later(pyro.sample),
    later(pyro.factor),
    later(pyro.deterministic),
    later(pyro.subsample),
    pyro.plate,
    getattr(pyro_poutine, "get_mask", None),
    pyro_poutine.runtime.effectful,
)


def signature(trace: Any) -> list[dict[str, Any]]:
    """What is compared of a trace: each site with its value, shapes, plates and log-probability."""
    trace.compute_log_prob()
    sites = []
    for name, node in trace.nodes.items():
        if node["type"] not in ("sample", "param"):
            continue
        site: dict[str, Any] = {
            "name": name,
            "type": node["type"],
            "is_observed": node.get("is_observed"),
            "plates": [tuple(frame)[:4] for frame in node["cond_indep_stack"]],
            "scale": float(torch.as_tensor(node["scale"]).sum()),
        }
        factor = type(node["fn"]).__name__ == "Unit"
        computed = node["infer"].get("_deterministic", False)
        if not factor:  # Pyro's factor has an empty tensor as its value
            site["value"] = torch.as_tensor(node["value"])
        if node["type"] == "sample" and not computed:
            site["log_prob"] = torch.as_tensor(node["log_prob"])
            site["batch_shape"] = tuple(getattr(node["fn"], "batch_shape", site["log_prob"].shape))
        sites.append(site)
    return sites


def assert_same(mine: list[dict[str, Any]], pyros: list[dict[str, Any]]) -> None:
    """Equal, with numbers to 1e-6 relative to their size."""
    assert [site["name"] for site in mine] == [site["name"] for site in pyros]
    for one, other in zip(mine, pyros):
        assert one.keys() == other.keys(), one["name"]
        for key, value in one.items():
            if isinstance(value, torch.Tensor):
                assert value.shape == other[key].shape, (one["name"], key, value, other[key])
                torch.testing.assert_close(
                    value.double(), other[key].double(), rtol=1e-6, atol=1e-6, msg=f"{one} {key}"
                )
            else:
                assert value == other[key], (one["name"], key)
