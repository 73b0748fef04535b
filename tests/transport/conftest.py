"""Every test of links runs on asyncio's own event loop and, where it is installed, on uvloop."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Callable

import pytest

from mosaik.primitives.digest import Digest
from mosaik.primitives.peer import SecretKey
from mosaik.transport import Link, MemoryHub, TlsTransport, Transport, link, tls
from mosaik.transport.quiet import QuietLog
from tests.transport.echo import NETWORK, SECRET, Node

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, LoopFactory]:
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.SelectorEventLoop}
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(autouse=True)
def every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test had logged must not keep the next one's lines back."""
    for module in (link, tls):
        monkeypatch.setattr(module, "_quiet", QuietLog(module.log, interval=0.0))


class Nodes:
    """Makes transports of one kind, and closes them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.hub = MemoryHub()
        self.started: list[Transport] = []

    def make(self, secret: SecretKey, network: Digest = NETWORK) -> Transport:
        if self.kind == "memory":
            return self.hub.bind(secret, network)
        return TlsTransport(secret, network)

    async def start(
        self,
        accept: Callable[[Link], None],
        secret: SecretKey | None = None,
        network: Digest = NETWORK,
    ) -> Transport:
        transport = self.make(secret or SecretKey.generate(), network)
        await transport.start(accept)
        self.started.append(transport)
        return transport

    async def pair(self) -> tuple[Link, Link]:
        """Both ends of a link: the dialled one, the accepted one."""
        arrived: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        server = await self.start(arrived.set_result)
        client = await self.start(refuse)
        return await client.dial(server.addresses[0], "test/1"), await arrived

    async def close(self) -> None:
        for transport in self.started:
            await transport.close()


def refuse(link: Link) -> None:
    raise AssertionError(f"nobody should have dialled: {link}")


@pytest.fixture(params=["memory", "tls"])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    made = Nodes(request.param)
    yield made
    await made.close()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    links: list[Link] = []

    def accept(link: Link) -> None:
        link.on_frame = link.send
        links.append(link)

    made = Node(TlsTransport(SECRET, NETWORK), links)
    await made.transport.start(accept)
    yield made
    await made.transport.close()
