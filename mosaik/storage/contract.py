"""The storage contract: what consensus needs of a log, and all that it may rely on.

Theory of operation
-------------------
A `StorageEnvironment` is one opened store. It holds the logs of any number of groups, has one writer,
and commits batches of several logs in one transaction with one sync. A `Storage` is the log of one
group in it. Every change goes through one door, `StorageEnvironment.commit`; the rest of the verbs
are one-line calls of it.

Every method blocks. The framework calls them from the environment's one writer thread, never from an
event loop. The rules that an implementation keeps are written out, numbered, in ``docs/storage.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

import msgspec

from mosaik.primitives.cursor import Cursor, IndexRange
from mosaik.primitives.durable import Anchor, HardState, SnapshotRef, WriteBatch
from mosaik.primitives.entry import Entry

__all__ = [
    "Capability",
    "Description",
    "LogIdentity",
    "Storage",
    "StorageEnvironment",
    "SyncMode",
]

C = TypeVar("C")
T = TypeVar("T")


class Capability(StrEnum):
    """What a backend says it survives; each claim is tested."""

    KILL_SAFE = "kill-safe"
    POWER_SAFE = "power-safe"
    CORRUPTION_DETECTING = "corruption-detecting"
    SHARED_SYNC = "shared-sync"


class SyncMode(StrEnum):
    """What an acknowledged batch survives: power loss (``full``) or the process's death (``os``)."""

    FULL = "full"
    OS = "os"


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What an opened store really gives, read back from the engine and not from what was asked.

    Attributes:
        url: where it is, with any password hidden.
        engine: the engine's name and version.
        sync: what an acknowledgement survives.
        capabilities: what the backend claims under these settings.
        settings: the engine's own values that this rests on, by name.
    """

    url: str
    engine: str
    sync: SyncMode
    capabilities: frozenset[Capability]
    settings: Mapping[str, str] = {}


class LogIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Whose log it is; stamped on the log when it is made and compared at every opening.

    Attributes:
        group: the group's id, 32 bytes; names the log within the store.
        peer: the node's id, 32 bytes.
        key: a fingerprint of the group key, 32 bytes.
        parts: the named parts that make up the group id, as people would write them.
    """

    group: bytes
    peer: bytes
    key: bytes
    parts: Mapping[str, str] = {}


@runtime_checkable
class Storage(Protocol[C]):
    """The log of one group on one node.

    Reads raise `CorruptEntry` for an entry that was acknowledged and is not what was written,
    `StoragePoisoned` after a failed write, `StorageClosed` after `close` of the environment.
    """

    @property
    def environment(self) -> StorageEnvironment:
        """The store that holds this log."""
        ...

    @property
    def hard_state(self) -> HardState:
        """The last written hard state; its ``store`` is set from the first opening on."""
        ...

    @property
    def anchor(self) -> Anchor:
        """The last pruned (or reset) position; all zero when nothing was ever pruned."""
        ...

    @property
    def tail(self) -> Anchor:
        """The last entry's cursor and checksum; the `anchor` when there is no entry."""
        ...

    @property
    def term_starts(self) -> Sequence[tuple[int, int]]:
        """``(first index, term)`` of each run of equal terms in the log, ascending; kept, not scanned."""
        ...

    @property
    def snapshot(self) -> SnapshotRef | None:
        """The newest snapshot recorded."""
        ...

    @property
    def suspect(self) -> IndexRange | None:
        """Entries beyond the watermark that are damaged or missing: neither served nor dropped.

        A torn write and rot look alike there. While this is set `last` is the last good entry;
        a batch that overwrites the range (``truncate_from``, ``reset_to``) ends the suspicion.
        """
        ...

    @property
    def suspect_term(self) -> int:
        """No acknowledged entry of the suspect range was of a higher term; 0 without one."""
        ...

    def available(self) -> IndexRange:
        """``start`` is the last pruned index (itself not readable), ``end`` the last index."""
        ...

    def last(self) -> Cursor:
        """The last entry's cursor; the pruned one without entries; (0, 0) when there was never one."""
        ...

    def term_at(self, index: int) -> int | None:
        """The term of an entry, of the pruned boundary, or 0 for index 0; else None."""
        ...

    def get(self, index: int) -> Entry[C] | None:
        """One entry; None outside what is available."""
        ...

    def get_range(self, first: int, last: int, *, limit: int | None = None) -> list[Entry[C]]:
        """The entries from ``first`` to ``last``, clamped to what is available, ascending.

        Args:
            limit: stop once this many sealed bytes were collected; at least one entry is returned
                when there is one.
        """
        ...

    def write(self, batch: WriteBatch[C]) -> None:
        """Commits one batch: durable, atomic and readable on return.

        Raises:
            InvalidBatch: it does not fit; nothing was written.
            CorruptEntry: an entry that must be read to cut the log there is damaged; nothing was
                written.
            StorageFull: refused before anything was written; may be retried.
            StoragePoisoned: it failed at or after the commit; the outcome is unknown.
        """
        ...

    def append(self, entries: Sequence[Entry[C]]) -> None:
        """Adds entries at the end."""
        ...

    def truncate(self, at: int) -> None:
        """Removes every entry with an index of ``at`` or more."""
        ...

    def prune_prefix(self, up_to: int) -> None:
        """Removes every entry up to and including ``up_to``; the rest keep their indices."""
        ...

    def reset_to(self, anchor: Anchor) -> None:
        """Removes everything; the next entry continues after ``anchor``."""
        ...

    def retire(self) -> None:
        """Forgets this log and its identity for good; a later opening makes a new store id."""
        ...


@runtime_checkable
class StorageEnvironment(Protocol):
    """One opened store: its logs, its one writer, its one sync."""

    @property
    def key(self) -> str:
        """Equal for two openings of the same store: real path and engine."""
        ...

    @property
    def poisoned(self) -> BaseException | None:
        """What poisoned this opening, if anything did."""
        ...

    @overload
    def log(self, identity: LogIdentity, decode: None = None) -> Storage[Any]: ...
    @overload
    def log(self, identity: LogIdentity, decode: Callable[[bytes], C]) -> Storage[C]: ...
    def log(
        self, identity: LogIdentity, decode: Callable[[bytes], Any] | None = None
    ) -> Storage[Any]:
        """Opens, or makes, the log of a group. Scans nothing.

        Args:
            decode: what `Entry.command` will use.

        Raises:
            StorageMismatch: the store is another node's, or holds this key's log under other parts.
            CorruptEntry: an acknowledged entry at its end is missing or damaged.
        """
        ...

    def logs(self) -> list[LogIdentity]:
        """Whose logs the store holds."""
        ...

    def commit(self, batches: Sequence[tuple[Storage[Any], WriteBatch[Any]]]) -> None:
        """Writes batches of several logs in one transaction with one sync, all or none.

        Every batch is validated before the transaction opens.
        """
        ...

    def verify(self, log: Storage[Any], report: Callable[[int], None] | None = None) -> None:
        """Reads every entry of a log; raises `CorruptEntry` for the first that is damaged.

        Args:
            report: is called with the index reached, now and then.
        """
        ...

    def describe(self) -> Description:
        """What this store really gives."""
        ...

    def idle(self) -> None:
        """Does what may be done late; called by the writer thread when it has had nothing to write."""
        ...

    def close(self) -> None:
        """Releases the store. Closing twice does nothing."""
        ...
