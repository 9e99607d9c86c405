"""The seed's handlers, for generator models: `trace`, `condition`, `replay`, `block`, `escape`,
`queue`, with Pyro's names, keywords and semantics."""

from contpoutine.poutine import (
    block_messenger,
    broadcast_messenger,
    condition_messenger,
    escape_messenger,
    handlers,
    indep_messenger,
    messenger,
    plate_messenger,
    replay_messenger,
    runtime,
    subsample_messenger,
    trace_messenger,
    trace_struct,
    util,
)
from contpoutine.poutine.delay.handler import delayed, posterior
from contpoutine.poutine.delay.take_number import realize
from contpoutine.poutine.handlers import block, broadcast, condition, escape, queue, replay, trace
from contpoutine.poutine.runtime import NonlocalExit
from contpoutine.poutine.trace_struct import Trace

__all__ = [
    "NonlocalExit",
    "Trace",
    "block",
    "block_messenger",
    "broadcast",
    "broadcast_messenger",
    "condition",
    "condition_messenger",
    "delayed",
    "escape",
    "escape_messenger",
    "handlers",
    "indep_messenger",
    "messenger",
    "plate_messenger",
    "posterior",
    "queue",
    "realize",
    "replay",
    "replay_messenger",
    "runtime",
    "subsample_messenger",
    "trace",
    "trace_messenger",
    "trace_struct",
    "util",
]
