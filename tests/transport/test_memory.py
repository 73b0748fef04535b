"""What is special about links in memory: partitions and deaths on demand."""

from __future__ import annotations

import asyncio

import pytest

from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import DialError
from mosaik.primitives.peer import SecretKey
from mosaik.transport import Link, MemoryHub, MemoryTransport

NETWORK = Digest("tests")


class Party:
    """Some transports on one hub, and the links that each was dialled with."""

    def __init__(self, count: int) -> None:
        self.hub = MemoryHub()
        secrets = [SecretKey.from_bytes(bytes([n + 1]) * 32) for n in range(count)]
        self.nodes = [self.hub.bind(secret, NETWORK) for secret in secrets]
        self.links: list[Link] = []

    async def start(self) -> list[MemoryTransport]:
        for node in self.nodes:
            await node.start(self.links.append)
        return self.nodes


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_partition_holds_frames_back_and_heals() -> None:
    party = Party(2)
    one, two = await party.start()
    link = await one.dial(two.address, "p")
    party.hub.separate(one.peer, two.peer)
    link.send(b"first")
    link.close(204, "bye")
    await turns()
    other = party.links[0]
    assert not other.closed
    with pytest.raises(TimeoutError):
        await other.receive(0.001)
    party.hub.heal()
    assert await other.receive(1) == b"first"
    await turns()
    assert other.closed
    assert not party.hub.links


async def test_nobody_is_dialled_through_a_partition() -> None:
    party = Party(2)
    one, two = await party.start()
    party.hub.partition([one.peer], [two.peer])
    with pytest.raises(DialError, match=r"did not answer within 0\.01 s"):
        await one.dial(two.address, "p", timeout=0.01)
    dialling = asyncio.create_task(one.dial(two.address, "p"))
    await turns()
    assert not dialling.done()
    party.hub.heal()
    assert (await dialling).remote == two.peer


async def test_a_partition_has_any_number_of_sides() -> None:
    party = Party(4)
    peers = [node.peer for node in await party.start()]
    party.hub.partition(peers[:1], peers[1:2], peers[2:3])
    connected = {
        (a, b) for a in range(4) for b in range(4) if party.hub.connected(peers[a], peers[b])
    }
    assert connected == {(n, n) for n in range(4)} | {(n, 3) for n in range(3)} | {
        (3, n) for n in range(3)
    }
    party.hub.heal()
    party.hub.isolate(peers[0])
    assert not any(party.hub.connected(peers[0], other) for other in peers[1:])
    assert party.hub.connected(peers[1], peers[2])


async def test_a_crash_is_seen_by_those_who_can_see_it() -> None:
    party = Party(3)
    one, two, three = await party.start()
    links = [await node.dial(one.address, "p") for node in (two, three)]
    party.hub.separate(one.peer, three.peer)
    ends: list[tuple[int, bool]] = []
    for number, link in enumerate(links):

        def on_close(code: int, reason: str, died: bool, number: int = number) -> None:
            ends.append((number, died))

        link.on_close = on_close
    party.hub.crash(one.peer)
    await turns()
    assert ends == [(0, True)]
    with pytest.raises(DialError, match="nobody listens"):
        await two.dial(one.address, "p")
    party.hub.heal()
    await turns()
    assert ends == [(0, True), (1, True)]


def test_the_same_happens_each_time() -> None:
    """No clock, no chance: two runs with the same keys leave the same trace."""

    async def story() -> list[tuple[str, bytes, bytes]]:
        party = Party(3)
        nodes = await party.start()
        trace: list[tuple[str, bytes, bytes]] = []

        def listen(name: str, link: Link) -> None:
            def on_frame(frame: bytes) -> None:
                trace.append((name, frame, link.binding))
                if len(trace) < 200:
                    link.send(frame + b".")

            link.on_frame = on_frame

        for a in nodes:
            for b in nodes:
                if a is not b:
                    link = await a.dial(b.address, "p")
                    listen("dialled", link)
                    listen("accepted", party.links[-1])
                    link.send(b"x")
        party.hub.separate(nodes[0].peer, nodes[1].peer)
        await turns()
        party.hub.heal()
        await turns(300)
        return trace

    assert asyncio.run(story()) == asyncio.run(story())
