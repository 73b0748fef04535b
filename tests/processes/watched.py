"""State machines of nodes that tell how long their event loop stood still; some with a planted bug.

A group asks its machine for the type of its commands when it is joined. There the watch begins, so that
it sees the opening of the store too.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from mosaik.groups import applier
from mosaik.machines import ApplyContext, Map
from tests.processes.loopwatch import LoopWatch, Stall

__all__ = [
    "BLOCKED",
    "BLOCKING_KEY",
    "Stalls",
    "WatchedMap",
    "blocking_map",
    "unsliced_map",
    "watched_map",
]

#: What the planted bug blocks the loop for, in seconds, when it applies this key.
BLOCKED: Final = 0.03
BLOCKING_KEY: Final = "block"


class Stalls(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Asks for the longest stalls; those seen before are forgotten if so asked."""

    forget: bool = False


class WatchedMap(Map[str, str]):
    """A dictionary of text that counts its commands and has its event loop watched."""

    def __init__(self) -> None:
        super().__init__(str, str)
        self.applied = 0
        self._watch: LoopWatch | None = None

    @property
    def command_type(self) -> Any:
        if self._watch is None:
            self._watch = LoopWatch(lambda: self.applied)
        return super().command_type

    @property
    def query_type(self) -> Any:
        return super().query_type | Stalls

    def apply(self, command: Any, context: ApplyContext) -> Any:
        self.applied += 1
        return super().apply(command, context)

    def query(self, query: Any) -> Any:
        return self.stalls(query) if isinstance(query, Stalls) else super().query(query)

    def stalls(self, query: Stalls) -> list[Stall]:
        """The longest stalls of this node's loop, longest first."""
        assert self._watch is not None
        stalls = self._watch.stalls()
        if query.forget:
            self._watch.forget()
        return stalls


class BlockingMap(WatchedMap):
    """A planted bug: one command blocks the event loop."""

    def apply(self, command: Any, context: ApplyContext) -> Any:
        if command.key == BLOCKING_KEY:
            time.sleep(BLOCKED)
        return super().apply(command, context)


def watched_map() -> WatchedMap:
    return WatchedMap()


def blocking_map() -> BlockingMap:
    return BlockingMap()


def unsliced_map() -> WatchedMap:
    """A planted bug: whatever is committed is read and applied in one go."""
    applier.__dict__.update(SLICE=float("inf"), READ_BYTES=1 << 40)
    return WatchedMap()
