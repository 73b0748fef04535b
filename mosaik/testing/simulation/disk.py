"""A simulated disk: what a process wrote on it outlives the process, as far as it was synced.

The engine is the one of `mosaik.storage.memory`; everything above it is what ships: plans, seals, identity,
watermark and recovery (`EngineEnvironment`). The watermark lies in a real file, in a directory that the
system keeps in memory.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import StorageFull, StorageUnavailable
from mosaik.storage.contract import Capability, Description, LogIdentity, Storage, SyncMode
from mosaik.storage.engine import Change
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.identity import claim
from mosaik.storage.log import EngineLog
from mosaik.storage.memory import MemoryEngine
from mosaik.storage.record import STORE_KEY
from mosaik.testing.simulation.rules.store import PlainStore

if TYPE_CHECKING:
    from mosaik.testing.simulation.node import SimNode

__all__ = ["Image", "SimDisk", "SimEngine", "SimEnvironment", "Rows", "groups_on"]

_CAPABILITIES: Final = frozenset(
    {Capability.KILL_SAFE, Capability.POWER_SAFE, Capability.CORRUPTION_DETECTING}
)


class Rows(MemoryEngine):
    """What is durable.

    Attributes:
        commits: how many transactions reached it.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.commits = 0

    def commit(self, changes: Sequence[Change]) -> None:
        super().commit(changes)
        self.commits += 1

    def copy(self) -> Rows:
        """The same, as it is now."""
        twin = Rows(self._url)
        twin._metas, twin._logs = dict(self._metas), {}
        for key, log in self._logs.items():
            for first in log.firsts:
                twin._logs.setdefault(key, type(log)()).put(first, log.blobs[first])
        return twin

    def spoil(self, log: bytes, first: int, blob: bytes) -> None:
        """Puts something else in the place of a row, as rot does."""
        self._logs[log].put(first, blob)

    def firsts(self, log: bytes) -> list[int]:
        """Where the rows of a log begin."""
        held = self._logs.get(log)
        return list(held.firsts) if held is not None else []


class Image(NamedTuple):
    """Everything that a disk held at one moment."""

    rows: Rows
    watermark: bytes | None
    contents: PlainStore | None


class SimDisk:
    """One node's disk.

    Attributes:
        rows: what is durable.
        contents: the log on it as a plain list, kept beside; None while there is no log.
        fail: decides what becomes of the next commits; None when all is well.
        full: nothing more fits.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name: Final = name
        self.directory: Final = directory / name
        self.directory.mkdir()
        self.rows = Rows(f"sim://{name}")
        self.contents: PlainStore | None = None
        self.fail: Callable[[], bool] | None = None
        self.full = False
        #: Somebody destroyed data on it since the store was last opened.
        self.tampered = False
        #: Up to where it once held the log, and confirmed it perhaps, before it was rolled back.
        self.owes = 0

    @property
    def watermark(self) -> Path:
        return self.directory / "mosaik.watermark"

    def wipe(self) -> None:
        """Everything is gone."""
        self.rows = Rows(f"sim://{self.name}")
        self.contents = None
        self.watermark.unlink(missing_ok=True)
        self.full, self.fail = False, None
        self.tampered, self.owes = False, 0

    def image(self) -> Image:
        """A copy of all that is on it."""
        mark = self.watermark.read_bytes() if self.watermark.exists() else None
        contents = self.contents.copy() if self.contents is not None else None
        return Image(self.rows.copy(), mark, contents)

    def roll_back(self, image: Image) -> None:
        """Puts back what was there at an earlier moment."""
        self.owes = self.contents.last if self.contents is not None else 0
        self.rows = image.rows.copy()
        self.contents = image.contents.copy() if image.contents is not None else None
        self.watermark.unlink(missing_ok=True)
        if image.watermark is not None:
            self.watermark.write_bytes(image.watermark)
        self.tampered = True

    def remove(self) -> None:
        """The simulation is over."""
        shutil.rmtree(self.directory, ignore_errors=True)


class SimEngine:
    """Implements `Engine` on a disk, for one process."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self._rows: Rows | None = disk.rows

    def kill(self) -> None:
        """The process is gone: whatever still holds this reaches nothing."""
        self._rows = None

    def _alive(self) -> Rows:
        if self._rows is None:
            raise StorageUnavailable(f"the process that opened {self._disk.name} is gone")
        return self._rows

    def settle(self) -> None:
        """What is read is durable."""

    def logs(self) -> list[bytes]:
        return self._alive().logs()

    def meta(self, log: bytes) -> bytes | None:
        return self._alive().meta(log)

    def rows(self, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        return self._alive().rows(log, first, last, limit)

    def last_row(self, log: bytes) -> tuple[int, bytes] | None:
        return self._alive().last_row(log)

    def commit(self, changes: Sequence[Change]) -> None:
        rows, disk = self._alive(), self._disk
        if disk.full:
            raise StorageFull("no space left", url=f"sim://{disk.name}")
        if disk.fail is None:
            rows.commit(changes)
        elif disk.fail():
            rows.commit(changes)
            raise OSError(errno.EIO, "the sync failed; what it was for is on the disk")
        else:
            raise OSError(errno.EIO, "the sync failed; what it was for is not on the disk")

    def describe(self) -> Description:
        return Description(
            url=f"sim://{self._disk.name}",
            engine="simulated",
            sync=SyncMode.FULL,
            capabilities=_CAPABILITIES,
        )

    def close(self) -> None:
        self._rows = None


class SimEnvironment(EngineEnvironment):
    """The shipped environment, which tells an observer what became durable."""

    def __init__(self, disk: SimDisk, node: SimNode) -> None:
        url = f"sim://{disk.name}"
        engine = SimEngine(disk)
        record, watermark = claim(engine, node.peer, url, SyncMode.FULL, disk.watermark)
        assert watermark is not None
        super().__init__(
            engine,
            key=url,
            url=url,
            record=record,
            watermark=watermark,
            released=lambda _: watermark.close(),
        )
        self.disk: Final = disk
        self._sim_engine = engine
        self._sim_watermark = watermark
        self.node: Final = node

    def log(
        self, identity: LogIdentity, decode: Callable[[bytes], Any] | None = None
    ) -> EngineLog[Any]:
        log: EngineLog[Any] = super().log(identity, decode)
        self.node.opened(self, log)
        return log

    def commit(self, batches: Sequence[tuple[Storage[Any], WriteBatch[Any]]]) -> None:
        for _, batch in batches:
            self.node.writing(batch)
        landed = self.disk.rows.commits
        try:
            super().commit(batches)
        finally:
            if self.disk.rows.commits > landed:
                for _, batch in batches:
                    self.node.written(batch)

    def kill(self) -> None:
        """The process is gone, and closed nothing."""
        self._sim_engine.kill()
        self._sim_watermark.close()


def groups_on(rows: Rows) -> list[bytes]:
    """The keys of the logs on a disk."""
    return [key for key in rows.logs() if key != STORE_KEY]
