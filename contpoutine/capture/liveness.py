"""Which slots of a suspended frame can still be read: a liveness pass over the bytecode.

A frame that is suspended holds more than what follows depends on: a local that is assigned again
before it is read is *dead*, and two frames that differ in dead locals only have equal futures.
`live_slots(code)` says for each place where a generator of this code can be suspended which slots
are live there: the usual backward data flow, with an edge from each instruction that a `try` covers
to its handler. Cells count as slots: whoever still reads through a cell, reads the slot.

Whoever looks at a frame from outside (`locals()`, `eval`) reads every slot, so in code that names
such a function every slot is live. A function that is called and looks into its caller's frame by
itself (`sys._getframe(1).f_locals`) is not seen.
"""

from __future__ import annotations

import dis
from collections.abc import Iterable, Iterator
from types import CodeType

LOOKS_AT_FRAMES = frozenset(
    {"locals", "eval", "exec", "vars", "dir", "super", "_getframe", "currentframe", "stack"}
)
_NO_NEXT = frozenset(
    {
        "JUMP_FORWARD",
        "JUMP_BACKWARD",
        "JUMP_BACKWARD_NO_INTERRUPT",
        "RETURN_VALUE",
        "RETURN_CONST",
        "RAISE_VARARGS",
        "RERAISE",
    }
)
_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs) | frozenset(getattr(dis, "hasjump", ()))
_SLOTS = frozenset(dis.haslocal) | frozenset(dis.hasfree)
_SUSPENDING = frozenset({"YIELD_VALUE", "RETURN_GENERATOR", "RESUME"})

DEAD, LIVE, CELL_ONLY = 0, 1, 2
"""A slot that is `CELL_ONLY` holds a cell which is written before this frame reads it: what is in
the cell matters only if somebody else has it."""

VALUE_IS_DROPPED = 1
"""The last byte of a mask: what is sent at this place is never read."""


class _Step:
    """An instruction: the slots it reads and writes, and where it can lead to."""

    __slots__ = ("live", "next", "opname", "reads", "to", "writes")

    def __init__(self, instruction: dis.Instruction, at: int, contents: bool) -> None:
        self.opname = instruction.opname
        self.reads, self.writes = _accesses(instruction)
        if contents and self.opname == "STORE_DEREF":
            self.reads, self.writes = 0, self.reads
        self.next: int | None = None if self.opname in _NO_NEXT else at + 1
        self.to: list[int] = []
        self.live = 0  # a bit for each slot, before the instruction


def _accesses(instruction: dis.Instruction) -> tuple[int, int]:
    """Bits of the slots that an instruction reads, and of those that it writes."""
    if instruction.opcode not in _SLOTS or instruction.arg is None:
        return 0, 0
    name, arg = instruction.opname, instruction.arg
    if name == "STORE_FAST":
        return 0, 1 << arg
    first, second = 1 << (arg >> 4), 1 << (arg & 15)
    if name == "STORE_FAST_LOAD_FAST":
        return second & ~first, first
    if name == "STORE_FAST_STORE_FAST":
        return 0, first | second
    if name == "LOAD_FAST_LOAD_FAST":
        return first | second, 0
    return 1 << arg, 0


def live_slots(code: CodeType) -> dict[int, bytes]:
    """A mask for each place, a byte offset as `f_lasti` has it, where the code can be suspended.

    A mask has a byte for each slot (`DEAD`, `LIVE` or `CELL_ONLY`) and a last one that is
    `VALUE_IS_DROPPED` where what is sent there is not read either. A place that is not there has
    every slot live.

    >>> def model():
    ...     a = yield 1
    ...     b = yield 2
    ...     a = yield 3
    ...     return a, b
    >>> [tuple(mask) for mask in live_slots(model.__code__).values()][-1]  # a is dead, b is live
    (0, 1, 0)
    """
    if LOOKS_AT_FRAMES.intersection(code.co_names):
        return {}
    instructions = list(dis.get_instructions(code))
    steps, inside = _flow(code, instructions, False), _flow(code, instructions, True)
    slots = len({*code.co_varnames, *code.co_cellvars}) + len(code.co_freevars)
    return {
        instruction.offset: _mask(steps, inside, at, slots)
        for at, instruction in enumerate(instructions)
        if instruction.opname in _SUSPENDING
    }


def _flow(code: CodeType, instructions: list[dis.Instruction], contents: bool) -> list[_Step]:
    """Live slots before each instruction, or cells of live contents: the least solution, by going
    round until it holds."""
    steps = [_Step(instruction, at, contents) for at, instruction in enumerate(instructions)]
    place = {instruction.offset: at for at, instruction in enumerate(instructions)}
    for step, instruction in zip(steps, instructions, strict=True):
        if instruction.opcode in _JUMPS:
            step.to.append(place[instruction.argval])
    for covered, handler in _handlers(code, place, len(steps)):
        for at in covered:
            steps[at].to.append(handler)
    changed = True
    while changed:
        changed = False
        for step in reversed(steps):
            after = steps[step.next].live if step.next is not None else 0
            live = step.reads | after & ~step.writes
            for to in step.to:  # a jump writes nothing, and what raises has written nothing
                live |= steps[to].live
            if live != step.live:
                step.live, changed = live, True
    return steps


def _handlers(code: CodeType, place: dict[int, int], n: int) -> Iterator[tuple[Iterable[int], int]]:
    """The instructions that each entry of the exception table covers, and its handler."""
    for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]
        end = place.get(entry.end, n)
        yield range(place[entry.start], end), place[entry.target]


def _mask(steps: list[_Step], inside: list[_Step], at: int, slots: int) -> bytes:
    live, contents = _live_at(steps, at), _live_at(inside, at)
    kinds = [(LIVE if contents >> i & 1 else CELL_ONLY) * (live >> i & 1) for i in range(slots)]
    return bytes([*kinds, _is_dropped(steps, at)])


def _live_at(steps: list[_Step], at: int) -> int:
    step = steps[at]
    after = steps[at + 1]
    live = after.live if step.opname == "YIELD_VALUE" else step.live | after.live
    for to in step.to:
        live |= steps[to].live
    return live


def _is_dropped(steps: list[_Step], at: int) -> int:
    """Is what is sent at this place dropped, or assigned to a local that is dead?"""
    at += steps[at].opname == "YIELD_VALUE"
    if steps[at].opname != "RESUME":
        return 0
    user = steps[at + 1]
    if user.opname == "POP_TOP":
        return VALUE_IS_DROPPED
    if user.opname in ("STORE_FAST", "STORE_FAST_LOAD_FAST") and user.next is not None:
        read = user.reads | steps[user.next].live
        return 0 if read & user.writes else VALUE_IS_DROPPED
    return 0
