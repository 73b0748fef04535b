"""Who is dialled has to prove the group key, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from mosaik.groups import GroupKey
from mosaik.groups.handshake import Handshake
from mosaik.groups.wire import PROTOCOL, HandshakeEnd, end_codec, start_codec
from mosaik.transport.contract import CloseReason, Link
from tests.groups.fakes import KEY, FakeNode, World
from tests.groups.test_bonds import GROUP, AnyGroup, closed, dial, join


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


class FalseAcceptor:
    """A node that lists the group and answers every handshake in its own way."""

    def __init__(self, node: FakeNode, answer: Callable[[FakeNode, Link], bytes]) -> None:
        self._node = node
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        node._handlers[PROTOCOL] = self._accept
        node.add_group(GROUP.group_id)

    def _accept(self, link: Link) -> None:
        task = asyncio.ensure_future(self._greet(link))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _greet(self, link: Link) -> None:
        start_codec.decode(await link.receive(1.0))
        link.send(self._answer(self._node, link))
        code = await closed(link)
        if not self.code.done():
            self.code.set_result(code)


def said(node: FakeNode, link: Link, key: GroupKey, entry: FakeNode) -> bytes:
    proof = key.proof(
        binding=link.binding,
        initiator=link.remote,
        acceptor=node.peer,
        by_initiator=False,
        network=node.network_id,
        group=GROUP.group_id,
    )
    return end_codec.encode(HandshakeEnd(proof, entry.entry().raw, ()))


async def outcome(world: World, answer: Callable[[FakeNode, Link], bytes]) -> tuple[int, AnyGroup]:
    honest, false = await world.node(), await world.node()
    acceptor = FalseAcceptor(false, answer)
    group = join(honest)
    return await asyncio.wait_for(acceptor.code, 5), group


async def test_an_acceptor_without_the_key_gets_no_bond(world: World) -> None:
    stranger = GroupKey.generate()
    code, group = await outcome(world, lambda node, link: said(node, link, stranger, node))
    assert code == CloseReason.INVALID_PROOF
    assert group.bonds().is_empty
    await group.close()


async def test_an_acceptor_with_another_peers_entry_gets_no_bond(world: World) -> None:
    third = await world.node()
    code, group = await outcome(world, lambda node, link: said(node, link, KEY, third))
    assert code == CloseReason.INVALID_HANDSHAKE
    assert group.bonds().is_empty
    await group.close()


async def test_the_planted_bug_that_does_not_check_the_acceptor_bonds_with_anybody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accept_all(*args: Any, **more: Any) -> None:
        """The bug."""

    monkeypatch.setattr(Handshake, "_check", accept_all)
    honest, false = await world.node(), await world.node()
    FalseAcceptor(false, lambda node, link: said(node, link, GroupKey.generate(), node))
    async with join(honest) as group:
        while not group.bonds().contains_peer(false.peer):
            await group.bonds().changed()


async def test_one_stranger_that_stalls_does_not_keep_others_out(world: World) -> None:
    """Its oldest half-open handshakes make room for its own new ones, and never for nobody's."""
    node, other = await world.node(), await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger = await world.node()
        links = [await stranger.dial(node.transport.address, node.peer, 1.0) for _ in range(300)]
        assert await closed(links[0]) == CloseReason.TOO_MANY
        assert not links[-1].closed
        async with join(other) as second:
            while second.bonds().is_empty:
                await second.bonds().changed()


async def test_many_strangers_that_stall_make_room_for_the_newest(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        links = [link for _ in range(260) for link in [(await dial(world, node))[1]]]
        assert await closed(links[0]) == CloseReason.TOO_MANY
        assert not links[-1].closed
