"""An opened log in a replica's hands, from the moment it is attached until it is detached.

What the log's thread still answers after that belongs to a life that is over, and is not heard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from mosaik.consensus import Write
from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import StorageError, StorageFull

__all__ = ["Attachment", "Disk", "Outcome"]

log = logging.getLogger("mosaik.groups")

Outcome = StorageError | None

#: A write that found the disk full is tried again after these seconds, doubling up to the last.
_FULL_PAUSE: Final = 0.1
_LONGEST_FULL_PAUSE: Final = 5.0


class Disk(Protocol):
    """The opened log, worked by its own thread; answers come on the event loop."""

    def write(self, batch: WriteBatch[Any], done: Callable[[Outcome], None]) -> None: ...

    def read(
        self,
        first: int,
        last: int,
        limit: int,
        done: Callable[[list[Entry[Any]] | StorageError], None],
    ) -> None: ...


class Attachment:
    """What one replica does with one opened log.

    Args:
        name: the group's, for messages.
        disk: the log.
        loop: where everything happens.
        persisted: is called with a write's number when it is durable.
        full: is called each time a write found no room; nothing was written then.
        broken: is called when the log fails, with the error.
    """

    def __init__(
        self,
        name: str,
        disk: Disk,
        loop: asyncio.AbstractEventLoop,
        *,
        persisted: Callable[[int], None],
        full: Callable[[], None],
        broken: Callable[[StorageError], None],
    ) -> None:
        self._name = name
        self._disk = disk
        self._loop = loop
        self._persisted = persisted
        self._full = full
        self._broken = broken
        self._over = False
        #: Why the store takes no writes at the moment; empty while it does.
        self.no_room = ""

    def end(self) -> None:
        """Hears no answer from now on."""
        self._over = True

    def write(self, write: Write, pause: float = _FULL_PAUSE) -> None:
        """Makes a step's batch durable; one that finds no room is tried again until there is some."""
        if self._over:
            return

        def done(error: Outcome) -> None:
            if self._over:
                return
            if error is None:
                self._has_room()
                self._persisted(write.sequence)
            elif isinstance(error, StorageFull):
                self._found_full(error)
                longer = min(2 * pause, _LONGEST_FULL_PAUSE)
                self._loop.call_later(pause, self.write, write, longer)
            else:
                self._broken(error)

        self._disk.write(write.batch, done)

    def _found_full(self, error: StorageFull) -> None:
        if not self.no_room:
            log.error("%s: %s; trying again until there is room", self._name, error)
        self.no_room = f"this node's store cannot be written: {error}"
        self._full()

    def _has_room(self) -> None:
        if self.no_room:
            self.no_room = ""
            log.warning("%s: the store has room again", self._name)

    def read(
        self, first: int, last: int, limit: int, found: Callable[[list[Entry[Any]]], None]
    ) -> None:
        """Reads a part of the log."""

        def done(answer: list[Entry[Any]] | StorageError) -> None:
            if self._over:
                return
            if isinstance(answer, StorageError):
                self._broken(answer)
            else:
                found(answer)

        self._disk.read(first, last, limit, done)
