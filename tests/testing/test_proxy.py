"""The proxy between nodes: what is held back, what is heard of it, and what arrives in the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator

import pytest

from mosaik.testing import proxy as proxy_module
from mosaik.testing.ports import free_ports
from mosaik.testing.proxy import Proxy

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere 127.0.0.1 alone is this machine's"
)
BOTH = [("a", "b"), ("b", "a")]
#: Closing with this resets the connection, as the kernel does for a process killed with bytes unread.
RESET = struct.pack("ii", 1, 0)
End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wires:
    """Two nodes: `a` dials `b` through the proxy."""

    def __init__(self) -> None:
        self.front, self.behind = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.proxy = Proxy({"b": (self.front, self.behind)}, {"127.0.1.1": "a"})
        self.arrived: asyncio.Queue[End] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._ends: list[End] = []

    async def serve(self) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._ends.append((reader, writer))
            await self.arrived.put((reader, writer))

        host, _, port = self.behind.rpartition(":")
        self._server = await asyncio.start_server(accept, host, int(port))

    async def dial(self, source: str = "127.0.1.1") -> End:
        host, _, port = self.front.rpartition(":")
        end = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
        self._ends.append(end)
        return end

    async def connected(self) -> tuple[End, End]:
        end = await self.dial()
        return end, await self.arrived.get()

    async def close(self) -> None:
        for _, writer in self._ends:
            writer.transport.abort()
        await self.proxy.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    made = Wires()
    await made.serve()
    await made.proxy.start()
    yield made
    await made.close()


async def hears_nothing(end: End) -> None:
    """Nothing came within the time in which a healthy proxy would have brought it a hundred times."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(end[0].read(1), 0.1)


async def test_what_is_held_back_arrives_in_order(wires: Wires) -> None:
    a, b = await wires.connected()
    wires.proxy.cut(BOTH)
    a[1].write(b"one ")
    await hears_nothing(b)
    a[1].write(b"two")
    a[1].write_eof()
    wires.proxy.heal()
    assert await b[0].read() == b"one two"


async def test_one_way_may_be_cut_alone(wires: Wires) -> None:
    a, b = await wires.connected()
    wires.proxy.cut([("a", "b")])
    a[1].write(b"unheard")
    b[1].write(b"heard")
    assert await a[0].readexactly(5) == b"heard"
    await hears_nothing(b)


async def test_a_new_connection_waits_for_the_wire(wires: Wires) -> None:
    wires.proxy.cut([("b", "a")])
    a = await wires.dial()
    a[1].write(b"hello")
    await hears_nothing(a)
    assert wires.arrived.empty()
    wires.proxy.heal()
    reader, _ = await wires.arrived.get()
    assert await reader.readexactly(5) == b"hello"


async def test_somebody_else_is_never_cut_off(wires: Wires) -> None:
    wires.proxy.cut(BOTH)
    _, writer = await wires.dial("127.0.0.1")
    writer.write(b"hello")
    reader, _ = await wires.arrived.get()
    assert await reader.readexactly(5) == b"hello"


@pytest.mark.parametrize("dialler", [True, False])
@pytest.mark.parametrize("speaks", [True, False])
async def test_that_one_is_gone_is_not_heard_through_a_cut_wire(
    wires: Wires, dialler: bool, speaks: bool
) -> None:
    a, b = await wires.connected()
    dies, lives = (a, b) if dialler else (b, a)
    wires.proxy.cut(BOTH)
    connection: socket.socket = dies[1].get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    dies[1].transport.abort()
    if speaks:
        lives[1].write(b"are you there?")
    await hears_nothing(lives)
    wires.proxy.heal()
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await lives[0].read() == b""


async def test_who_dials_a_node_that_does_not_run_is_told(wires: Wires) -> None:
    wires.proxy._nodes = {"b": (wires.front, f"127.0.0.1:{free_ports(1)[0]}")}  # type: ignore[misc]
    reader, _ = await wires.dial()
    async with asyncio.timeout(5):
        assert await reader.read() == b""


async def test_a_proxy_that_cannot_listen_for_one_listens_for_none() -> None:
    free, taken = free_ports(2)
    with socket.create_server(("127.0.0.1", taken)):
        nodes = {"a": (f"127.0.0.1:{free}", ""), "b": (f"127.0.0.1:{taken}", "")}
        proxy = Proxy(nodes, {})
        with pytest.raises(OSError, match="address already in use"):
            await proxy.start()
        assert not proxy.running
    socket.create_server(("127.0.0.1", free)).close()


async def test_a_wire_that_passes_everything_is_noticed(
    wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def passes(*_: object) -> None: ...

    monkeypatch.setattr(proxy_module.Proxy, "_passes", passes)
    a, b = await wires.connected()
    wires.proxy.cut(BOTH)
    a[1].write(b"!")
    with pytest.raises(pytest.fail.Exception):
        await hears_nothing(b)
