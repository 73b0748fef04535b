"""The watermark: what was acknowledged, written where the engine cannot forget it.

Theory of operation
-------------------
An engine that recovers from damage by dropping what it cannot read calls itself sound afterwards. So the
last acknowledged position of every log is kept in a small file of our own, and a log that ends before
it, or differs at it, is refused (rule 5).

The file is a row of pairs of slots. Pair 0 describes the store, each other pair one log; the two slots
of a pair are written in turn, each with a sequence number and a checksum, so a torn write spoils one and
the other holds the value before. A slot fits one sector and is overwritten in place.

Marks run *behind* the acknowledgements. `acknowledge` notes a position in memory; `flush` writes what
was noted, with one sync, when the writer is idle or the oldest note is `LATENESS` seconds old. Too
low a mark protects less, by that bound. Too high a mark would be a false alarm, so a mark is lowered
durably *before* a transaction that removes entries below it: a crash in between leaves it low.

The store's slot also says what a process that did not sync left behind: the boot id under which it
ran, and whether it closed cleanly (rule 1).
"""

from __future__ import annotations

import errno
import os
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple, Self
from zlib import crc32

from mosaik.primitives.durable import Anchor
from mosaik.primitives.errors import (
    CorruptEntry,
    StorageFormatTooNew,
    StorageFull,
    StorageUnavailable,
)
from mosaik.storage.contract import SyncMode
from mosaik.storage.directory import sync_directory
from mosaik.storage.record import FORMAT

__all__ = ["LATENESS", "Header", "Watermark"]

#: Seconds that a mark is late, at most.
LATENESS: Final = 1.0
SLOT_SIZE: Final = 128
#: More logs than this in one store are refused; it bounds the file that is read at opening.
MAX_LOGS: Final = 1_000_000

_FREE, _HEADER, _LOG = 0, 1, 2
_SLOT: Final = struct.Struct(">IBxxxQ")  # checksum, kind, sequence
_HEADER_BODY: Final = struct.Struct(
    ">4sH16sB16sBQ"
)  # magic, format, store, sync, boot, clean, epoch
_LOG_BODY: Final = struct.Struct(">32sQQI")  # log, term, index, checksum
_MAGIC: Final = b"MSKW"
_EMPTY: Final = bytes(SLOT_SIZE)


class Header(NamedTuple):
    """The store's own slot.

    Attributes:
        store: the store's id, 16 bytes: tells a watermark that belongs to another store.
        sync: how the last opening wrote.
        boot: the machine's boot id at that time.
        clean: that opening was closed, with everything on disk.
        epoch: how often a store on a server had been opened by then; 0 for one in files.
    """

    store: bytes
    sync: SyncMode
    boot: bytes
    clean: bool
    epoch: int = 0


class _Pair:
    """Two slots and which of them is current."""

    __slots__ = ("body", "kind", "position", "sequence")

    def __init__(self, position: int) -> None:
        self.position: Final = position
        self.sequence = 0
        self.kind = _FREE
        self.body = b""

    def next_slot(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """The offset and bytes of the write that makes this the pair's value."""
        self.sequence += 1
        self.kind, self.body = kind, body
        tail = _SLOT.pack(0, kind, self.sequence)[4:] + body.ljust(SLOT_SIZE - _SLOT.size, b"\0")
        offset = (2 * self.position + self.sequence % 2) * SLOT_SIZE
        return offset, struct.pack(">I", crc32(tail)) + tail


class Watermark:
    """The open file. Used by one thread at a time.

    Attributes:
        header: what the store's slot says.
    """

    def __init__(self, path: Path, descriptor: int, pairs: list[_Pair], header: Header) -> None:
        self._path = path
        self._descriptor = descriptor
        self._header_pair: Final = pairs[0]
        self._logs: dict[bytes, _Pair] = {}
        self._marks: dict[bytes, Anchor] = {}
        self._free: list[_Pair] = []
        self._dirty: dict[bytes, Anchor] = {}
        self._dirty_since = 0.0
        self._count = len(pairs)
        self.header = header
        for pair in pairs[1:]:
            self._learn(pair)

    def _learn(self, pair: _Pair) -> None:
        if pair.kind != _LOG:
            self._free.append(pair)
            return
        log, term, index, checksum = _LOG_BODY.unpack_from(pair.body)
        self._logs[log] = pair
        self._marks[log] = Anchor(term, index, checksum)

    @classmethod
    def create(cls, path: Path, header: Header) -> Self:
        """Makes a watermark without marks, in the place of any that is there.

        Raises:
            StorageFull, StorageUnavailable: it cannot be written.
        """
        pair = _Pair(0)
        body = _header_body(header)
        image = bytearray(2 * SLOT_SIZE)
        for _ in range(
            2
        ):  # both slots, so that the header of a new store survives the loss of either
            offset, slot = pair.next_slot(_HEADER, body)
            image[offset : offset + SLOT_SIZE] = slot
        fresh = path.with_name(path.name + ".new")
        descriptor = -1
        try:
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.pwrite(descriptor, image, 0)
            os.fsync(descriptor)
            fresh.rename(path)
            sync_directory(path.parent)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise _refusal(path, error) from error
        return cls(path, descriptor, [pair], header)

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Reads the watermark; None when there is no such file.

        Raises:
            CorruptEntry: a pair has no good slot. `StorageFormatTooNew`, `StorageUnavailable`.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refusal(path, error) from error
        try:
            content = _read_all(descriptor, path)
            pairs = [
                _read_pair(content, position, path)
                for position in range(max(1, len(content) // (2 * SLOT_SIZE)))
            ]
            header = _read_header(pairs[0], path)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, pairs, header)

    @property
    def has_marks(self) -> bool:
        """Whether anything was ever acknowledged and is still expected."""
        return any(mark.index for mark in self._marks.values())

    def mark(self, log: bytes) -> Anchor:
        """The last position of a log that is known to have been acknowledged; zero when none is."""
        return self._marks.get(log, Anchor())

    def acknowledge(self, log: bytes, tail: Anchor) -> None:
        """Notes that the log was acknowledged up to here. Writes nothing."""
        if not self._dirty:
            self._dirty_since = time.monotonic()
        self._dirty[log] = tail

    @property
    def overdue(self) -> bool:
        """A note is older than `LATENESS`."""
        return bool(self._dirty) and time.monotonic() - self._dirty_since >= LATENESS

    def flush(self) -> None:
        """Writes what was noted, with one sync.

        Raises:
            OSError: it could not; the marks that the file holds are older ones.
        """
        noted, self._dirty = self._dirty, {}
        noted = {log: tail for log, tail in noted.items() if tail != self._marks.get(log)}
        if not noted:
            return
        try:
            for log, tail in noted.items():
                self._put(self._pair(log), _LOG, _LOG_BODY.pack(log, *tail))
            self._sync()
        except BaseException:
            self._dirty = {**noted, **self._dirty}
            raise
        self._marks.update(noted)

    def lower(self, log: bytes, to: Anchor) -> None:
        """Makes the mark no higher than ``to``, durably, before entries above it are removed.

        Raises:
            OSError: it could not.
        """
        self._dirty.pop(log, None)
        if self.mark(log).index <= to.index:
            return
        self._put(self._pair(log), _LOG, _LOG_BODY.pack(log, *to))
        self._sync()
        self._marks[log] = to

    def forget(self, log: bytes) -> None:
        """Removes a log's mark, durably, before the log is removed."""
        self._dirty.pop(log, None)
        pair = self._logs.pop(log, None)
        if pair is None:
            return
        self._marks.pop(log, None)
        self._put(pair, _FREE, b"")
        self._sync()
        self._free.append(pair)

    def write_header(self, header: Header) -> None:
        """Replaces the store's slot; synced whatever the sync mode, for it says what that mode left."""
        self._put(self._header_pair, _HEADER, _header_body(header))
        os.fdatasync(self._descriptor)
        self.header = header

    def close(self) -> None:
        """Closes the file; what was only noted is lost. Closing twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _pair(self, log: bytes) -> _Pair:
        pair = self._logs.get(log)
        if pair is None:
            pair = self._free.pop() if self._free else self._grow()
            self._logs[log] = pair
        return pair

    def _grow(self) -> _Pair:
        pair = _Pair(self._count)
        os.pwrite(self._descriptor, _EMPTY * 2, 2 * SLOT_SIZE * pair.position)
        self._count += 1
        return pair

    def _put(self, pair: _Pair, kind: int, body: bytes) -> None:
        offset, slot = pair.next_slot(kind, body)
        os.pwrite(self._descriptor, slot, offset)

    def _sync(self) -> None:
        if self.header.sync is SyncMode.FULL:
            os.fdatasync(self._descriptor)


def _header_body(header: Header) -> bytes:
    unsynced = header.sync is SyncMode.OS
    return _HEADER_BODY.pack(
        _MAGIC, FORMAT, header.store, unsynced, header.boot, header.clean, header.epoch
    )


def _read_all(descriptor: int, path: Path) -> bytes:
    size = os.fstat(descriptor).st_size
    if size > 2 * SLOT_SIZE * (MAX_LOGS + 1):
        raise CorruptEntry(0, f"the watermark {path} has {size} bytes, more than any store's")
    chunks: list[bytes] = []
    while chunk := os.pread(descriptor, size, sum(map(len, chunks))):
        chunks.append(chunk)
    return b"".join(chunks)


def _read_pair(content: bytes, position: int, path: Path) -> _Pair:
    """The newer good slot of a pair. A pair of which one slot is bad and one untouched was torn when it
    was first written: nothing had been acknowledged by it."""
    pair = _Pair(position)
    blank = 0
    for number in range(2):
        offset = (2 * position + number) * SLOT_SIZE
        slot = content[offset : offset + SLOT_SIZE].ljust(SLOT_SIZE, b"\0")
        checksum, kind, sequence = _SLOT.unpack_from(slot)
        blank += slot == _EMPTY
        if checksum == crc32(slot[4:]) and sequence > pair.sequence:
            pair.sequence, pair.kind, pair.body = sequence, kind, slot[_SLOT.size :]
    if not pair.sequence and not blank:
        raise CorruptEntry(
            0,
            f"both copies of a mark in {path} are damaged, so what was acknowledged cannot be told; "
            f"remove the store and let this node join as a new replica",
        )
    return pair


def _read_header(pair: _Pair, path: Path) -> Header:
    if pair.kind != _HEADER:
        raise CorruptEntry(0, f"the watermark {path} has no header")
    magic, version, store, unsynced, boot, clean, epoch = _HEADER_BODY.unpack_from(pair.body)
    if magic != _MAGIC:
        raise CorruptEntry(0, f"{path} is not a watermark")
    if version > FORMAT:
        raise StorageFormatTooNew(f"{path} has format {version}; this mosaik reads up to {FORMAT}")
    sync = SyncMode.OS if unsynced else SyncMode.FULL
    return Header(store, sync, boot, bool(clean), epoch)


def _refusal(path: Path, error: OSError) -> StorageUnavailable | StorageFull:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull(f"no space for the watermark {path}")
    return StorageUnavailable(f"the watermark {path}: {error.strerror or error}")
