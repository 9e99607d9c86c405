"""What to write instead of what a clone cannot copy, by the reason that it gives."""

from __future__ import annotations

import re

_ANYTHING = (
    "make it outside of the model and pass it as an argument (branches then share it), say how it "
    "is copied (`cp.fork.register(type, copy)`, or a method `__fork__(self, memo)`), or let go of "
    "it before the yield"
)

_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"iterator that was handed", "pass the list that it runs over, and loop over that"),
    (r"was handed to the model", "pass the function that makes the generator, and call it inside"),
    (r"was made by the model itself|that the model made$", "define the class outside of the model"),
    (
        r"__del__",
        "open it in a `with` block around the part that needs it, without a yield inside; or give "
        "the class a method `__fork__(self, memo)`",
    ),
    (r"hashed by its identity", "use `dict.fromkeys(...)`, which keeps its order, or a list"),
    (
        r"a key that the model made",
        "use keys that do not change: strings, numbers, tuples of them",
    ),
    (r"deleted", "loop over a list of the entries: `for key in list(table)`"),
    (r"too deep", "keep it flat, in a list"),
    (
        r"_io\.|[Ff]ile",
        "read what the model needs before it begins, and pass that; or open and close the file "
        "without a yield in between",
    ),
    (
        r"lock|Lock|_thread|socket|Semaphore|Condition|Event",
        "make it outside of the model and pass it as an argument: branches then share it",
    ),
    (r"deque|odict", "loop over a list of it: `for x in list(items)`"),
    (r"memoryview", "keep the bytes, and make the view after the yield"),
    (r"a frame object", "keep what you need of the frame, and not the frame"),
    (
        r"coroutine|async",
        "write it as a plain generator: an async function cannot be resumed twice",
    ),
    (r"is running", "yield the call, `yield sub(...)`, instead of advancing the generator by hand"),
    (r"extension|native capture|clone is not", "see `cp.capabilities()`: replay is all there is"),
)


def remedy(reason: str) -> str:
    """A sentence that says what to write instead.

    >>> remedy("a _io.TextIOWrapper object belongs to a library, and has no rule ...")[:41]
    'read what the model needs before it begin'
    """
    for pattern, advice in _REMEDIES:
        if re.search(pattern, reason):
            return advice
    return _ANYTHING
