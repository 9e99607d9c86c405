"""The queue as Pyro has it, made of trace, escape and replay: the reference for `poutine.queue`.

Every partial trace runs the model from its start. Handlers around it see the prefix again each
time, and are told to forget it when the execution is given up.
"""

from __future__ import annotations

import functools

from contpoutine import poutine
from contpoutine.poutine.util import discrete_escape, enum_extend


def replay_queue(
    fn, queue, max_tries=1000, extend_fn=enum_extend, escape_fn=discrete_escape, num_samples=-1
):
    def call(*args, **kwargs):
        for _ in range(max_tries):
            partial = queue.get()
            recorded = poutine.trace(
                poutine.escape(
                    poutine.replay(fn, trace=partial),
                    escape_fn=functools.partial(escape_fn, partial),
                )
            )
            try:
                return (yield from recorded(*args, **kwargs))
            except poutine.NonlocalExit as left:
                left.reset_stack()
                for longer in extend_fn(recorded.trace.copy(), left.site, num_samples=num_samples):
                    queue.put(longer)
        raise AssertionError("max_tries")

    return call


def executions(make_queued, model, args=(), make_queue=None, limit=10_000, **options):
    """The complete traces that a queue gives, in order."""
    import queue

    partial = (make_queue or queue.Queue)()
    partial.put(poutine.Trace())
    explored = make_queued(model, queue=partial, **options)
    traces = []
    while not partial.empty() and len(traces) < limit:
        traces.append(poutine.trace(explored).get_trace(*args))
    return traces


def sites(trace):
    """What a trace says, site by site, comparable."""
    return [
        (name, node["type"], node.get("is_observed"), node.get("value"), repr(node.get("fn")))
        for name, node in trace.nodes.items()
    ]


def log_probs(traces):
    return [float(trace.log_prob_sum()) for trace in traces]


__all__ = ["executions", "log_probs", "replay_queue", "sites"]
