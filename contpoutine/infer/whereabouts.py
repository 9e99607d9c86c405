"""Where each state of a graph waits, for pictures: found out when somebody looks.

The frames of a state are gone once it was resumed, and to keep lines and values for each state
would cost more than exploring does. So the model is explored a second time, in the same order, when
the first question is asked, and this time each state is looked at while it waits.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from contpoutine.core.capture import provider
from contpoutine.core.native import native
from contpoutine.infer.state_graph import Where

Explore = Callable[[Callable[[int, Any], None]], None]


class Whereabouts(Mapping[int, Where]):
    """The `where` column of a state graph.

    `explore(look)` explores as many states as the graph has, and calls `look(state, frame)` for
    each that it finds.
    """

    def __init__(self, explore: Explore) -> None:
        self._explore: Explore | None = explore
        self._known: dict[int, Where] = {}

    def _found(self) -> dict[int, Where]:
        explore, self._explore = self._explore, None
        if explore is not None:
            explore(self._look)
        return self._known

    def _look(self, state: int, frame: Any) -> None:
        if native is None or frame is None:
            return
        _, file, line, live = native.where(frame)
        text = linecache.getline(file, line).strip() or f"{PurePath(file).name}:{line}"
        held = tuple((name, provider().keep(value)) for name, value in live)
        self._known[state] = Where(text, held)

    def __getitem__(self, state: int) -> Where:
        return self._found()[state]

    def __iter__(self) -> Iterator[int]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())
