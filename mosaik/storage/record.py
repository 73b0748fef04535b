"""What an engine keeps beside the rows: one record for the store, one for each log.

A record is ``format version (2 bytes) ‖ CRC-32 (4 bytes) ‖ MessagePack``. The version stands outside the
encoding so that a newer one is recognised whatever it changed; the checksum is ours because not every
engine has one.
"""

from __future__ import annotations

import struct
from typing import Final, Generic, TypeVar
from zlib import crc32

import msgspec

from mosaik.primitives.codec import Codec
from mosaik.primitives.durable import Anchor, HardState, SnapshotRef
from mosaik.primitives.errors import CodecError, CorruptEntry, StorageFormatTooNew
from mosaik.storage.contract import LogIdentity

__all__ = [
    "FORMAT",
    "STORE_KEY",
    "LogRecord",
    "RecordCodec",
    "StoreRecord",
    "log_record",
    "store_record",
]

#: The version of everything that this package writes: rows, records, watermark.
FORMAT: Final = 1
#: The store's own record lies where a log's would; no group has this id.
STORE_KEY: Final = bytes(32)

T = TypeVar("T")
_HEAD: Final = struct.Struct(">HI")


class StoreRecord(msgspec.Struct, frozen=True, array_like=True):
    """Whose store this is.

    Attributes:
        store: 16 random bytes, made with the store.
        peer: the node that it belongs to.
        url: where it was made, for people.
    """

    store: bytes
    peer: bytes
    url: str


class LogRecord(msgspec.Struct, frozen=True, array_like=True):
    """One log, without its entries.

    Attributes:
        store: the id of the store that it was written in.
        identity: whose log it is.
        hard_state: what its replica must remember.
        anchor: where the log begins.
        term_starts: ``(first index, term)`` of each run of equal terms.
        snapshot: the newest.
        suspect: the last index of a damaged tail that was only partly overwritten since; 0 without one.
        suspect_term: the highest term that an entry of such a tail may have had.
    """

    store: bytes
    identity: LogIdentity
    hard_state: HardState
    anchor: Anchor = Anchor()
    term_starts: tuple[tuple[int, int], ...] = ()
    snapshot: SnapshotRef | None = None
    suspect: int = 0
    suspect_term: int = 0


class RecordCodec(Generic[T]):
    """Writes and reads records of one type."""

    def __init__(self, of: type[T], name: str) -> None:
        self._codec: Codec[T] = Codec(of, limit=32 * 1024 * 1024)
        self._name: Final = name

    def encode(self, record: T) -> bytes:
        body = self._codec.encode(record)
        return _HEAD.pack(FORMAT, crc32(body)) + body

    def decode(self, blob: bytes, *, url: str) -> T:
        """The record.

        Raises:
            StorageFormatTooNew: a newer mosaik wrote it. `CorruptEntry`: nobody did.
        """
        if len(blob) < _HEAD.size:
            raise CorruptEntry(0, f"the record of the {self._name} is cut short", url=url)
        version, checksum = _HEAD.unpack_from(blob)
        body = blob[_HEAD.size :]
        if crc32(body) != checksum:
            raise CorruptEntry(0, f"the record of the {self._name} fails its checksum", url=url)
        if version > FORMAT:
            raise StorageFormatTooNew(
                f"the store has format {version}; this mosaik reads up to {FORMAT}. "
                f"Install the newer version that wrote it",
                url=url,
            )
        try:
            return self._codec.decode(body)
        except CodecError as error:
            raise CorruptEntry(0, f"the record of the {self._name}: {error}", url=url) from error


store_record: Final = RecordCodec(StoreRecord, "store")
log_record: Final = RecordCodec(LogRecord, "log")
