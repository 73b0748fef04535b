r"""Backups: one file that holds logs, whatever backend they came from.

Theory of operation
-------------------
A backup is not a copy of an engine's files. Those can be opened, and then a replica answers for what it has
forgotten; and they carry damage along. It is a stream of *frames* that no node can run on::

    "MSKB", format (2 bytes)
    length (4) ‖ CRC-32 of the rest (4) ‖ kind (1) ‖ body      again and again
      H  who made it, when, and from which store: MessagePack
      L  a log without its entries (`LogHead`): MessagePack; its entries follow
      E  a run of sealed entries, as they lie in every log
      Z  the end: how many entries there were, and BLAKE3 of all that came before this frame

What is read from the store is verified entry by entry, and so is what is read from a backup. One that was cut
short has no end, and is refused.

A backup of a running node holds each log up to its commit index: what is committed never changes, so reading
it in slices between the node's own writes gives one state and stops nobody, on any backend.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol, TypeVar
from zlib import crc32

import msgspec
from blake3 import blake3

from mosaik.primitives.codec import Codec
from mosaik.primitives.digest import short
from mosaik.primitives.durable import Anchor
from mosaik.primitives.entry import Damage, Entry, join_sealed, split_sealed
from mosaik.primitives.errors import (
    CodecError,
    CorruptEntry,
    StorageFormatTooNew,
    StorageUnavailable,
)
from mosaik.storage.contract import Storage
from mosaik.storage.transfer import LogHead, Report, follow

__all__ = [
    "BACKUP_FORMAT",
    "BackupEnd",
    "BackupHead",
    "Call",
    "Contents",
    "check_backup",
    "cut_head",
    "is_backup",
    "read_backup",
    "read_runs",
    "stream_backup",
]

T = TypeVar("T")

BACKUP_FORMAT: Final = 1
_MAGIC: Final = b"MSKB"
_FILE_HEAD: Final = struct.Struct(">4sH")
_FRAME_HEAD: Final = struct.Struct(">IIB")
_HEAD, _LOG, _ENTRIES, _END = b"HLEZ"
#: Sealed bytes that are asked of a store at a time: what verifying takes about two milliseconds.
_SLICE: Final = 128 * 1024
#: No frame is longer: a run is a slice, unless one entry is longer; a head may name many terms.
_MAX_FRAME: Final = 64 * 1024 * 1024


class BackupHead(msgspec.Struct, frozen=True, array_like=True):
    """What a backup says of itself.

    Attributes:
        made_ms: when it was made, milliseconds since 1970.
        version: of the mosaik that made it.
        url: the store that it is of.
        peer: the node that the store belongs to.
        hot: the node was running; then it holds what was committed, else the whole logs.
    """

    made_ms: int
    version: str
    url: str
    peer: bytes
    hot: bool


class BackupEnd(msgspec.Struct, frozen=True, array_like=True):
    """The last frame.

    Attributes:
        entries: how many there are in all logs.
        digest: BLAKE3 of the file up to this frame.
    """

    entries: int
    digest: bytes


_heads: Final[Codec[BackupHead]] = Codec(BackupHead, limit=1024 * 1024)
_logs: Final[Codec[LogHead]] = Codec(LogHead, limit=_MAX_FRAME)
_ends: Final[Codec[BackupEnd]] = Codec(BackupEnd, limit=1024)


class Call(Protocol):
    """Does something that blocks elsewhere, such as on a store's own thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


# -- making one -------------------------------------------------------------------------------------


def _frame(kind: int, body: bytes) -> bytes:
    rest = bytes([kind]) + body
    return _FRAME_HEAD.pack(len(body), crc32(rest), kind) + body


def cut_head(head: LogHead, tail: Anchor) -> LogHead:
    """What the log's head would be if the log ended there."""
    hard, index = head.hard_state, tail.index

    def reached(at: int) -> int:
        return at if at <= index else 0

    hard = msgspec.structs.replace(
        hard,
        configs=tuple(at for at in hard.configs if at <= index),
        founded=reached(hard.founded),
        first_command=reached(hard.first_command),
        dissolve=reached(hard.dissolve),
    )
    starts = tuple(start for start in head.term_starts if start[0] <= index)
    return msgspec.structs.replace(head, hard_state=hard, tail=tail, term_starts=starts)


async def stream_backup(
    head: BackupHead, logs: Sequence[tuple[LogHead, Storage[Any]]], call: Call
) -> AsyncIterator[bytes]:
    """The bytes of a backup, a frame at a time.

    Args:
        head: what it says of itself.
        logs: what of which log it is to hold.
        call: runs what blocks.

    Raises:
        CorruptEntry: an entry is damaged, or is gone since the log's head was taken.
    """
    digest = blake3()
    count = 0

    def hashed(piece: bytes) -> bytes:
        digest.update(piece)
        return piece

    yield hashed(_FILE_HEAD.pack(_MAGIC, BACKUP_FORMAT))
    yield hashed(_frame(_HEAD, _heads.encode(head)))
    for log_head, log in logs:
        yield hashed(_frame(_LOG, _logs.encode(log_head)))
        before = log_head.anchor
        while before.index < log_head.tail.index:
            run = await call(_reading(log, before.index + 1, log_head.tail.index))
            before = follow(before, run)
            count += len(run)
            yield hashed(_frame(_ENTRIES, join_sealed(run)))
        if before != log_head.tail:
            raise CorruptEntry(before.index, "it is not the entry with which the log ends")
    yield _frame(_END, _ends.encode(BackupEnd(count, digest.digest())))


def _reading(log: Storage[Any], first: int, last: int) -> Callable[[], list[Entry[Any]]]:
    return lambda: log.get_range(first, last, limit=_SLICE)


# -- reading one ------------------------------------------------------------------------------------

Piece = BackupHead | LogHead | list[Entry[Any]] | BackupEnd


class Contents(NamedTuple):
    """What a backup holds, all of it read and found good.

    Attributes:
        head: what it says of itself.
        logs: its logs, without their entries.
        size: of the file, in bytes.
    """

    head: BackupHead
    logs: tuple[LogHead, ...]
    size: int


def is_backup(path: Path) -> bool:
    """Whether there is a file that begins as backups do."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def check_backup(path: Path, report: Report | None = None) -> Contents:
    """Reads all of a backup.

    Args:
        report: is called with the number of entries that were read since the last call.

    Raises:
        CorruptEntry: it is damaged or cut short. `StorageFormatTooNew`. `StorageUnavailable`: it cannot be
            read, or is no backup.
    """
    heads: list[BackupHead] = []
    logs: list[LogHead] = []
    for piece in read_backup(path):
        if isinstance(piece, BackupHead):
            heads.append(piece)
        elif isinstance(piece, LogHead):
            logs.append(piece)
        elif isinstance(piece, list) and report is not None:
            report(len(piece))
    return Contents(heads[0], tuple(logs), path.stat().st_size)


def read_runs(path: Path, head: LogHead) -> Iterator[list[Entry[Any]]]:
    """The entries of one log of a backup. Raises as `check_backup`."""
    ours = False
    for piece in read_backup(path):
        if isinstance(piece, LogHead):
            ours = piece.identity.group == head.identity.group
        elif isinstance(piece, list) and ours:
            yield piece


def read_backup(path: Path) -> Iterator[Piece]:
    """Everything that is in a backup, in order, each piece verified as far as it goes.

    Only after the last piece it is certain that nothing is missing. Raises as `check_backup`.
    """
    try:
        with path.open("rb") as file:
            yield from _Reader(file, str(path)).pieces()
    except OSError as error:
        raise StorageUnavailable(f"the backup {path} cannot be read: {error.strerror}") from error


class _Reader:
    """Goes through a file once."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._digest = blake3()
        self._log: LogHead | None = None
        self._end = Anchor()
        self._count = 0

    def pieces(self) -> Iterator[Piece]:
        self._read_file_head()
        kind, body = self._frame()
        if kind != _HEAD:
            raise self._damaged("it does not say what it is")
        yield self._decoded(_heads, body)
        while True:
            kind, body = self._frame()
            if kind == _LOG:
                self._finish_log()
                self._log = head = self._decoded(_logs, body)
                self._end = head.anchor
                yield head
            elif kind == _ENTRIES:
                yield self._run(body)
            elif kind == _END:
                self._finish_log()
                yield self._finish(self._decoded(_ends, body))
                return
            else:
                raise self._damaged(f"it holds a frame of unknown kind {kind}")

    def _read_file_head(self) -> None:
        head = self._file.read(_FILE_HEAD.size)
        if len(head) < _FILE_HEAD.size or not head.startswith(_MAGIC):
            raise StorageUnavailable(f"{self._name} is not a backup of mosaik")
        version = _FILE_HEAD.unpack(head)[1]
        if version > BACKUP_FORMAT:
            raise StorageFormatTooNew(
                f"the backup {self._name} has format {version}; this mosaik reads up to {BACKUP_FORMAT}. "
                f"Install the newer version that made it"
            )
        self._digest.update(head)

    def _frame(self) -> tuple[int, bytes]:
        head = self._file.read(_FRAME_HEAD.size)
        if len(head) < _FRAME_HEAD.size:
            raise self._damaged("it is cut short")
        length, checksum, kind = _FRAME_HEAD.unpack(head)
        if length > _MAX_FRAME:
            raise self._damaged(f"a frame of {length} bytes")
        body = self._file.read(length)
        if len(body) < length:
            raise self._damaged("it is cut short")
        if crc32(bytes([kind]) + body) != checksum:
            raise self._damaged("a frame fails its checksum")
        if kind != _END:
            self._digest.update(head)
            self._digest.update(body)
        return kind, body

    def _decoded(self, codec: Codec[T], body: bytes) -> T:
        try:
            return codec.decode(body)
        except CodecError as error:
            raise self._damaged(str(error)) from error

    def _run(self, body: bytes) -> list[Entry[Any]]:
        if self._log is None:
            raise self._damaged("it holds entries of no log")
        try:
            run = split_sealed(body, first=self._end.index + 1)
        except Damage as damage:
            raise self._damaged(damage.reason, damage.index) from damage
        try:
            self._end = follow(self._end, run)
        except CorruptEntry as error:
            raise self._damaged(error.reason, error.index) from error
        self._count += len(run)
        return run

    def _finish_log(self) -> None:
        if self._log is not None and self._end != self._log.tail:
            group = short(self._log.identity.group)
            raise self._damaged(f"group {group} does not end as it should", self._end.index + 1)

    def _finish(self, end: BackupEnd) -> BackupEnd:
        if end.digest != self._digest.digest() or end.entries != self._count:
            raise self._damaged("it is not what was written")
        if self._file.read(1):
            raise self._damaged("something follows its end")
        return end

    def _damaged(self, what: str, index: int = 0) -> CorruptEntry:
        return CorruptEntry(index, f"the backup {self._name} is damaged: {what}")
