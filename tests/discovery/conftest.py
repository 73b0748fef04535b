"""Nodes that discover each other over memory, with a clock that tests may turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from mosaik.discovery import Discovery, DiscoveryConfig
from mosaik.discovery.wire import PROTOCOL, Message, codec
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.peer import PeerEntry, PeerVersion, SecretKey, SignedPeerEntry
from mosaik.transport import Link, MemoryHub, MemoryTransport

NETWORK = Digest("tests")


class Clock:
    """The wall clock, in milliseconds."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.ms


class Node:
    """One node; ``discovery`` is None until it is started."""

    def __init__(self, net: Net, secret: SecretKey, **settings: Any) -> None:
        self.net = net
        self.secret = secret
        self.peer = secret.peer
        self.settings = settings
        self.transport: MemoryTransport = net.hub.bind(secret, NETWORK)
        self.discovery: Discovery

    async def start(self, bootstrap: Iterable[str], now_ms: Callable[[], int]) -> None:
        await self.transport.start(lambda link: self.discovery.accept(link))
        self.discovery = Discovery(
            self.secret,
            NETWORK,
            self.transport,
            bootstrap=bootstrap,
            config=DiscoveryConfig(first_backoff=0.01, max_backoff=0.05, **self.settings),
            now_ms=now_ms,
        )
        await self.discovery.start()

    @property
    def address(self) -> str:
        return self.transport.address

    def knows(self, *peers: PeerId) -> bool:
        return all(peer in self.discovery.catalog() for peer in peers)

    async def close(self) -> None:
        await self.discovery.close()
        await self.transport.close()

    async def crash(self) -> None:
        """Ends without a goodbye."""
        self.net.hub.crash(self.peer)
        await self.discovery.close()


class Enemy:
    """A peer that says anything. Everything that it is sent is in ``heard``."""

    def __init__(self, net: Net, secret: SecretKey | None = None) -> None:
        self.net = net
        self.secret = secret or SecretKey.generate()
        self.peer = self.secret.peer
        self.transport = net.hub.bind(self.secret, NETWORK)
        self.heard: list[Message] = []
        self.ending: asyncio.Future[tuple[int, str, bool]]
        self.link: Link

    async def dial(self, node: Node) -> Link:
        self.link = await self.transport.dial(node.address, PROTOCOL)
        self.link.on_frame = self._hear
        self.ending = asyncio.get_running_loop().create_future()

        def on_close(code: int, reason: str, died: bool) -> None:
            self.ending.set_result((code, reason, died))

        self.link.on_close = on_close
        return self.link

    def _hear(self, frame: bytes) -> None:
        self.heard.append(codec.decode(frame))

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.link.send(codec.encode(message))

    def entry(self, start: int | None = None, update: int | None = None, **more: Any) -> PeerEntry:
        start = self.net.clock.ms if start is None else start
        version = PeerVersion(start, start if update is None else update)
        more.setdefault("network", NETWORK)
        return PeerEntry(version=version, peer=self.peer, **more)

    def signed(self, start: int | None = None, **more: Any) -> SignedPeerEntry:
        return self.entry(start, **more).sign(self.secret)


class Net:
    """A network in memory."""

    def __init__(self) -> None:
        self.hub = MemoryHub()
        self.clock = Clock()
        self.nodes: list[Node] = []

    async def node(
        self,
        bootstrap: Iterable[str | Node] = (),
        *,
        secret: SecretKey | None = None,
        now_ms: Callable[[], int] | None = None,
        **settings: Any,
    ) -> Node:
        node = Node(self, secret or SecretKey.generate(), **settings)
        known = [first if isinstance(first, str) else first.address for first in bootstrap]
        await node.start(known, now_ms or self.clock)
        self.nodes.append(node)
        return node

    async def full(self, count: int, **settings: Any) -> list[Node]:
        """Nodes that all know each other."""
        first = await self.node(**settings)
        nodes = [first, *[await self.node([first], **settings) for _ in range(count - 1)]]
        peers = [node.peer for node in nodes]
        await until(lambda: all(node.knows(*peers) for node in nodes))
        return nodes

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()


async def until(condition: Callable[[], bool]) -> None:
    """Lets everybody work until something is the case."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def settle() -> None:
    """Lets everybody work until nothing is under way any more, in a network without timers to come."""
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    made = Net()
    yield made
    await made.close()
