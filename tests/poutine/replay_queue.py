"""The queue as Pyro has it, made of trace, escape and replay: the reference for `poutine.queue`.

Every partial trace runs the model from its start. Handlers around it see the prefix again each
time, and are told to forget it when the execution is given up.
"""

from __future__ import annotations

import functools
import queue

from contpoutine import poutine
from contpoutine.errors import EmptyQueueError
from contpoutine.poutine.util import discrete_escape, enum_extend


def replay_queue(
    fn, queue, max_tries=1000, extend_fn=enum_extend, escape_fn=discrete_escape, num_samples=-1
):
    def call(*args, **kwargs):
        for _ in range(max_tries):
            if queue.empty():
                raise EmptyQueueError
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


def iterate(make_queued, model, args=(), make_queue=queue.Queue, **options):
    """The complete traces that a queue gives, in order."""
    partial = make_queue()
    partial.put(poutine.Trace())
    explored = make_queued(model, queue=partial, **options)
    while not partial.empty():
        yield poutine.trace(explored).get_trace(*args)


def executions(*args, **options):
    """The same as a list."""
    return list(iterate(*args, **options))


def sites(trace):
    """What a trace says, site by site, comparable."""
    return [
        (name, node["type"], node.get("is_observed"), node.get("value"), repr(node.get("fn")))
        for name, node in trace.nodes.items()
    ]


def log_probs(traces):
    return [float(trace.log_prob_sum()) for trace in traces]


__all__ = ["executions", "iterate", "log_probs", "replay_queue", "sites"]
