"""The rooms, one system each, in the order of the table."""

from __future__ import annotations

from . import bare_replay, contpoutine, hand_recursion, pyro_queue, webppl
from .room import Room

ROOMS: tuple[Room, ...] = (
    contpoutine.ROOM,
    bare_replay.ROOM,
    hand_recursion.ROOM,
    webppl.ROOM,
    pyro_queue.ROOM,
)
PEERS: tuple[str, ...] = tuple(room.peer for room in ROOMS[1:])

__all__ = ["PEERS", "ROOMS", "Room"]
