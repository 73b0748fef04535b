"""The sound store: a journal of commits, replayed into memory when it is opened.

A frame is ``length ‖ CRC-32 ‖ changes``, and a commit is one frame and one sync. An opening writes all that
it found into a new journal, so that what it shows is on the disk whatever became of the old one.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from mosaik.primitives.errors import CorruptEntry, StorageFull
from mosaik.storage import Capability, Change, Description, EnginePlugin, Place, SyncMode
from mosaik.storage.memory import MemoryEngine

__all__ = ["JournalEngine", "Options", "frame", "made_of", "plugin"]

_HEAD: Final = struct.Struct(">II")
_LAST: Final = (1 << 63) - 1


class Options(msgspec.Struct, frozen=True):
    """There are none."""


def frame(changes: Sequence[Change]) -> bytes:
    body = msgspec.msgpack.encode(list(changes))
    return _HEAD.pack(len(body), _checksum(body)) + body


def _checksum(body: bytes) -> int:
    return crc32(body, len(body) + 1)  # zeros are no frame


class JournalEngine(MemoryEngine):
    """Implements `Engine`, in small methods of which mutants change one."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"journal://{path}")
        self.path = path / "journal"
        self.file = -1
        self.size = 0
        self.open()

    def open(self) -> None:
        content = self.path.read_bytes() if self.path.exists() else b""
        at = 0
        while (body := self.body(content, at)) is not None:
            self.replay(msgspec.msgpack.decode(body, type=list[Change]))
            at += _HEAD.size + len(body)
        if self.body(content, at, torn=True) is not None:
            self.damaged(at)
        self.size = at

    def body(self, content: bytes, at: int, *, torn: bool = False) -> bytes | None:
        """The changes of the frame there; None if there is none, or it is not whole.

        Args:
            torn: gives those of one that is of full length and damaged, with more behind it.
        """
        if at + _HEAD.size > len(content):
            return None
        length, checksum = _HEAD.unpack_from(content, at)
        end = at + _HEAD.size + length
        body = content[at + _HEAD.size : end]
        if torn:
            return body if end < len(content) else None
        return body if len(body) == length and _checksum(body) == checksum else None

    def damaged(self, at: int) -> None:
        raise CorruptEntry(0, f"the frame at byte {at} of the journal is damaged")

    def replay(self, changes: Sequence[Change]) -> None:
        super().commit(changes)

    # -- opening anew -------------------------------------------------------------------------------

    def settle(self) -> None:
        everything, self.size = frame(self.everything()), 0
        fresh = self.path.with_name("journal.new")
        self.file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.write(everything)
        self.sync_new()
        fresh.rename(self.path)
        self.sync_directory()

    def sync_new(self) -> None:
        os.fsync(self.file)

    def everything(self) -> list[Change]:
        return [
            Change(log=log, rows=self.rows(log, 0, _LAST, 1 << 60), meta=self.meta(log))
            for log in self.logs()
        ]

    def sync_directory(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # -- writing ------------------------------------------------------------------------------------

    def commit(self, changes: Sequence[Change]) -> None:
        self.write(frame(changes))
        self.sync()
        super().commit(changes)

    def write(self, data: bytes) -> None:
        """Appends, or leaves the file as it was."""
        try:
            self.append(data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            os.ftruncate(self.file, self.size)
            raise StorageFull("the disk is full") from error
        self.size += len(data)

    def append(self, data: bytes) -> None:
        at = self.size
        while data:
            done = os.pwrite(self.file, data, at)
            at, data = at + done, data[done:]

    def sync(self) -> None:
        os.fdatasync(self.file)

    def describe(self) -> Description:
        return Description(
            url=self._url,
            engine="journal",
            sync=SyncMode.FULL,
            capabilities=frozenset(Capability),
        )

    def close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


def made_of(scheme: str, engine: type[JournalEngine]) -> EnginePlugin[Options]:
    """The plugin of an engine."""

    def connect(place: Place, _options: Options) -> JournalEngine:
        assert place.path is not None
        return engine(place.path)

    return EnginePlugin(scheme, Options, connect, capabilities=frozenset(Capability))


plugin = made_of("journal", JournalEngine)
