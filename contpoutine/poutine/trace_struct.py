"""Trace: what one execution of a model did, site by site.

`trace.nodes` maps each site's name to a dictionary with the fields of its message, in the order in
which the sites were performed. Two nodes describe the execution as a whole: `_INPUT` (`args` and
`kwargs`) and `_RETURN` (`value`). A name occurs once: a second site of the same name is refused,
except that a parameter may be read again.

Torch is imported when a log-probability is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

from contpoutine.core.message import Message
from contpoutine.core.record import STREAM
from contpoutine.errors import DuplicateSiteError, ShapeError, UnknownSiteError
from contpoutine.poutine.dense_edges import dense_edges, topological
from contpoutine.poutine.packing import pack, symbols_of
from contpoutine.poutine.score_parts import ScoreParts, score_parts
from contpoutine.poutine.shapes_table import shapes_table
from contpoutine.poutine.site_log_prob import is_plain, log_weight_of, site_log_prob

if TYPE_CHECKING:
    import torch

Node = dict[str, Any]
SiteFilter = Callable[[str, Node], bool]

_SHOWN = 20  # how many nodes a repr shows
_WIDTH = 48  # and how many characters of a value


def every_site(name: str, node: Node) -> bool:
    """The site filter that takes every site."""
    return True


class Trace:
    """The sites of one execution: names, distributions, values.

    Args:
        graph_type: "flat", or "dense" for a trace that knows which sites may depend on which.

    >>> import contpoutine as cp
    >>> def model(p):
    ...     a = yield cp.sample("a", cp.distributions.Flip(p))
    ...     yield cp.sample("b", cp.distributions.Flip(0.25), obs=True)
    ...     return a
    >>> trace = cp.poutine.trace(model).get_trace(1.0)
    >>> list(trace)
    ['_INPUT', 'a', 'b', '_RETURN']
    >>> trace.nodes["b"]["value"], trace.nodes["b"]["is_observed"]
    (True, True)
    >>> trace.log_prob_sum().exp()
    tensor(0.2500, dtype=torch.float64)
    """

    def __init__(self, graph_type: str = "flat") -> None:
        if graph_type not in ("flat", "dense"):
            raise ValueError(f"the graph type of a trace is 'flat' or 'dense', not {graph_type!r}")
        self.graph_type = graph_type
        self.nodes: dict[str, Node] = {}
        self._edges: dict[str, dict[str, None]] = {}  # those that were added: site, its successors
        self._requests: dict[str, Any] = {}  # where each site was written, asked when it matters
        self._resume: Any = None  # how `poutine.queue` goes on from here without running again

    # --- nodes

    def add_node(self, site_name: str, **fields: Any) -> None:
        """Add a site with these fields; `type` is one of them.

        Raises:
            DuplicateSiteError: the trace has a site of that name. A parameter may come again.
        """
        self._add(site_name, fields, None)

    def add_message(self, msg: Any) -> None:
        """Add the site that a message describes, as it is now."""
        self._add(msg["name"], _node(msg), msg)

    def add_messages(self, messages: list[Any]) -> None:
        """Add the sites of many messages."""
        nodes, requests = self.nodes, self._requests
        for msg in messages:
            node = _node(msg)
            name = node["name"]
            if name in nodes:
                self._add(name, node, msg)
            else:
                nodes[name], requests[name] = node, msg

    def _add(self, name: str, node: Node, request: Any) -> None:
        met = self.nodes.get(name)
        if met is not None and not met["type"] == node["type"] == "param":
            raise DuplicateSiteError(self._duplicate(name, met, node, request))
        self.nodes[name] = node
        if request is not None:
            self._requests[name] = request

    def _duplicate(self, name: str, met: Node, node: Node, request: Any) -> str:
        first, second = _place(self._requests.get(name)), _place(request)
        places = (
            f"both performed at {first}"
            if first == second
            else f"the first performed at {first}, the second at {second}"
        )
        kinds = "sites" if met["type"] == node["type"] else f"sites ({met['type']}, {node['type']})"
        return (
            f"two {kinds} of one trace are named {name!r}: {places}. A trace finds a site by "
            f"its name, so give each a name of its own; in a loop, put the counter into it: "
            f'`yield sample(f"{name}_{{i}}", ...)`. Two executions inside one trace, such as an '
            f"enumeration or two runs in a `with trace():` block, give this as well: trace each "
            f"run by itself, `trace(model).get_trace(...)`."
        )

    def remove_node(self, site_name: str) -> None:
        """Take a site out."""
        del self.nodes[site_name]
        self._requests.pop(site_name, None)
        self._edges.pop(site_name, None)
        for after in self._edges.values():
            after.pop(site_name, None)

    def copy(self) -> Self:
        """Another trace with the same nodes; the node dictionaries are shared."""
        fresh = type(self)(self.graph_type)
        fresh.nodes.update(self.nodes)
        fresh._requests.update(self._requests)
        fresh._edges = {name: dict(after) for name, after in self._edges.items()}
        return fresh

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    # --- which site may depend on which

    def add_edge(self, site1: str, site2: str) -> None:
        """Say that `site2` depends on `site1`. Raises `UnknownSiteError` for a name not here."""
        for name in (site1, site2):
            if name not in self.nodes:
                raise UnknownSiteError(f"the trace has no site {name!r}, so it can have no edge")
        self._edges.setdefault(site1, {})[site2] = None

    @property
    def _dependencies(self) -> dict[str, list[str]]:
        """For each site the sites that it may depend on, in the order of the trace.

        In a dense trace a sample site may depend on all before it, but for those in another element
        of the same sequential plate. In a flat one there is only what was added.
        """
        found = dense_edges(self.nodes) if self.graph_type == "dense" else {}
        for name, after in self._edges.items():
            for other in after:
                if name not in found.setdefault(other, []):
                    found[other].append(name)
        return found

    @property
    def edges(self) -> Iterator[tuple[str, str]]:
        """Pairs of sites, the second of which may depend on the first."""
        successors = self._successors()
        return ((name, after) for name, others in successors.items() for after in others)

    def _successors(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name, before in self._dependencies.items():
            for other in before:
                found[other].append(name)
        return found

    def predecessors(self, site_name: str) -> set[str]:
        """The sites that it may depend on."""
        return set(self._dependencies.get(site_name, ()))

    def successors(self, site_name: str) -> set[str]:
        """The sites that may depend on it."""
        return set(self._successors()[site_name])

    def topological_sort(self, reverse: bool = False) -> list[str]:
        """The names of all nodes, each before those that depend on it; after them if `reverse`."""
        order = topological(list(self.nodes), self._successors())
        return order[::-1] if reverse else order

    # --- which site is what

    def iter_stochastic_nodes(self) -> Iterator[tuple[str, Node]]:
        """Name and node of each sample site that was not observed."""
        for name, node in self.nodes.items():
            if node["type"] == "sample" and not node["is_observed"]:
                yield name, node

    @property
    def stochastic_nodes(self) -> list[str]:
        """Names of the sample sites that were not observed."""
        return [name for name, _ in self.iter_stochastic_nodes()]

    @property
    def observation_nodes(self) -> list[str]:
        """Names of the observed sites."""
        return [
            name
            for name, node in self.nodes.items()
            if node["type"] == "sample" and node["is_observed"]
        ]

    @property
    def param_nodes(self) -> list[str]:
        """Names of the parameter sites."""
        return [name for name, node in self.nodes.items() if node["type"] == "param"]

    @property
    def reparameterized_nodes(self) -> list[str]:
        """Names of the unobserved sites whose draws carry gradients (`has_rsample`)."""
        return [
            name
            for name, node in self.iter_stochastic_nodes()
            if getattr(node["fn"], "has_rsample", False)
        ]

    @property
    def nonreparam_stochastic_nodes(self) -> list[str]:
        """Names of the unobserved sites whose draws carry no gradients."""
        with_gradients = set(self.reparameterized_nodes)
        return [name for name in self.stochastic_nodes if name not in with_gradients]

    # --- log-probabilities

    def log_prob_sum(self, site_filter: SiteFilter = every_site) -> torch.Tensor:
        """The log-probability of all sample sites together, as a 0-dim tensor.

        Observed sites count, and each site's scale and mask apply. Sites that no gradient can pass
        (finite distributions, `Bernoulli(0.3)`) are weighed as the enumeration weighs them, in
        float64. The other sites keep torch's dtype, and gradients flow; where there are only such
        sites, the sum has their dtype.

        Args:
            site_filter: takes a name and a node; sites for which it is False do not count.

        Raises:
            OutsideSupportError: a value is none of its finite distribution's values.
        """
        import torch

        number: float | None = None
        total: torch.Tensor | None = None
        for name, node in self.nodes.items():
            if node["type"] != "sample" or not site_filter(name, node):
                continue
            if "log_prob_sum" not in node and is_plain(node):
                number = log_weight_of(node) + (number or 0.0)
                continue
            if "log_prob_sum" not in node:
                node["log_prob_sum"] = self._log_prob(name, node)[1].sum()
            total = node["log_prob_sum"] if total is None else total + node["log_prob_sum"]
        if total is None:
            return torch.tensor(number or 0.0, dtype=torch.float64)
        return total if number is None else total + torch.tensor(number, dtype=torch.float64)

    def compute_log_prob(self, site_filter: SiteFilter = every_site) -> None:
        """Write each sample site's log-probability into its node, as tensors.

        `unscaled_log_prob` and `log_prob` (with scale and mask) have the distribution's batch
        shape, `log_prob_sum` is 0-dim.
        """
        for name, node in self.nodes.items():
            if node["type"] == "sample" and "log_prob" not in node and site_filter(name, node):
                node["unscaled_log_prob"], node["log_prob"] = self._log_prob(name, node)
                node["log_prob_sum"] = node["log_prob"].sum()

    def _log_prob(self, name: str, node: Node) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            return site_log_prob(node)
        except Exception as error:
            error.add_note(self.format_shapes(last_site=name))
            raise

    def compute_score_parts(self) -> None:
        """Write each sample site's terms of a gradient estimator into its node, as `score_parts`,
        and the log-probabilities that `compute_log_prob` writes.
        """
        for name, node in self.nodes.items():
            if node["type"] == "sample" and "score_parts" not in node:
                parts = score_parts(node, self._log_prob(name, node)[0])
                node["unscaled_log_prob"] = parts.log_prob
                node["score_parts"] = parts = parts.scale_and_mask(node["scale"], node["mask"])
                node["log_prob"], node["log_prob_sum"] = parts.log_prob, parts.log_prob.sum()

    # --- shapes

    def symbolize_dims(self, plate_to_symbol: dict[str, str] | None = None) -> None:
        """Give each plate and each enumerated site a letter, in `infer["_dim_to_symbol"]`.

        Args:
            plate_to_symbol: letters that plates have already, by name; new ones are added.
        """
        plates = {} if plate_to_symbol is None else plate_to_symbol
        self.plate_to_symbol, self.symbol_to_dim = plates, {}
        for node in self.nodes.values():
            if node["type"] == "sample":
                symbols = symbols_of(node, plates)
                self.symbol_to_dim.update({symbol: dim for dim, symbol in symbols.items()})
                node["infer"]["_dim_to_symbol"] = symbols
                if "_enumerate_dim" in node["infer"]:
                    node["infer"]["_enumerate_symbol"] = symbols[node["infer"]["_enumerate_dim"]]

    def pack_tensors(self, plate_to_symbol: dict[str, str] | None = None) -> None:
        """Write tensors without their dimensions of size one into each node, as `packed`.

        What `compute_log_prob` or `compute_score_parts` has written is packed, and the mask. A
        packed tensor has one letter for each dimension, in its attribute `_pyro_dims`.

        Raises:
            ShapeError: a tensor has a dimension that belongs to no plate and no enumerated site.
        """
        self.symbolize_dims(plate_to_symbol)
        for name, node in self.nodes.items():
            if node["type"] != "sample":
                continue
            symbols, packed = node["infer"]["_dim_to_symbol"], node.setdefault("packed", {})
            try:
                for key in ("mask", "log_prob", "unscaled_log_prob"):
                    if key in node:
                        packed[key] = pack(node[key], symbols)
                if "score_parts" in node:
                    packed["score_parts"] = ScoreParts(
                        *[pack(part, symbols) for part in node["score_parts"]]
                    )
            except ShapeError as error:
                error.add_note(f"this is about site {name!r}\n{self.format_shapes(last_site=name)}")
                raise

    def format_shapes(self, title: str = "Trace Shapes:", last_site: str | None = None) -> str:
        """A table of the shapes of all sites: batch dimensions, a bar, event dimensions.

        Args:
            title: its first line.
            last_site: leave out the sites after this one.
        """
        return shapes_table(self.nodes, title, last_site)

    def detach_(self) -> None:
        """Cut the values of sample sites from the graph that computed them."""
        for node in self.nodes.values():
            if node["type"] == "sample" and hasattr(node["value"], "detach"):
                node["value"] = node["value"].detach()

    # --- copies of other kinds

    def __fork__(self, memo: Callable[[Any], Any]) -> Trace:
        fresh = Trace(self.graph_type)
        memo.record(self, fresh)  # type: ignore[attr-defined]
        fresh.nodes = memo(self.nodes)
        fresh._requests = dict(self._requests)
        fresh._edges = {name: dict(after) for name, after in self._edges.items()}
        return fresh

    def __getstate__(self) -> dict[str, Any]:
        nodes = {
            name: {**node, "continuation": None} if node.get("continuation") else node
            for name, node in self.nodes.items()
        }
        return {**self.__dict__, "nodes": nodes, "_requests": {}, "_resume": None}

    def __repr__(self) -> str:
        sites = sum(1 for name in self.nodes if name not in ("_INPUT", "_RETURN"))
        head = f"Trace of {sites} site{'' if sites == 1 else 's'}"
        rows = [(name, *_describe(node)) for name, node in self.nodes.items()]
        if len(rows) > _SHOWN:
            left_out = len(rows) - _SHOWN + 1
            rows[_SHOWN // 2 : -(_SHOWN // 2 - 1)] = [("...", f"{left_out} more", "")]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
        lines = [f"  {a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in rows]
        return "\n".join([head + (":" if lines else ""), *lines])


def _node(msg: Any) -> Node:
    node = msg.as_dict() if type(msg) is Message else dict(msg)
    if STREAM in node:
        del node[STREAM]
    return node


def _place(request: Any) -> str:
    return request.where if isinstance(request, Message) else "an unknown place (`add_node`)"


def _describe(node: Node) -> tuple[str, str]:
    """A node's kind, and its value with its distribution, in a few words."""
    kind = node.get("type", "?")
    if kind == "args":
        given = [repr(x) for x in node["args"]]
        given += [f"{key}={x!r}" for key, x in node["kwargs"].items()]
        return "input", _cut(", ".join(given))
    if kind == "sample":
        kind = "observed" if node["is_observed"] else "sample"
        return kind, f"{_short(node['value'])} ~ {_short(node['fn'])}"
    return kind, _short(node.get("value"))


def _short(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."
