"""What is left to do in a frame, where it is nothing but arithmetic and a return.

`return 1 + (yield tree(depth - 1))` waits for a call, and then adds and returns. What such a frame
will return is decided by the operands that it holds and the value that it is sent; if all of those
are plain numbers or strings, no code of anybody's runs on the way. So frames in the same state need
not be cloned and run for each branch that returns through them: the answer of the first serves the
others (`native/returns.c`).

The invariant: an instruction that could call anything, touch anything but the frame's own locals
and stack, jump, or yield again is not on the list below, and its frame is run as ever. Nor may
the arithmetic be inside a `try`: its handler would return what this reading does not see.
"""

from __future__ import annotations

import dis
from types import CodeType

PLAIN = (int, float, bool, complex, str, bytes, type(None))

_SILENT = {"RESUME", "NOP", "EXTENDED_ARG", "CACHE", "TO_BOOL", "COPY", "SWAP", "POP_TOP"}
_ARITHMETIC = {"BINARY_OP", "COMPARE_OP", "UNARY_NEGATIVE", "UNARY_NOT", "UNARY_INVERT"}
_READ = {"LOAD_FAST", "LOAD_FAST_CHECK"}
_END = {"RETURN_VALUE", "RETURN_CONST"}


def reads_before_return(code: CodeType, lasti: int) -> tuple[int, ...] | None:
    """The locals that are read on the way from a yield to the return, if the way is pure.

    Args:
        code: the code of the suspended frame.
        lasti: the byte offset of the instruction it is suspended at.

    Returns:
        Indices among the frame's fast locals; None where more than arithmetic is left to do.

    >>> def count(n):
    ...     below = yield count(n - 1)
    ...     return below * n + 1
    >>> at = next(i.offset for i in dis.get_instructions(count) if i.opname == "YIELD_VALUE")
    >>> [count.__code__.co_varnames[i] for i in reads_before_return(count.__code__, at)]
    ['n']
    """
    instructions = iter(dis.get_instructions(code))
    for instruction in instructions:
        if instruction.offset >= lasti and instruction.opname == "RESUME":
            break
    guarded = _guarded(code)
    read: dict[int, None] = {}
    written: set[int] = set()
    for instruction in instructions:
        name, arg = instruction.opname, instruction.arg or 0
        if name in _END:
            ends_well = name != "RETURN_CONST" or type(instruction.argval) in PLAIN
            return tuple(read) if ends_well else None
        if instruction.is_jump_target or any(instruction.offset in span for span in guarded):
            return None
        if name in _READ:
            loads, stores = [arg], []
        elif name == "STORE_FAST":
            loads, stores = [], [arg]
        elif name == "LOAD_FAST_LOAD_FAST":
            loads, stores = [arg >> 4, arg & 15], []
        elif name == "STORE_FAST_LOAD_FAST":
            loads, stores = [arg & 15] if arg & 15 != arg >> 4 else [], [arg >> 4]
        elif name == "STORE_FAST_STORE_FAST":
            loads, stores = [], [arg >> 4, arg & 15]
        elif name == "LOAD_CONST":
            if type(instruction.argval) not in PLAIN:
                return None
            continue
        elif name in _SILENT or name in _ARITHMETIC:
            continue
        else:
            return None
        read.update(dict.fromkeys(i for i in loads if i not in written))
        written.update(stores)
    return None


def _guarded(code: CodeType) -> list[range]:
    """Where an exception is handled. From 3.12 on an entry of the compiler's own covers each
    generator, to turn a StopIteration into an error; that handles nothing."""
    names = {i.offset: i.opname for i in dis.get_instructions(code)}
    return [
        range(entry.start, entry.end)
        for entry in dis._parse_exception_table(code)  # type: ignore[attr-defined]
        if names.get(entry.target) != "CALL_INTRINSIC_1"
    ]
