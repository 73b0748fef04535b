"""Sealed log entries: the same bytes on every disk and every wire.

Theory of operation
-------------------
The leader seals an entry once. From then on it is one opaque byte string: it is concatenated into an
``AppendEntries`` message, into a follower's disk row, and back, and is never encoded again. A run of
entries is therefore just their concatenation, which the fixed header makes self-delimiting::

    offset  size  field
    0       1     format version (1)
    1       1     kind (EntryKind)
    2       2     reserved, zero
    4       4     payload length
    8       8     index
    16      8     term
    24      8     the leader's wall clock in milliseconds, never below the preceding entry's
    32      4     previous: the checksum of the entry before this one (0 before entry 1)
    36      4     checksum: CRC-32 of bytes 0..36 and the payload
    40            payload

All integers are big-endian. The checksum covers ``previous``, so checksums form a chain. Appending
to a CRC is a bijection of its state, hence two logs that once differed never show equal checksums at
the same later entry just because they continue alike: comparing the checksum at one index compares
everything before it, up to the odds of a 32-bit collision at the point of divergence. Raft's log
matching (thesis §3.5) does the work; the chain is there to notice when an assumption of it was broken.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Any, Final, Generic, TypeVar
from zlib import crc32

import msgspec

from mosaik.primitives.cursor import Cursor
from mosaik.primitives.errors import CodecError
from mosaik.primitives.session import SessionHeader, SessionOp, unwrap

__all__ = [
    "HEADER_SIZE",
    "MAX_ENTRY_SIZE",
    "SEAL_VERSION",
    "Damage",
    "Entry",
    "EntryKind",
    "join_sealed",
    "seal",
    "split_sealed",
    "unseal",
]

C = TypeVar("C")

SEAL_VERSION: Final = 1
HEADER_SIZE: Final = 40
#: An entry may not exceed this many bytes, sealed: it has to fit into one message and one transaction.
MAX_ENTRY_SIZE: Final = 16 * 1024 * 1024

_HEAD: Final = struct.Struct(">BBHIQQQI")
_HEADER: Final = struct.Struct(">BBHIQQQII")
_CHECKSUM: Final = struct.Struct(">I")


class EntryKind(IntEnum):
    """What an entry is for. Only ``COMMAND`` reaches the state machine."""

    CONFIG = 1
    FOUNDED = 2
    NOOP = 3
    COMMAND = 4
    DISSOLVE = 5


_KINDS: dict[int, EntryKind] = {int(kind): kind for kind in EntryKind}


class Entry(msgspec.Struct, Generic[C], gc=False, eq=False):
    """One entry of a log.

    Two entries are equal when their sealed bytes are.

    Attributes:
        index: its place, from 1.
        term: the leader's term that appended it.
        kind: what it is for.
        time_ms: the leader's wall clock when it was sealed, milliseconds since 1970.
        previous: the checksum of the entry before it.
        checksum: its own, chained over ``previous``.
        sealed: the bytes that are stored and sent.
    """

    index: int
    term: int
    kind: EntryKind
    time_ms: int
    previous: int
    checksum: int
    sealed: bytes
    _decode: Callable[[bytes], C] | None = None

    @property
    def payload(self) -> bytes:
        """The command (or configuration, …) as it was encoded by the node that took it."""
        return self.sealed[HEADER_SIZE:]

    @property
    def command(self) -> C:
        """The command, decoded anew at each use by the codec that the log was opened with.

        Raises:
            CodecError: the entry carries no command, or the log was opened without a codec.
        """
        if self.kind is not EntryKind.COMMAND:
            raise CodecError(
                f"entry {self.index} is a {self.kind.name.lower()} entry, not a command"
            )
        if self._decode is None:
            raise CodecError(f"entry {self.index} was read without a codec; open the log with one")
        header, command = unwrap(self.sealed[HEADER_SIZE:])
        if header is not None and header.op is not SessionOp.COMMAND:
            raise CodecError(f"entry {self.index} {header}, and carries no command")
        return self._decode(command)

    @property
    def session(self) -> SessionHeader | None:
        """The session that the command was given in; None without one.

        Raises:
            CodecError: a newer mosaik wrote it.
        """
        return unwrap(self.payload)[0] if self.kind is EntryKind.COMMAND else None

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.term, self.index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.sealed == other.sealed

    def __ne__(self, other: object) -> bool:
        # msgspec's own, which compares identities, would be found before the opposite of `__eq__`.
        return not self == other

    def __hash__(self) -> int:
        return hash(self.sealed)

    def __repr__(self) -> str:
        size = len(self.sealed) - HEADER_SIZE
        return f"Entry({self.kind.name} i:{self.index} t:{self.term} {size} B #{self.checksum:08x})"


class Damage(CodecError):
    """Sealed bytes are not what was sealed.

    Attributes:
        index: the index that the damaged entry should have had, as far as it is known.
        reason: what is wrong.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"sealed entry {index}: {reason}")
        self.index = index
        self.reason = reason


def seal(
    kind: EntryKind, index: int, term: int, time_ms: int, payload: bytes, previous: int
) -> Entry[Any]:
    """Makes the entry that follows one whose checksum is ``previous``.

    Raises:
        CodecError: the payload makes it longer than `MAX_ENTRY_SIZE`.
    """
    if len(payload) > MAX_ENTRY_SIZE - HEADER_SIZE:
        raise CodecError(
            f"a command of {len(payload)} bytes does not fit an entry; the limit is "
            f"{MAX_ENTRY_SIZE - HEADER_SIZE}. Store large values elsewhere and replicate a reference."
        )
    head = _HEAD.pack(SEAL_VERSION, kind, 0, len(payload), index, term, time_ms, previous)
    checksum = crc32(payload, crc32(head))
    sealed = head + _CHECKSUM.pack(checksum) + payload
    return Entry(index, term, kind, time_ms, previous, checksum, sealed)


def unseal(
    blob: bytes,
    offset: int = 0,
    *,
    expected: int = 0,
    decode: Callable[[bytes], Any] | None = None,
) -> Entry[Any]:
    """Reads and verifies the one entry that starts at ``offset``.

    Args:
        blob: sealed bytes, perhaps of several entries.
        offset: where this one starts.
        expected: the index it must have; 0 accepts any.
        decode: what `Entry.command` will use.

    Raises:
        Damage: it is cut short, of an unknown version or kind, misplaced, or its checksum is wrong.
    """
    if len(blob) - offset < HEADER_SIZE:
        raise Damage(
            expected, f"cut short: {len(blob) - offset} bytes of a header of {HEADER_SIZE}"
        )
    version, kind_number, reserved, length, index, term, time_ms, previous, checksum = (
        _HEADER.unpack_from(blob, offset)
    )
    end = offset + HEADER_SIZE + length
    if end > len(blob):
        raise Damage(expected or index, f"cut short: {len(blob) - offset} bytes of {end - offset}")
    sealed = blob[offset:end]
    if crc32(sealed[HEADER_SIZE:], crc32(sealed[:36])) != checksum:
        raise Damage(expected or index, "its checksum does not match its content")
    if expected and index != expected:
        raise Damage(expected, f"entry {index} lies in its place")
    kind = _KINDS.get(kind_number)
    # Checked after the checksum: a good checksum over an unknown version is a newer writer, not rot.
    if version != SEAL_VERSION or kind is None or reserved:
        raise Damage(index, f"sealed in an unknown format (version {version}, kind {kind_number})")
    return Entry(index, term, kind, time_ms, previous, checksum, sealed, decode)


def split_sealed(
    blob: bytes,
    *,
    first: int = 0,
    decode: Callable[[bytes], Any] | None = None,
) -> list[Entry[Any]]:
    """Reads and verifies a run of entries: each checksum, consecutive indices, the chain, and terms
    and times that do not go back.

    Args:
        blob: the concatenation of sealed entries.
        first: the index that the first must have; 0 accepts any.
        decode: what `Entry.command` will use.

    Raises:
        Damage: at the first entry that is not what was sealed.
    """
    entries: list[Entry[Any]] = []
    offset, size = 0, len(blob)
    before: Entry[Any] | None = None
    while offset < size:
        entry = unseal(blob, offset, expected=before.index + 1 if before else first, decode=decode)
        if before is not None:
            if entry.previous != before.checksum:
                raise Damage(entry.index, "it does not continue the entry before it")
            if entry.term < before.term or entry.time_ms < before.time_ms:
                raise Damage(entry.index, "its term or time goes back")
        entries.append(entry)
        offset += len(entry.sealed)
        before = entry
    return entries


def join_sealed(entries: Sequence[Entry[Any]] | Iterable[Entry[Any]]) -> bytes:
    """The run's bytes, as they are stored and sent."""
    return b"".join([entry.sealed for entry in entries])
