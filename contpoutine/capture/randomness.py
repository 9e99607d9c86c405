"""The global random number generators: Python's, and NumPy's and torch's where they are loaded.

A replay starts from the state in which the first run started, so that an unnamed random number in a
replayed prefix is the same number again, and gives the generators back as it found them. Most
models draw nothing unnamed, so the states are compared before they are restored.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from contpoutine.core.native import native

State = tuple[Any, Any, Any]


def snapshot() -> State:
    """The states of the global generators, comparable with `==`."""
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    return (
        _python_state(),
        _comparable(numpy.get_state()) if numpy is not None else None,
        torch.default_generator.get_state().numpy().tobytes()
        if torch is not None and hasattr(torch, "default_generator")
        else None,
    )


def restore(state: State) -> None:
    """Put the global generators back, those that have moved since."""
    now = snapshot()
    if now == state:
        return
    python, numpy_state, torch_state = state
    if python != now[0]:
        _restore_python(python)
    if numpy_state is not None and numpy_state != now[1]:
        sys.modules["numpy.random"].set_state(_as_numpy(numpy_state))
    if torch_state is not None and torch_state != now[2]:
        torch = sys.modules["torch"]
        torch.default_generator.set_state(
            torch.frombuffer(bytearray(torch_state), dtype=torch.uint8)
        )


def _comparable(state: tuple[Any, ...]) -> tuple[Any, ...]:
    name, key, *rest = state
    return (name, key.tobytes(), str(key.dtype), *rest)


def _as_numpy(state: tuple[Any, ...]) -> tuple[Any, ...]:
    name, key, dtype, *rest = state
    return (name, sys.modules["numpy"].frombuffer(key, dtype=dtype), *rest)


if native is not None:
    # The generator behind `random.random()` as bytes: fifty times faster than its `getstate`.
    _generator: Any = random._inst  # type: ignore[attr-defined]

    def _python_state() -> Any:
        return native.random_state(_generator), _generator.gauss_next

    def _restore_python(state: Any) -> None:
        native.set_random_state(_generator, state[0])
        _generator.gauss_next = state[1]

else:

    def _python_state() -> Any:
        return random.getstate()

    def _restore_python(state: Any) -> None:
        random.setstate(state)
