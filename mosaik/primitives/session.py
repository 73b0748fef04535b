"""How a command of a session is told from others in a log, and what it says beside the command.

A ``COMMAND`` entry's payload is MessagePack, in which no value begins with the byte 0xC1. The payload of a
session begins with it::

    offset  size  field
    0       1     0xC1
    1       1     version (1)
    2       1     what it is (`SessionOp`)
    3       8     the session, by a number that its client drew when it opened it
    11      8     the command's number in the session, from 1
    19      8     the lowest number of which the client has no answer yet
    27            the command, as it would stand there without a session

All integers are big-endian. A node that knows nothing of sessions cannot take such an entry for a command
of its machine: it ends with an `ApplyError` instead.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from mosaik.primitives.errors import CodecError

__all__ = ["SESSION_MARK", "SESSION_OVERHEAD", "SessionHeader", "SessionOp", "unwrap", "wrap"]

#: The first byte of a session's payload.
SESSION_MARK: Final = 0xC1
_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BBBQQQ")
#: Bytes that a session adds to a command.
SESSION_OVERHEAD: Final = _HEAD.size


class SessionOp(IntEnum):
    """What an entry of a session is for."""

    OPEN = 0
    COMMAND = 1
    CLOSE = 2


_OPS: Final = {int(op): op for op in SessionOp}


class SessionHeader(NamedTuple):
    """What stands before a session's command.

    Attributes:
        session: drawn by its client. Not an index: an index names other entries in other histories.
        number: of the command.
        floor: the client has all answers to commands of lower numbers, and will not ask again.
    """

    op: SessionOp
    session: int
    number: int = 0
    floor: int = 0

    def __str__(self) -> str:
        if self.op is SessionOp.OPEN:
            return f"opens session {self.session}"
        if self.op is SessionOp.CLOSE:
            return f"closes session {self.session}"
        return f"session {self.session}, number {self.number}"


def wrap(header: SessionHeader, command: bytes = b"") -> bytes:
    """The payload of a session's entry."""
    return _HEAD.pack(SESSION_MARK, _VERSION, *header) + command


def unwrap(payload: bytes) -> tuple[SessionHeader | None, bytes]:
    """The header of a session's payload, None of any other; and the command.

    Raises:
        CodecError: it is a session's, and cut short or of an unknown version.
    """
    if not payload or payload[0] != SESSION_MARK:
        return None, payload
    if len(payload) < _HEAD.size:
        raise CodecError(
            f"a session's payload of {len(payload)} bytes; its header has {_HEAD.size}"
        )
    _, version, number, *rest = _HEAD.unpack_from(payload)
    op = _OPS.get(number)
    if version != _VERSION or op is None:
        raise CodecError(
            f"a session's payload of version {version}, kind {number}: a newer mosaik wrote it"
        )
    return SessionHeader(op, *rest), payload[_HEAD.size :]
