"""A running node's side of the socket at which its operator asks.

A request is short and comes at once, answers are taken as they are made, and few are made at a time: what
the operator's tools do, or somebody who got that far, stalls no node.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec

import mosaik
from mosaik.cli.node_socket import listening_socket, peer_uid, remove_socket
from mosaik.cli.node_wire import MAX_FRAME, MAX_REQUEST, Kind, NodeReport, Request, frame
from mosaik.groups.inspection import GroupReport
from mosaik.primitives.errors import IdentityError, MosaikError

__all__ = ["Served", "serving_operator"]

_logger = logging.getLogger("mosaik.node")

#: Seconds for a request to come, and for a frame to be taken.
_PATIENCE: Final = 10.0
#: Answers that are made at a time.
_MOST: Final = 4


class Served(Protocol):
    """A group, as its operator sees it."""

    async def inspect(self) -> GroupReport: ...

    def stream_backup(self) -> AsyncGenerator[bytes, None]: ...


@asynccontextmanager
async def serving_operator(
    data_dir: Path, group: Served, peer: bytes, addresses: Callable[[], tuple[str, ...]]
) -> AsyncGenerator[None, None]:
    """Answers at the socket in the data directory while the block runs.

    Args:
        data_dir: the node's, whose lock this process holds.
        group: what is asked about.
        peer: the node's id.
        addresses: where the node can be dialled.

    Raises:
        IdentityError: something that is not a socket lies in its place.
    """
    try:
        listening = listening_socket(data_dir)
    except OSError as error:
        # A node serves its group on a file system without sockets, too.
        _logger.warning("`mosaik node inspect` and `backup` will not work: %s", error)
        yield
        return
    desk = _Desk(group, peer, addresses)
    server = await asyncio.start_unix_server(desk.answer, sock=listening, limit=MAX_REQUEST)
    try:
        yield
    finally:
        server.close()
        await desk.close()
        with suppress(OSError, IdentityError):  # whoever removed it has done our work
            remove_socket(data_dir)


class _Desk:
    """Answers requests, each on a connection of its own."""

    def __init__(
        self, group: Served, peer: bytes, addresses: Callable[[], tuple[str, ...]]
    ) -> None:
        self._group = group
        self._peer = peer
        self._addresses = addresses
        self._busy: set[asyncio.Task[None]] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # the server runs this as one
        self._busy.add(task)
        try:
            await self._answer(reader, writer)
        except TimeoutError:
            _logger.info("an operator's connection was given up: it was too slow")
        except ConnectionError as error:
            _logger.info("an operator's connection was given up: %s", error)
        except asyncio.CancelledError:
            # The node ends. A task that is cancelled is logged by the server as a failure.
            pass
        finally:
            self._busy.discard(task)
            writer.close()

    async def close(self) -> None:
        """Ends the answers that are being made."""
        tasks = list(self._busy)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Read before anything is refused: closing with bytes unread would take the refusal along.
        try:
            async with asyncio.timeout(_PATIENCE):
                line = await reader.readline()
            request = msgspec.json.decode(line, type=Request)
        except (ValueError, msgspec.MsgspecError) as error:
            return await _refuse(writer, f"the node does not understand the request: {error}")
        uid = peer_uid(writer.get_extra_info("socket"))
        if uid not in {os.geteuid(), 0}:
            return await _refuse(writer, f"user {uid} may not ask this node")
        if len(self._busy) > _MOST:
            return await _refuse(writer, "the node is answering others; ask again in a moment")
        try:
            if request.op == "inspect":
                await self._inspect(writer)
            else:
                await self._backup(writer)
        except MosaikError as error:
            await _refuse(writer, str(error))

    async def _inspect(self, writer: asyncio.StreamWriter) -> None:
        report = NodeReport(
            peer=self._peer.hex(),
            pid=os.getpid(),
            version=mosaik.__version__,
            addresses=self._addresses(),
            group=await self._group.inspect(),
        )
        await _send(writer, Kind.VALUE, msgspec.json.encode(report))
        await _send(writer, Kind.END)

    async def _backup(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, Kind.VALUE, msgspec.json.encode(self._peer.hex()))
        async with aclosing(self._group.stream_backup()) as pieces:
            async for piece in pieces:
                for at in range(0, len(piece), MAX_FRAME):
                    await _send(writer, Kind.DATA, piece[at : at + MAX_FRAME])
        await _send(writer, Kind.END)


async def _send(writer: asyncio.StreamWriter, kind: Kind, body: bytes = b"") -> None:
    """Sends a frame, as soon as the other side has taken most of what came before.

    Raises:
        TimeoutError: it does not.
    """
    writer.write(frame(kind, body))
    async with asyncio.timeout(_PATIENCE):
        await writer.drain()


async def _refuse(writer: asyncio.StreamWriter, why: str) -> None:
    await _send(writer, Kind.ERROR, why.encode())
