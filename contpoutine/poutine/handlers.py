"""The handlers, under Pyro's names and with Pyro's keywords.

Each is used in three ways:

    condition(model, data=...)        gives a model
    @condition(data=...)              decorates one
    with condition(data=...): ...     handles what is performed in the block

Wrapping a generator model gives a generator model, so handlers compose. A handler sees what those
inside of it let through: `trace(condition(model, data=...))` records the observed values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from contpoutine.poutine.block_messenger import BlockMessenger, HideFn
from contpoutine.poutine.broadcast_messenger import BroadcastMessenger
from contpoutine.poutine.collapse_messenger import collapse
from contpoutine.poutine.condition_messenger import ConditionMessenger, Data
from contpoutine.poutine.do_messenger import do
from contpoutine.poutine.enum_messenger import enum
from contpoutine.poutine.equalize_messenger import equalize
from contpoutine.poutine.escape_messenger import EscapeMessenger
from contpoutine.poutine.infer_config_messenger import infer_config
from contpoutine.poutine.lift_messenger import lift
from contpoutine.poutine.markov_messenger import markov
from contpoutine.poutine.mask_messenger import mask
from contpoutine.poutine.reparam_messenger import reparam
from contpoutine.poutine.replay_messenger import ReplayMessenger
from contpoutine.poutine.scale_messenger import scale
from contpoutine.poutine.scope_messenger import scope
from contpoutine.poutine.seed_messenger import seed
from contpoutine.poutine.substitute_messenger import substitute
from contpoutine.poutine.three_ways import Model, apply, check_model
from contpoutine.poutine.trace_messenger import TraceMessenger
from contpoutine.poutine.trace_queue import EscapeFn, ExtendFn, Queue, Settings, queued
from contpoutine.poutine.trace_struct import Trace
from contpoutine.poutine.uncondition_messenger import uncondition
from contpoutine.poutine.util import discrete_escape, enum_extend

__all__ = [
    "block",
    "broadcast",
    "collapse",
    "condition",
    "do",
    "enum",
    "equalize",
    "escape",
    "infer_config",
    "lift",
    "markov",
    "mask",
    "queue",
    "reparam",
    "replay",
    "scale",
    "scope",
    "seed",
    "substitute",
    "trace",
    "uncondition",
]

_MAX_TRIES = 1_000_000


def trace(
    fn: Model | None = None, graph_type: str | None = None, param_only: bool | None = None
) -> Any:
    """Record what happens at sample and parameter sites.

    `trace(model)` is a model with a method `get_trace(*args)`, which runs it and gives the `Trace`;
    `with trace() as tr:` records in `tr.trace`. Under enumeration, each branch has its own record.

    Args:
        graph_type: "flat", or "dense" for a trace that knows which sites may depend on which.
        param_only: record parameters only.

    >>> import contpoutine as cp
    >>> def model(p):
    ...     return (yield cp.sample("x", cp.distributions.Flip(p)))
    >>> tr = trace(model).get_trace(1.0)
    >>> tr.nodes["x"]["value"], tr.nodes["_RETURN"]["value"], tr.nodes["_INPUT"]["args"]
    (True, True, (1.0,))
    """
    return apply("trace", fn, TraceMessenger(graph_type=graph_type, param_only=param_only))


def condition(fn: Model | None = None, data: Data | None = None) -> Any:
    """Observe the sites named in `data`, with the values given there.

    Args:
        data: a mapping from site name to value, or a `Trace`. A value of None leaves its site
            unobserved.

    >>> import contpoutine as cp
    >>> def model():
    ...     x = yield cp.sample("x", cp.distributions.Flip(0.25))
    ...     return (yield cp.sample("y", cp.distributions.Flip(0.5 if x else 0.1)))
    >>> posterior = cp.infer.enumerate(condition(model, data={"y": True}))()
    >>> round(posterior.marginal("x")[True], 3)
    0.625
    """
    if data is None and fn is not None:
        check_model("condition", fn)
    return apply("condition", fn, ConditionMessenger(data))  # type: ignore[arg-type]


def replay(fn: Model | None = None, trace: Trace | None = None, params: Any = None) -> Any:
    """Give unobserved sites the values that they have in `trace`.

    Args:
        trace: the execution to take values from. Sites that it does not know are drawn.
        params: values for parameters, by name.

    Raises:
        TraceMismatchError: in the model, at a site that the trace has as an observation.

    >>> import contpoutine as cp
    >>> def model():
    ...     return (yield cp.sample("x", cp.distributions.RandInt(1000)))
    >>> tr = cp.poutine.trace(model).get_trace()
    >>> cp.run(replay(model, trace=tr)) == tr.nodes["x"]["value"]
    True
    """
    return apply("replay", fn, ReplayMessenger(trace=trace, params=params))


def block(
    fn: Model | None = None,
    hide_fn: HideFn | None = None,
    expose_fn: HideFn | None = None,
    hide_all: bool | None = None,
    expose_all: bool | None = None,
    hide: Collection[str] | None = None,
    expose: Collection[str] | None = None,
    hide_types: Collection[str] | None = None,
    expose_types: Collection[str] | None = None,
) -> Any:
    """Hide sites from the handlers further out: all of them, unless you say otherwise.

    A hidden site keeps the value that it has, or is drawn. See `BlockMessenger` for the rules.

    >>> import contpoutine as cp
    >>> def model():
    ...     a = yield cp.sample("a", cp.distributions.Flip(0.5))
    ...     b = yield cp.sample("b", cp.distributions.Flip(0.5))
    >>> list(cp.poutine.trace(block(model, hide=["a"])).get_trace())
    ['_INPUT', 'b', '_RETURN']
    """
    messenger = BlockMessenger(
        hide_fn=hide_fn,
        expose_fn=expose_fn,
        hide_all=hide_all,
        expose_all=expose_all,
        hide=hide,
        expose=expose,
        hide_types=hide_types,
        expose_types=expose_types,
    )
    return apply("block", fn, messenger)


def escape(fn: Model | None = None, escape_fn: Callable[[Any], bool] | None = None) -> Any:
    """Leave the model at the first sample site for which `escape_fn(msg)` is true.

    `NonlocalExit` is raised there, with the message in its attribute `site`.

    >>> import contpoutine as cp
    >>> def model():
    ...     yield cp.sample("a", cp.distributions.Flip(0.5))
    ...     yield cp.sample("b", cp.distributions.Flip(0.5))
    >>> try:
    ...     cp.run(escape(model, escape_fn=lambda msg: msg["name"] == "b"))
    ... except cp.poutine.NonlocalExit as left:
    ...     print(left)
    the model was left at sample 'b'
    """
    return apply("escape", fn, EscapeMessenger(escape_fn))  # type: ignore[arg-type]


def queue(
    fn: Model | None = None,
    queue: Queue | None = None,
    max_tries: int | None = None,
    extend_fn: ExtendFn | None = None,
    escape_fn: EscapeFn | None = None,
    num_samples: int | None = None,
) -> Any:
    """Explore executions through a queue of partial traces: each call gives one complete execution.

    A call takes a partial trace from the queue and continues the execution that it stands for. At a
    site for which `escape_fn` is true, it puts the traces that `extend_fn` makes of it into the
    queue and takes the next one, until an execution comes to its end. The executions are those of
    Pyro's queue, in the same order, but the suspended model is resumed and not run again: code
    before a choice runs once.

    The queue is the whole frontier: its discipline is the order of the search, and traces may be
    dropped, changed and added. Handlers around the queued model see each execution from its first
    site on. The queue's choices are settled when they see them; a handler that decides values
    belongs inside, `queue(condition(model, ...), ...)`.

    Args:
        queue: has `get()`, `put(trace)` and `empty()`. To begin, put an empty `Trace()` in.
        max_tries: how many partial traces one call may take; a million if not given.
        extend_fn: `extend_fn(trace, msg, num_samples=...)` gives the longer traces; `enum_extend`
            (every value of the support) if not given, `mc_extend` draws.
        escape_fn: `escape_fn(trace, msg)`, with the partial trace and a message, says where to
            stop; `discrete_escape` (finite support) if not given, `all_escape` stops everywhere.
        num_samples: how many longer traces `extend_fn` gives; all of them if not given.

    Raises:
        EmptyQueueError: in the model, when there is nothing to take.
        MaxTriesError: in the model, when `max_tries` is reached.
        OverruledError: in the model, when a handler around it changes a choice.

    >>> import queue as queues
    >>> import contpoutine as cp
    >>> def model():
    ...     a = yield cp.sample("a", cp.distributions.Flip(0.25))
    ...     b = yield cp.sample("b", cp.distributions.Flip(0.5))
    ...     return a + b
    >>> partial = queues.LifoQueue()
    >>> partial.put(cp.poutine.Trace())
    >>> explored = queue(model, queue=partial)
    >>> while not partial.empty():
    ...     tr = cp.poutine.trace(explored).get_trace()
    ...     print(tr.nodes["_RETURN"]["value"], round(float(tr.log_prob_sum().exp()), 4))
    0 0.375
    1 0.375
    1 0.125
    2 0.125
    """
    if not all(callable(getattr(queue, name, None)) for name in ("get", "put", "empty")):
        raise TypeError(
            f"queue(model, queue=q) needs a queue with get, put and empty, such as "
            f"queue.LifoQueue(), not {queue!r}"
        )
    limit = _MAX_TRIES if max_tries is None else max_tries
    count = -1 if num_samples is None else num_samples

    def wrap(model: Model) -> Model:
        check_model("queue", model)
        return queued(
            Settings(
                model,
                queue,  # type: ignore[arg-type]
                limit,
                enum_extend if extend_fn is None else extend_fn,
                discrete_escape if escape_fn is None else escape_fn,
                count,
            )
        )

    return wrap if fn is None else wrap(fn)


def broadcast(fn: Model | None = None) -> Any:
    """Expand the distributions of sample sites to the plates around them.

    A `plate` does that by itself; this is for a bare `IndepMessenger`.

    >>> import contpoutine as cp
    >>> from contpoutine.poutine.indep_messenger import IndepMessenger
    >>> def model():
    ...     with IndepMessenger("batch", 3):
    ...         return (yield cp.sample("x", cp.distributions.Normal(0.0, 1.0)))
    >>> cp.run(broadcast(model)).shape
    torch.Size([3])
    """
    return apply("broadcast", fn, BroadcastMessenger())
