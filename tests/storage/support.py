"""What the storage tests share: sealed entries, openings, and a disk whose failures are exact."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from mosaik.primitives.durable import Anchor, HardState
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.primitives.errors import StorageFull
from mosaik.storage import Change, Description, LogIdentity, SyncMode
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.log import EngineLog
from mosaik.storage.memory import MemoryEngine
from mosaik.storage.opening import Beside, engine_environment
from mosaik.storage.plugin import Layout

PEER = b"p" * 32
OTHER = b"o" * 32
ORIGIN = Anchor()


def identity(name: str = "group", *, peer: bytes = PEER, **parts: str) -> LogIdentity:
    """The identity of a log; the name stands for group and key."""
    tag = name.encode()
    return LogIdentity(group=tag.ljust(32, b"g"), peer=peer, key=tag.ljust(32, b"k"), parts=parts)


def entries(
    count: int,
    after: Anchor = ORIGIN,
    *,
    term: int = 1,
    size: int = 16,
    time_ms: int | None = None,
) -> list[Entry[Any]]:
    """So many entries that continue a log which ends at ``after``."""
    made: list[Entry[Any]] = []
    previous = after.checksum
    for index in range(after.index + 1, after.index + count + 1):
        payload = f"{term}.{index}".encode().ljust(size, b".")
        entry: Entry[Any] = seal(
            EntryKind.COMMAND, index, term, index if time_ms is None else time_ms, payload, previous
        )
        made.append(entry)
        previous = entry.checksum
    return made


def end_of(run: Sequence[Entry[Any]]) -> Anchor:
    """Where a log ends whose last entries these are."""
    return Anchor(run[-1].term, run[-1].index, run[-1].checksum)


def hard(log: EngineLog[Any], **changes: Any) -> HardState:
    """The log's hard state with changes."""
    return msgspec.structs.replace(log.hard_state, **changes)


Key = tuple[bytes, int]
_META = -1


class Disk:
    """What outlives an engine: the kernel's cache and, under it, the medium.

    A page that a failed sync left behind is clean in the cache and absent on the medium, as it is on
    Linux: no later sync writes it, only somebody who writes the page anew.
    """

    def __init__(self) -> None:
        self.cache: dict[Key, bytes] = {}
        self.medium: dict[Key, bytes] = {}
        self.dirty: set[Key] = set()
        self.fail_syncs = 0
        self.full = False

    def write(self, pages: dict[Key, bytes]) -> None:
        """Makes these the pages there are; none of it is durable yet."""
        changed = {key for key in {*pages, *self.cache} if pages.get(key) != self.cache.get(key)}
        self.dirty |= changed
        self.cache = dict(pages)

    def sync(self) -> None:
        if self.fail_syncs:
            self.fail_syncs -= 1
            self.dirty.clear()
            raise OSError(errno.EIO, "Input/output error")
        for key in self.dirty:
            if key in self.cache:
                self.medium[key] = self.cache[key]
            else:
                self.medium.pop(key, None)
        self.dirty.clear()

    def lose_power(self) -> None:
        self.cache = dict(self.medium)
        self.dirty.clear()


class DiskEngine(MemoryEngine):
    """An engine on a `Disk`: every commit is written and synced."""

    def __init__(self, disk: Disk, *, sync: SyncMode = SyncMode.FULL) -> None:
        super().__init__("disk")
        self.disk = disk
        self._mode = sync
        for log, first in disk.cache:
            blob = disk.cache[log, first]
            super().commit(
                [Change(log=log, meta=blob) if first == _META else _row(log, first, blob)]
            )

    def settle(self) -> None:
        # Everything is written anew: what the cache holds as clean may not be on the medium.
        self.disk.dirty |= set(self.disk.cache) | set(self.disk.medium)
        self.disk.sync()

    def commit(self, changes: Sequence[Change]) -> None:
        if self.disk.full:
            raise StorageFull("no space left on the disk")
        super().commit(changes)
        self.disk.write(self._pages())
        if self._mode is SyncMode.FULL:
            self.sync()

    def sync(self) -> None:
        self.disk.sync()

    def describe(self) -> Description:
        return Description(url="disk", engine="disk", sync=self._mode, capabilities=frozenset())

    def _pages(self) -> dict[Key, bytes]:
        pages = {(log, _META): meta for log, meta in self._metas.items()}
        for log, held in self._logs.items():
            pages.update({(log, first): blob for first, blob in held.blobs.items()})
        return pages


def _row(log: bytes, first: int, blob: bytes) -> Change:
    return Change(log=log, rows=[(first, blob)])


def open_disk(
    disk: Disk,
    path: Path,
    *,
    engine: type[DiskEngine] = DiskEngine,
    sync: SyncMode = SyncMode.FULL,
    peer: bytes = PEER,
) -> EngineEnvironment:
    """Opens a store on a disk; lock and watermark are real files under ``path``."""
    path.mkdir(exist_ok=True)
    return engine_environment(
        lambda: engine(disk, sync=sync),
        key=f"disk:{path}",
        url=f"disk://{path}",
        peer=peer,
        beside=Beside.of(path, Layout.DIRECTORY),
    )


def abandon(environment: EngineEnvironment) -> None:
    """What a SIGKILL leaves: nothing is flushed, and the kernel lets go of the files."""
    environment._poisoned_by(KeyboardInterrupt("killed"))
