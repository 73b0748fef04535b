"""What a node and its operator say to each other: one request, and frames until the answer has ended.

A request is a line of JSON. A frame is ``length (4 bytes) ‖ kind (1) ‖ body``: pieces of a backup, a value in
JSON, or the error in which the answer ends.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Final, Literal

import msgspec

from mosaik.cli.node_socket import connected_socket
from mosaik.groups.inspection import GroupReport
from mosaik.primitives.errors import DialError, StorageUnavailable

__all__ = ["MAX_FRAME", "MAX_REQUEST", "Kind", "NodeReport", "Request", "frame", "frames_of"]

#: Bytes of a request, and of a frame's body.
MAX_REQUEST: Final = 4096
MAX_FRAME: Final = 1 << 20
#: Seconds in which a node must say something.
_PATIENCE: Final = 30.0
_HEAD: Final = struct.Struct(">IB")


class Kind(IntEnum):
    """What a frame holds. ``END`` and ``ERROR`` are the last."""

    VALUE = 1
    DATA = 2
    END = 3
    ERROR = 4


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked: where the node stands, or a backup of what is committed."""

    op: Literal["inspect", "backup"]


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """A running node.

    Attributes:
        peer: its id, in hex.
        pid: its process.
        version: of its mosaik.
        addresses: where it can be dialled.
        group: where its group stands.
    """

    peer: str
    pid: int
    version: str
    addresses: tuple[str, ...]
    group: GroupReport


def frame(kind: Kind, body: bytes = b"") -> bytes:
    """A frame's bytes."""
    return _HEAD.pack(len(body), kind) + body


@asynccontextmanager
async def frames_of(
    data_dir: Path, request: Request
) -> AsyncGenerator[AsyncIterator[tuple[Kind, bytes]], None]:
    """Asks the node that runs in a directory; gives the frames of its answer but for the last.

    Raises:
        DialError: no node runs there, or it ended before its answer had.
        StorageUnavailable: it answered with an error, which the message names.
    """
    connection = await asyncio.to_thread(connected_socket, data_dir)
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    try:
        writer.write(msgspec.json.encode(request) + b"\n")
        yield _frames(reader, data_dir)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _frames(
    reader: asyncio.StreamReader, data_dir: Path
) -> AsyncIterator[tuple[Kind, bytes]]:
    while True:
        try:
            async with asyncio.timeout(_PATIENCE):
                length, number = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                if length > MAX_FRAME:
                    raise DialError(f"the node in {data_dir} sent a frame of {length} bytes")
                body = await reader.readexactly(length)
            kind = Kind(number)
        except TimeoutError:
            raise DialError(
                f"the node in {data_dir} said nothing for {_PATIENCE:g} s; is it stopped?"
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            raise DialError(
                f"the node in {data_dir} ended before its answer had; ask again"
            ) from error
        if kind is Kind.ERROR:
            raise StorageUnavailable(body.decode(errors="replace"))
        if kind is Kind.END:
            return
        yield kind, body
