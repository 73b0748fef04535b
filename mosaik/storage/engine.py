"""The narrow seam under the contract: what differs between one engine and the next.

Theory of operation
-------------------
Validation, sealing, identity, locks, the watermark, poisoning and typed reads are the same for every
store and live in `mosaik.storage.environment`. What is left for a backend is an ordered table of rows
with one atomic, synced commit.

A *row* is a run of sealed entries, at most `ROW_SIZE` bytes unless one entry is larger, stored under
``(log, index of its first entry)``: few large rows cost a Python program far less than many small
ones. The framework cuts rows when it truncates or prunes inside one; an engine never looks inside.
*Meta* is one opaque value per log, a few hundred bytes, replaced when it changes.

A backend may implement `StorageEnvironment` and `Storage` directly instead; then all of the contract
is its own business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import msgspec

from mosaik.storage.contract import Description

__all__ = ["ROW_SIZE", "Change", "CountsOpenings", "Engine"]

#: Entries are packed into rows of at most this many bytes, unless a single entry is larger.
ROW_SIZE: Final = 64 * 1024


class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One log's part of a transaction; the parts are applied in the order in which they stand here.

    Attributes:
        log: the log's 32-byte key within the store.
        drop: first remove every row of this log.
        delete_from: remove every row whose first index is at least this.
        delete_below: remove every row whose first index is less than this.
        rows: put these ``(first index, blob)`` rows, replacing any of the same index.
        meta: replace the log's meta; None keeps it; empty removes it.
    """

    log: bytes
    drop: bool = False
    delete_from: int | None = None
    delete_below: int | None = None
    rows: Sequence[tuple[int, bytes]] = ()
    meta: bytes | None = None


class Engine(Protocol):
    """An ordered store of rows. Used by one thread at a time; every call blocks.

    Errors: raise `StorageFull` when a commit was refused and nothing of it was written;
    `StorageUnavailable` when the engine cannot be opened; `CorruptEntry` (index 0) when the engine
    itself reports damage. Anything else that a `commit` raises poisons the environment.
    """

    def settle(self) -> None:
        """Makes all that this opening can read durable, before any of it is served.

        Pages of a commit whose sync failed may be clean in the kernel's cache and absent on disk;
        an engine that replays a log must write that log's content anew.
        """
        ...

    def logs(self) -> list[bytes]:
        """The keys of all logs that have a meta."""
        ...

    def meta(self, log: bytes) -> bytes | None:
        """A log's meta."""
        ...

    def rows(self, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        """Rows that may hold the indices ``first`` to ``last``, ascending.

        Starts with the row of the greatest first index at or below ``first`` (or the next one, when
        there is none) and ends before the row that starts beyond ``last``, or once ``limit`` bytes
        were collected; at least one row when there is one.
        """
        ...

    def last_row(self, log: bytes) -> tuple[int, bytes] | None:
        """The row with the greatest first index."""
        ...

    def commit(self, changes: Sequence[Change]) -> None:
        """Applies all changes or none, and returns when they survive what the sync mode promises."""
        ...

    def describe(self) -> Description:
        """What the engine really gives, read back after setting it."""
        ...

    def close(self) -> None:
        """Releases everything, cleanly."""
        ...


@runtime_checkable
class CountsOpenings(Protocol):
    """An engine whose store is elsewhere, and may be opened from here and there."""

    @property
    def epoch(self) -> int:
        """How often the store was opened, this time included. It is part of the store."""
        ...
