"""A proxy in front of every node, which knows for each connection who dialled it, and can cut it.

Theory of operation
-------------------
Every node listens on a port of its own that nobody is told, advertises the proxy's port instead, and
dials out from an address of its own on the loopback network. So the proxy sees of each connection whose it is
and where it goes. What it holds back stays in order and is handed over when the wire is healed, as TCP
does it; nobody is told that the wire is cut, and a new connection is answered only by silence. TLS runs end
to end between the nodes, so that the proxy can only delay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

__all__ = ["Proxy"]

_CHUNK: Final = 64 * 1024


class Proxy:
    """Relays connections between nodes that are known by the address from which they dial.

    Args:
        nodes: by name, the address where the proxy listens for it, and the one where it listens itself.
        sources: names by the address from which a node dials; others' connections are never cut.
    """

    def __init__(self, nodes: Mapping[str, tuple[str, str]], sources: Mapping[str, str]) -> None:
        self._nodes: Final = nodes
        self._sources: Final = sources
        self._servers: list[asyncio.Server] = []
        self._relays: set[asyncio.Task[None]] = set()
        self._cut: set[tuple[str, str]] = set()
        self._mended = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return bool(self._servers)

    async def start(self) -> None:
        """Listens for every node.

        Raises:
            OSError: it cannot; then it listens for none.
        """
        try:
            for name, (address, _) in self._nodes.items():
                host, _, port = address.rpartition(":")
                accept = partial(self._accept, name)
                self._servers.append(await asyncio.start_server(accept, host, int(port)))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends all connections."""
        for server in self._servers:
            server.close()
        relays = list(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        self._servers = []

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """What the first of a pair says does not reach the second one."""
        self._cut.update(pairs)

    def heal(self) -> None:
        """Everything passes again; what was held back is delivered."""
        self._cut.clear()
        mended, self._mended = self._mended, asyncio.Event()
        mended.set()

    async def _passes(self, source: str, target: str) -> None:
        while (source, target) in self._cut:
            await self._mended.wait()

    def _accept(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host = writer.get_extra_info("peername")[0]
        task = asyncio.create_task(
            self._relay(self._sources.get(host, ""), target, reader, writer),
            name=f"{host} to {target}",
        )
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)

    async def _relay(
        self,
        source: str,
        target: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        there: asyncio.StreamWriter | None = None
        try:
            await self._passes(source, target)
            await self._passes(target, source)
            host, _, port = self._nodes[target][1].rpartition(":")
            back, there = await asyncio.open_connection(host, int(port))
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(source, target, reader, there, writer))
                both.create_task(self._pump(target, source, back, writer, there))
        except OSError:
            pass  # the node does not run: who dialled is told below
        finally:
            for end in (writer, there):
                if end is not None:
                    end.transport.abort() if end.transport.is_closing() else end.close()

    async def _pump(
        self,
        source: str,
        target: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: asyncio.StreamWriter,
    ) -> None:
        """Hands on what the source says. That one side is gone is heard by the other as all else is: not
        before the wire is mended."""
        try:
            while data := await reader.read(_CHUNK):
                await self._passes(source, target)
                if not await _sent(writer, data):
                    await self._passes(target, source)
                    answer.transport.abort()
                    return
        except OSError:  # the source's end broke
            await self._passes(source, target)
            writer.transport.abort()
            return
        await self._passes(source, target)
        with suppress(OSError):
            writer.write_eof()


async def _sent(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Whether there was somebody to send it to."""
    try:
        writer.write(data)
        await writer.drain()
    except OSError:
        return False
    return True
