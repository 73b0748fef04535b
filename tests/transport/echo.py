"""A node that answers every frame with itself, and clients that may send it anything."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

from mosaik.primitives.digest import Digest
from mosaik.primitives.peer import SecretKey
from mosaik.transport import Link, TlsTransport, certificates
from mosaik.transport.frames import HEADER, Hello

__all__ = ["NETWORK", "SECRET", "Node", "Raw", "client_context", "hello", "refusal"]

NETWORK = Digest("tests")
SECRET = SecretKey.from_bytes(bytes(32))


class Node(NamedTuple):
    """A transport that answers every frame with itself."""

    transport: TlsTransport
    links: list[Link]

    @property
    def port(self) -> int:
        return int(self.transport.addresses[0].rpartition(":")[2])

    async def serves(self) -> None:
        """An honest peer still gets in and is answered."""
        honest = TlsTransport(SecretKey.generate(), NETWORK)
        link = await honest.dial(self.transport.addresses[0], "echo", expect=self.transport.peer)
        link.send(b"still there?")
        assert await link.receive(5) == b"still there?"
        await honest.close()

    async def raw(self, context: ssl.SSLContext | None = None) -> Raw:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname="" if context else None
        )
        return Raw(reader, writer)


class Raw(NamedTuple):
    """A client that may send anything."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def end(self) -> bytes:
        """What the node sends until it closes; it must close."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except (ConnectionError, ssl.SSLError):
                return b""
            finally:
                self.writer.transport.abort()


def client_context() -> ssl.SSLContext:
    return certificates.client_context(SecretKey.generate())


def hello(network: Digest = NETWORK) -> bytes:
    return Hello.fresh(network, "echo").frame()


def refusal(data: bytes) -> int:
    """The code in the close frame that a refused stranger gets."""
    size, kind = HEADER.unpack_from(data)
    assert kind == 1, data
    assert len(data) == HEADER.size + size
    return int.from_bytes(data[HEADER.size :][:4], "big")
