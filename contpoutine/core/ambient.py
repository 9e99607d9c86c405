"""The stack of handlers that are installed right now.

It is an immutable tuple in a context variable, outermost handler first. Immutable, because a
suspended computation keeps its part of the stack and gets the very same part back when it is
resumed; in a context variable, so that threads and asyncio tasks do not see each other's handlers.
Entries are Messengers, and marks that stand for installed control handlers.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

AMBIENT: ContextVar[tuple[Any, ...]] = ContextVar("contpoutine_handlers", default=())

BRANCHING: ContextVar[Any] = ContextVar("contpoutine_branching", default=None)
"""The `Entered` of the model that is being enumerated, which is told of the handlers it enters."""

DRIVEN: ContextVar[bool] = ContextVar("contpoutine_driven", default=False)
"""Is a model being driven whose choices are somebody's to make, as in an enumeration? A model that
is run inside of it by a plain call would draw its own choices at random, which is refused."""

SEEDED: ContextVar[Any] = ContextVar("contpoutine_seeded", default=None)
"""Do the global random number generators run on a seeded stream now? Then, a pair: their states
outside of it, and what this variable is there. A run that gives up a branch inside goes back."""

BRIDGE: ContextVar[Any] = ContextVar("contpoutine_bridge", default=None)
"""Whose ordinary function is running right now: the `Bridge` that takes its effects to the machine,
or None where there is none. A machine that starts inside of one hides it from its own models."""
