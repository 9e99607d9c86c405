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


class _NumPy:
    """NumPy's global generator. Reading its state takes 20 us, so it is read only when the memory
    of the objects that hold it has changed since the last time."""

    memory: tuple[bytes, bytes] | None = None
    state: Any = None

    def read(self) -> Any:
        numpy = sys.modules.get("numpy.random")
        if numpy is None:
            return None
        memory = None
        if native is not None:
            generator = numpy.mtrand._rand
            memory = (
                native.object_bytes(generator),
                native.object_bytes(generator._bit_generator),
            )
            if memory == self.memory:
                return self.state
        name, key, *rest = numpy.get_state()
        self.memory, self.state = memory, (name, key.tobytes(), str(key.dtype), *rest)
        return self.state

    def restore(self, state: Any) -> None:
        name, key, dtype, *rest = state
        numpy = sys.modules["numpy"]
        numpy.random.set_state((name, numpy.frombuffer(key, dtype=dtype), *rest))


_numpy = _NumPy()


def snapshot() -> State:
    """The states of the global generators, comparable with `==`."""
    return _python_state(), _numpy.read(), _torch_state()


def restore(state: State) -> None:
    """Put the global generators back, those that have moved since."""
    python, numpy, torch = state
    if python != _python_state():
        _restore_python(python)
    if numpy is not None and numpy != _numpy.read():
        _numpy.restore(numpy)
    if torch is not None and torch != _torch_state():
        module = sys.modules["torch"]
        module.default_generator.set_state(module.frombuffer(bytearray(torch), dtype=module.uint8))


def _torch_state() -> bytes | None:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "default_generator"):
        return None
    state: bytes = torch.default_generator.get_state().numpy().tobytes()
    return state


if native is not None:
    # The generator behind `random.random()` as bytes: fifty times faster than its `getstate`.
    _generator: Any = random._inst
    _read, _write = native.random_state, native.set_random_state

    def _python_state() -> Any:
        return _read(_generator), _generator.gauss_next

    def _restore_python(state: Any) -> None:
        _write(_generator, state[0])
        _generator.gauss_next = state[1]

else:

    def _python_state() -> Any:
        return random.getstate()

    def _restore_python(state: Any) -> None:
        random.setstate(state)
