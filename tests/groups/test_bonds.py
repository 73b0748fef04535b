"""Bonds: who gets one, which link stays, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from mosaik.consensus import Envelope
from mosaik.consensus.messages import Target, TimeoutNow
from mosaik.groups import Bond, Group, GroupConfig, GroupKey
from mosaik.groups.handshake import Handshake
from mosaik.groups.mesh import HANDSHAKE_TIMEOUT
from mosaik.groups.wire import (
    BondFormed,
    EntryUpdate,
    Forward,
    ForwardAccepted,
    ForwardRefused,
    HandshakeStart,
    Raft,
    bond_codec,
    end_codec,
    start_codec,
)
from mosaik.machines import NoOp
from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import GroupTerminated, LinkClosed
from mosaik.primitives.membership import Replica
from mosaik.transport import CloseReason, Link
from tests.groups.fakes import KEY, FakeNode, FakeStore, World, fast

CONFIG = fast(max_missed_heartbeats=3)
GROUP = GroupConfig(KEY, CONFIG, NoOp().signature())
AnyGroup = Group[Any, Any, Any]


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


def join(node: FakeNode) -> AnyGroup:
    stage = node.groups.with_key(KEY).with_state_machine(NoOp()).with_log_storage(FakeStore())
    return stage.with_consensus_config(CONFIG).join()


async def bonded(*groups: AnyGroup) -> None:
    """Waits until each has a bond with every other."""
    for group in groups:
        while len(group.bonds()) < len(groups) - 1:
            await group.bonds().changed()


async def closed(link: Link) -> int:
    """The code with which the other side closes."""
    try:
        while True:
            await link.receive(2 * HANDSHAKE_TIMEOUT)
    except LinkClosed as error:
        return error.code


async def dial(world: World, target: FakeNode) -> tuple[FakeNode, Link]:
    """A stranger's link: authenticated by the transport, nothing more."""
    stranger = await world.node()
    return stranger, await stranger.dial(target.transport.address, target.peer, 1.0)


def start(node: FakeNode, link: Link, key: GroupKey = KEY, **changes: Any) -> bytes:
    """What an honest initiator with this key would say, with changes."""
    proof = key.proof(
        binding=link.binding,
        initiator=node.peer,
        acceptor=link.remote,
        by_initiator=True,
        network=node.network_id,
        group=GROUP.group_id,
    )
    said = {
        "network": node.network_id,
        "group": GROUP.group_id,
        "proof": proof,
        "entry": node.entry().raw,
    }
    return start_codec.encode(HandshakeStart(**{**said, **changes}))


# -- who gets one -----------------------------------------------------------------------------------


async def test_an_honest_initiator_gets_an_answer_that_proves_the_key(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger, link = await dial(world, node)
        link.send(start(stranger, link))
        end = end_codec.decode(await link.receive(1.0))
        proof = KEY.proof(
            binding=link.binding,
            initiator=stranger.peer,
            acceptor=node.peer,
            by_initiator=False,
            network=node.network_id,
            group=GROUP.group_id,
        )
        assert end.proof == proof
        assert group.bonds().contains_peer(stranger.peer)


async def test_without_the_key_there_is_no_bond(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger, link = await dial(world, node)
        link.send(start(stranger, link, GroupKey.generate()))
        assert await closed(link) == CloseReason.INVALID_PROOF
        assert group.bonds().is_empty


async def test_the_planted_bug_that_checks_no_proof_lets_anybody_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accept_all(*args: Any, **more: Any) -> None:
        """The bug."""

    monkeypatch.setattr(Handshake, "_check", accept_all)
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger, link = await dial(world, node)
        link.send(start(stranger, link, GroupKey.generate()))
        await link.receive(1.0)
        assert group.bonds().contains_peer(stranger.peer)


async def test_a_proof_cannot_be_replayed_on_another_link(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger, first = await dial(world, node)
        overheard = start(stranger, first)
        thief, second = await dial(world, node)
        second.send(overheard)
        assert await closed(second) == CloseReason.INVALID_PROOF
        third = await stranger.dial(node.transport.address, node.peer, 1.0)
        third.send(overheard)
        assert await closed(third) == CloseReason.INVALID_PROOF
        assert not group.bonds().contains_peer(thief.peer)


async def test_an_acceptor_s_own_proof_does_not_pass_as_an_initiator_s(world: World) -> None:
    """Reflecting what the other side said proves nothing."""
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger, link = await dial(world, node)
        reflected = KEY.proof(
            binding=link.binding,
            initiator=stranger.peer,
            acceptor=node.peer,
            by_initiator=False,
            network=node.network_id,
            group=GROUP.group_id,
        )
        link.send(start(stranger, link, proof=reflected))
        assert await closed(link) == CloseReason.INVALID_PROOF


async def test_nonsense_closes_the_link_and_nothing_else(world: World) -> None:
    node, other = await world.node(), await world.node()
    async with join(node) as group:
        await group.when().online()
        for garbage in (b"", b"\xff" * 100):
            _, link = await dial(world, node)
            link.send(garbage)
            assert await closed(link) == CloseReason.INVALID_HANDSHAKE
        cases: list[tuple[dict[str, Any], CloseReason]] = [
            ({"network": Digest("x")}, CloseReason.DIFFERENT_NETWORK),
            ({"group": Digest("x")}, CloseReason.GROUP_NOT_FOUND),
            ({"entry": b"no entry"}, CloseReason.INVALID_HANDSHAKE),
            ({"entry": other.entry().raw}, CloseReason.INVALID_HANDSHAKE),
        ]
        for changes, code in cases:
            stranger, link = await dial(world, node)
            link.send(start(stranger, link, **changes))
            assert await closed(link) == code
        assert group.bonds().is_empty
        await group.execute(None)


async def test_who_stalls_in_the_handshake_is_cut_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosaik.groups.groups.HANDSHAKE_TIMEOUT", 0.1)
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        _, link = await dial(world, node)
        assert await closed(link) == CloseReason.TIMEOUT


# -- which link stays -------------------------------------------------------------------------------


async def test_when_both_dial_at_once_one_link_stays(world: World) -> None:
    for _ in range(10):
        nodes = [await world.node() for _ in range(3)]
        groups = [join(node) for node in nodes]
        await bonded(*groups)
        await asyncio.sleep(0)
        for one in nodes:
            for two, other in zip(nodes, groups, strict=True):
                if one is not two:
                    mine = groups[nodes.index(one)].bonds().get(two.peer)
                    theirs = other.bonds().get(one.peer)
                    assert mine is not None
                    assert theirs is not None
                    assert mine.id == theirs.id
        await asyncio.gather(*(group.close() for group in groups))


async def test_a_peer_that_lost_its_end_gets_a_new_bond(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not dial if it were bonded, so an older bond of ours gives way."""
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger, first = await dial(world, node)
        first.send(start(stranger, first))
        await first.receive(1.0)
        again = await stranger.dial(node.transport.address, node.peer, 1.0)
        again.send(start(stranger, again))
        assert await closed(again) == CloseReason.ALREADY_BONDED  # it may be our own dial crossing
        old = group.bonds().get(stranger.peer)
        assert old is not None
        monkeypatch.setattr("mosaik.groups.mesh.HANDSHAKE_TIMEOUT", 0.0)
        later = await stranger.dial(node.transport.address, node.peer, 1.0)
        later.send(start(stranger, later))
        await later.receive(1.0)
        assert (await old.terminated()).code == CloseReason.ALREADY_BONDED
        assert group.bonds().get(stranger.peer) is not old
        assert len(group.bonds()) == 1


# -- what is said on them ---------------------------------------------------------------------------


async def test_a_member_that_speaks_for_another_loses_its_bond(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger, link = await dial(world, node)
        link.send(start(stranger, link))
        await link.receive(1.0)
        liar = Replica(node.peer, bytes(16), 0)
        said = Envelope(bytes(32), liar, Target(b"", 0), TimeoutNow(1))
        link.send(bond_codec.encode(Raft(said)))
        assert await closed(link) == CloseReason.PROTOCOL_VIOLATION


async def test_garbage_on_a_bond_ends_it(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        for garbage in (b"", b"\x00", b"\x93\x63\x01\x02", b"\xff" * 50):
            stranger, link = await dial(world, node)
            link.send(start(stranger, link))
            await link.receive(1.0)
            link.send(garbage)
            assert await closed(link) == CloseReason.PROTOCOL_VIOLATION
        await group.execute(None)


async def test_an_entry_update_is_taken_from_its_owner_only(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger, link = await dial(world, node)
        link.send(start(stranger, link))
        await link.receive(1.0)
        bond = group.bonds().get(stranger.peer)
        assert bond is not None
        victim = await world.node()
        victim.add_group(Digest("something"))
        link.send(bond_codec.encode(EntryUpdate(victim.entry().raw)))
        stranger.add_group(Digest("mine"))
        link.send(bond_codec.encode(EntryUpdate(stranger.entry().raw)))
        while Digest("mine") not in bond.peer().entry.groups:
            await asyncio.sleep(0)
        assert bond.peer().entry.peer == stranger.peer


async def test_forwarded_commands_are_taken_in_the_named_term_only(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger, link = await dial(world, node)
        link.send(start(stranger, link))
        await link.receive(1.0)
        term = group.log_position.term

        async def answer() -> Any:
            while True:
                message = bond_codec.decode(await link.receive(1.0))
                if isinstance(message, ForwardAccepted | ForwardRefused):
                    return message

        link.send(bond_codec.encode(Forward(7, term, (b"\xc0", b"\xc0"))))
        accepted = await answer()
        assert isinstance(accepted, ForwardAccepted)
        assert (accepted.token, accepted.term) == (7, term)
        link.send(bond_codec.encode(Forward(8, term - 1, (b"\xc0",))))
        assert isinstance(await answer(), ForwardRefused)
        await group.when().committed().reaches(accepted.first + 1)


async def test_members_learn_of_each_other_through_bonds(world: World) -> None:
    """An entry that comes with a bond is as good as one that discovery brought."""
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        stranger, link = await dial(world, node)
        link.send(start(stranger, link))
        await link.receive(1.0)
        third = await world.node()
        third.add_group(GROUP.group_id)
        world.entries.pop(third.peer)
        link.send(bond_codec.encode(BondFormed(third.entry().raw)))
        while third.peer not in world.entries:
            await asyncio.sleep(0)


# -- how they end -----------------------------------------------------------------------------------


async def test_a_silent_peer_is_given_up_and_found_again(world: World) -> None:
    nodes = [await world.node(), await world.node()]
    groups = [join(node) for node in nodes]
    await bonded(*groups)
    bond = groups[0].bonds().get(nodes[1].peer)
    assert isinstance(bond, Bond)
    world.hub.separate(nodes[0].peer, nodes[1].peer)
    ending = await asyncio.wait_for(bond.terminated(), 5)
    assert (ending.code, ending.died) == (CloseReason.TIMEOUT, False)
    assert bond.is_terminated
    world.hub.heal()
    await bonded(*groups)
    await asyncio.gather(*(group.close() for group in groups))


async def test_a_dead_peer_s_bond_says_that_it_died(world: World) -> None:
    nodes = [await world.node(), await world.node()]
    groups = [join(node) for node in nodes]
    await bonded(*groups)
    bond = groups[0].bonds().get(nodes[1].peer)
    assert bond is not None
    nodes[1].crash()
    assert (await asyncio.wait_for(bond.terminated(), 1)).died
    await asyncio.gather(*(group.close() for group in groups))


async def test_a_goodbye_is_heard(world: World) -> None:
    nodes = [await world.node(), await world.node()]
    groups = [join(node) for node in nodes]
    await bonded(*groups)
    bond = groups[0].bonds().get(nodes[1].peer)
    assert bond is not None
    await groups[1].close()
    ending = await asyncio.wait_for(bond.terminated(), 1)
    assert (ending.code, ending.died) == (CloseReason.GRACEFUL_SHUTDOWN, True)
    assert GROUP.group_id not in nodes[1].entry().entry.groups
    await groups[0].close()
    with pytest.raises(GroupTerminated):
        await groups[0].bonds().changed()


async def test_a_bond_that_the_application_closed_comes_back(world: World) -> None:
    nodes = [await world.node(), await world.node()]
    groups = [join(node) for node in nodes]
    await bonded(*groups)
    bond = groups[0].bonds().get(nodes[1].peer)
    assert bond is not None
    await bond.close()
    await bonded(*groups)
    assert groups[0].bonds().get(nodes[1].peer) is not bond
    assert [each.remote for each in groups[0].bonds()] == [nodes[1].peer]
    await asyncio.gather(*(group.close() for group in groups))
