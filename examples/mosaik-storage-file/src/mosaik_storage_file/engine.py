"""Logs of mosaik in one append-only file.

A commit is one *frame*: all its changes, truncating and pruning among them, under a checksum and a number
that counts up. It is written behind the last one and synced. Opening reads the file once and keeps, of every
row, where it lies. What was removed stays in the file, dead, until most of it is dead; then what lives is
written into a new file, which takes the old one's place.

A frame is written only after the one before it was synced. So when the machine stops, the last one alone can
be torn, and nothing whole lies behind it: it is dropped. A bad frame with a whole one behind it is damage.
Every frame begins with a mark that was drawn for this file, so that nothing in a row passes for one.

By the same order the last frame alone can be visible and yet not on the disk: where its sync failed, the
kernel holds it for written, and no later sync writes it. `settle` writes its bytes anew, and puts an empty
frame behind it, which says from then on that it was whole; so does a clean close.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from mosaik.primitives.errors import CorruptEntry, StorageFormatTooNew, StorageFull
from mosaik.storage import Capability, Change, Description, Size, SyncMode

__all__ = ["FileEngine", "FileOptions"]

#: The file begins with a frame that has this for its mark, and the file's own mark for its body.
_NAME: Final = b"mosaikf1"
_FRAME: Final = struct.Struct(">8sIQQ")  # mark, checksum, number, length of the body
#: A frame's word for a `Change`: its fields, but of rows the sizes only. Behind all that stand the rows.
_Told = tuple[bytes, bool, int | None, int | None, bytes | None, list[tuple[int, int]]]
_HEADER_SIZE: Final = _FRAME.size + 8
_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FileOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a ``file://`` URL.

    Attributes:
        compact_at: the file is written anew once it is so many times as long as what lives in it …
        compact_above: … and longer than this.
    """

    compact_at: float = 2.0
    compact_above: Size = Size(4 << 20)


class _Log:
    """One log: its meta, and where its rows lie, by first index."""

    def __init__(self) -> None:
        self.meta = b""
        self.firsts: list[int] = []
        self.places: dict[int, tuple[int, int]] = {}

    def put(self, first: int, at: int, size: int) -> None:
        if first not in self.places:
            insort(self.firsts, first)
        self.places[first] = at, size

    def remove(self, start: int, stop: int | None = None) -> None:
        for first in self.firsts[start:stop]:
            del self.places[first]
        del self.firsts[start:stop]


class FileEngine:
    """Implements `mosaik.storage.Engine`."""

    def __init__(self, path: Path, options: FileOptions, url: str) -> None:
        self._path = path
        self._new = path.with_name(path.name + ".new")
        self._url = url
        self._options = options
        self._logs: dict[bytes, _Log] = {}
        self._file = -1
        self._mark = b""
        self._number = self._last = self._end = self._limit = 0
        self._sound = False  # the last frame is known to be whole and synced
        try:
            if not path.exists():
                self._write_anew()
            self._load()
        except BaseException:
            self._release()
            raise

    def settle(self) -> None:
        _sync_directory(self._path.parent)  # whoever renamed the file may have died before this
        self._write(os.pread(self._file, self._end - self._last, self._last), self._last)
        os.fdatasync(self._file)
        with suppress(StorageFull):  # a full store can be read
            self._append(_encode(()))

    def logs(self) -> list[bytes]:
        return [key for key, log in self._logs.items() if log.meta]

    def meta(self, log: bytes) -> bytes | None:
        return self._logs.get(log, _Log()).meta or None

    def rows(self, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        held = self._logs.get(log, _Log())
        found: list[tuple[int, bytes]] = []
        at = max(0, bisect_right(held.firsts, first) - 1)
        while at < len(held.firsts) and not (found and (held.firsts[at] > last or limit <= 0)):
            found.append(self._row(held, held.firsts[at]))
            limit -= len(found[-1][1])
            at += 1
        return found

    def last_row(self, log: bytes) -> tuple[int, bytes] | None:
        held = self._logs.get(log)
        return self._row(held, held.firsts[-1]) if held and held.firsts else None

    def _row(self, log: _Log, first: int) -> tuple[int, bytes]:
        at, size = log.places[first]
        return first, os.pread(self._file, size, at)

    def commit(self, changes: Sequence[Change]) -> None:
        if self._end > self._limit:
            self._compact()
        body = _encode(changes)
        self._apply(self._append(body), body)

    def describe(self) -> Description:
        return Description(
            url=self._url,
            engine="file 1",
            sync=SyncMode.FULL,
            capabilities=frozenset(Capability),
            settings={"sync": "fdatasync"},
        )

    def close(self) -> None:
        if self._sound:
            with suppress(OSError, StorageFull):  # nothing depends on this frame
                self._append(_encode(()))
        self._release()

    def _release(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _append(self, body: bytes) -> int:
        """Writes a frame and syncs it; answers where its body begins. `StorageFull` leaves the file as it
        was; after any other error nobody knows how it is, and the framework poisons the store."""
        self._sound = False
        try:
            self._write(_frame(self._mark, self._number + 1, body), self._end)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            os.ftruncate(self._file, self._end)
            self._sound = True
            raise StorageFull("the disk is full", url=self._url) from error
        os.fdatasync(self._file)
        self._sound = True
        return self._advance(body)

    def _write(self, data: bytes, at: int) -> None:
        if os.pwrite(self._file, data, at) < len(data):
            raise OSError(errno.ENOSPC, "only a part was written")

    def _advance(self, body: bytes) -> int:
        self._number += 1
        self._last, self._end = self._end, self._end + _FRAME.size + len(body)
        return self._end - len(body)

    def _load(self) -> None:
        """Opens the file and learns what is in it."""
        self._file = os.open(self._path, os.O_RDWR)
        self._sound = False
        self._number, self._last, self._end = 0, _HEADER_SIZE, _HEADER_SIZE
        self._logs.clear()
        header = os.pread(self._file, _HEADER_SIZE, 0)
        self._mark = header[_FRAME.size :]
        if header[8:] != _frame(_NAME, 0, self._mark)[8:]:
            raise CorruptEntry(0, "the header of the file is damaged", url=self._url)
        if not header.startswith(_NAME):
            raise StorageFormatTooNew(f"{self._path} is of format {header[:8]!r}", url=self._url)
        while (frame := self._frame_at(self._end)) and frame[0] == self._number + 1:
            self._apply(self._advance(frame[1]), frame[1])
        if self._is_frame_beyond():
            reason = f"byte {self._end} of the file is damaged, with whole frames behind it"
            raise CorruptEntry(0, reason, url=self._url)
        os.ftruncate(self._file, self._end)
        self._limit = self._most()

    def _frame_at(self, at: int) -> tuple[int, bytes] | None:
        """The number and the body of the frame that begins here, if a whole one does."""
        head = os.pread(self._file, _FRAME.size, at)
        if len(head) < _FRAME.size or not head.startswith(self._mark):
            return None
        _, _, number, length = _FRAME.unpack(head)
        if length > os.fstat(self._file).st_size - at - _FRAME.size:
            return None
        body = os.pread(self._file, length, at + _FRAME.size)
        return (number, body) if _frame(self._mark, number, body).startswith(head) else None

    def _is_frame_beyond(self) -> bool:
        """Whether what cannot be read is followed by a frame that can."""
        rest = os.pread(self._file, os.fstat(self._file).st_size - self._end, self._end)
        starts = (found.start() for found in re.finditer(re.escape(self._mark), rest))
        frames = (self._frame_at(self._end + start) for start in starts)
        return any(frame is not None and frame[0] > self._number for frame in frames)

    def _apply(self, start: int, body: bytes) -> None:
        """Learns what a frame says whose body begins at ``start`` in the file."""
        size = int.from_bytes(body[:4])
        at = start + 4 + size
        told = msgspec.msgpack.decode(body[4 : 4 + size], type=list[_Told])
        for key, drop, above, below, meta, sizes in told:
            log = self._logs.setdefault(key, _Log())
            if drop:
                log.remove(0)
            if above is not None:
                log.remove(bisect_left(log.firsts, above))
            if below is not None:
                log.remove(0, bisect_left(log.firsts, below))
            for first, length in sizes:
                log.put(first, at, length)
                at += length
            log.meta = log.meta if meta is None else meta
            if not (log.meta or log.firsts):
                del self._logs[key]

    def _most(self) -> int:
        """How long the file may become before anybody asks how much of it is dead."""
        logs = self._logs.values()
        live = sum(len(log.meta) + sum(size for _, size in log.places.values()) for log in logs)
        return max(self._options.compact_above, int(self._options.compact_at * live))

    def _compact(self) -> None:
        """Leaves behind what is dead. It comes before a commit, and fails none for want of space."""
        self._limit = self._most()
        if self._end <= self._limit:
            return
        try:
            self._write_anew()
        except OSError as error:
            self._new.unlink(missing_ok=True)
            if error.errno not in _NO_SPACE:
                raise
            self._limit = 2 * self._end
        else:
            self._release()
            _sync_directory(self._path.parent)
            self._load()

    def _write_anew(self) -> None:
        """Writes what lives into a new file, whole and synced, which then takes the old one's place."""
        mark = os.urandom(8)
        descriptor = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(_frame(_NAME, 0, mark))
            frames = enumerate(self._living(), 1)
            file.writelines(_frame(mark, number, _encode([change])) for number, change in frames)
            file.flush()
            os.fsync(file.fileno())
        self._new.rename(self._path)

    def _living(self) -> Iterator[Change]:
        for key, log in self._logs.items():
            yield Change(log=key, meta=log.meta)
            for at in range(0, len(log.firsts), 16):
                rows = [self._row(log, first) for first in log.firsts[at : at + 16]]
                yield Change(log=key, rows=rows)


def _frame(mark: bytes, number: int, body: bytes) -> bytes:
    rest = struct.pack(">QQ", number, len(body)) + body
    return mark + crc32(rest).to_bytes(4) + rest


def _encode(changes: Sequence[Change]) -> bytes:
    told: list[_Told] = []
    for each in changes:
        sizes = [(first, len(blob)) for first, blob in each.rows]
        told.append((each.log, each.drop, each.delete_from, each.delete_below, each.meta, sizes))
    head = msgspec.msgpack.encode(told)
    return b"".join([len(head).to_bytes(4), head, *(b for c in changes for _, b in c.rows)])


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
