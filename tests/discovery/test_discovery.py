"""How nodes find each other, hear of changes, part, and come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from mosaik.discovery import (
    Discovery,
    Event,
    PeerDeparted,
    PeerDiscovered,
    PeerUpdated,
    discovery,
)
from mosaik.discovery.gossip import Gossip
from mosaik.discovery.neighbour import Neighbour
from mosaik.discovery.wire import PROTOCOL
from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import DialError
from mosaik.primitives.peer import SecretKey
from mosaik.transport import Link

if TYPE_CHECKING:
    from tests.discovery.conftest import Net


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def groups_seen(by: Discovery, of: Discovery) -> set[Digest]:
    entry = by.catalog().get(of.me().peer)
    return set() if entry is None else set(entry.groups)


async def test_all_find_all_by_one_bootstrap_address(net: Net) -> None:
    nodes = await net.full(6)
    await until(lambda: all(len(node.discovery.neighbours()) == 5 for node in nodes))


async def test_a_chain_of_introductions_is_enough(net: Net) -> None:
    nodes = [await net.node()]
    for _ in range(5):
        nodes.append(await net.node([nodes[-1]]))
    await until(lambda: all(len(node.discovery.catalog()) == 5 for node in nodes))


async def test_many_nodes_keep_few_neighbours_and_know_all(net: Net) -> None:
    nodes = await net.full(24, neighbours=3, max_neighbours=6)
    # Six accepted at most, besides the three and the bootstrap address that are dialled.
    assert all(len(node.discovery.neighbours()) <= 6 + 3 + 1 for node in nodes)
    group = Digest("g")
    nodes[7].discovery.add_groups(group)
    await until(
        lambda: all(groups_seen(node.discovery, nodes[7].discovery) == {group} for node in nodes)
    )


async def test_changes_of_an_entry_get_around(net: Net) -> None:
    one, two, three = await net.full(3)
    group, tag = Digest("g"), Digest("t")
    one.discovery.add_groups(group)
    one.discovery.add_tags(tag)
    await until(lambda: groups_seen(three.discovery, one.discovery) == {group})
    assert [s.entry.peer for s in two.discovery.catalog().members(group)] == [one.peer]
    assert [s.entry.peer for s in two.discovery.catalog().tagged(tag)] == [one.peer]
    one.discovery.remove_groups(group)
    one.discovery.remove_tags(tag)
    await until(lambda: not three.discovery.catalog().members(group))
    await until(lambda: not three.discovery.catalog().tagged(tag))


async def test_only_a_change_makes_a_new_version(net: Net) -> None:
    node = await net.node()
    await asyncio.sleep(0)
    versions = [node.discovery.me().version]
    changes: list[Callable[[], None]] = [
        lambda: node.discovery.add_groups(Digest("g")),
        lambda: node.discovery.add_tags(Digest("t")),
        lambda: node.discovery.remove_groups(Digest("g")),
        lambda: node.discovery.remove_tags(Digest("t")),
    ]
    for change in changes:
        change()
        versions.append(node.discovery.me().version)
        change()
        assert node.discovery.me().version == versions[-1]
    assert versions == sorted(set(versions))


async def test_a_goodbye_reaches_everybody_and_stays(net: Net) -> None:
    nodes = await net.full(5)
    gone = nodes[2]
    await gone.close()
    rest = [node for node in nodes if node is not gone]
    await until(lambda: not any(gone.peer in node.discovery.catalog() for node in rest))
    newcomer = await net.node([rest[0]])
    await until(lambda: len(newcomer.discovery.catalog()) == 4)
    assert gone.peer not in newcomer.discovery.catalog()


async def test_who_crashes_is_known_until_it_is_purged(net: Net) -> None:
    one, two = await net.full(2)
    await two.crash()
    await until(lambda: one.discovery.neighbours() == ())
    assert two.peer in one.discovery.catalog()
    one.discovery._registry.purge(net.clock.ms + 299_000)
    assert two.peer in one.discovery.catalog()


async def test_the_purge_is_told(net: Net) -> None:
    # Renewed every 0.1 s by those who live, forgotten after 0.6 s of a clock that runs.
    def running() -> int:
        return int(asyncio.get_running_loop().time() * 1000) + 1_700_000_000_000

    times: dict[str, Any] = {"announce_interval": 0.1, "purge_after": 0.6}
    one = await net.node(now_ms=running, **times)
    two = await net.node([one], now_ms=running, **times)
    three = await net.node([one], now_ms=running, **times)
    await until(lambda: one.knows(two.peer, three.peer))
    seen: list[Event] = []
    one.discovery.subscribe(seen.append)
    await two.crash()
    await until(lambda: PeerDeparted(two.peer) in seen)
    assert three.peer in one.discovery.catalog()
    assert PeerDeparted(three.peer) not in seen


async def test_a_peer_that_returns_is_found_again(net: Net) -> None:
    one = await net.node()
    secret = SecretKey.generate()
    two = await net.node([one], secret=secret)
    await until(lambda: one.knows(two.peer))
    await two.crash()
    net.clock.ms += 10
    again = await net.node([one], secret=secret)
    await until(lambda: again.knows(one.peer))
    await until(lambda: len(one.discovery.neighbours()) == 1)
    entry = one.discovery.catalog().get(again.peer)
    assert entry is not None
    assert entry.version.start_ms == net.clock.ms


@pytest.mark.parametrize("departed", [True, False])
async def test_a_peer_whose_clock_went_back_overtakes_its_former_self(
    net: Net, departed: bool
) -> None:
    one = await net.node()
    secret = SecretKey.generate()
    two = await net.node([one], secret=secret)
    await until(lambda: one.knows(two.peer))
    await (two.close() if departed else two.crash())
    again = await net.node([one], secret=secret, now_ms=lambda: net.clock.ms - 40_000)
    group = Digest("g")
    again.discovery.add_groups(group)
    await until(lambda: groups_seen(one.discovery, again.discovery) == {group})


async def test_two_nodes_with_one_key_are_reported_and_do_not_storm(
    net: Net, caplog: pytest.LogCaptureFixture
) -> None:
    one = await net.node()
    secret = SecretKey.generate()
    two = await net.node([one], secret=secret)
    await until(lambda: one.knows(two.peer))
    net.hub.listening.pop(two.address)  # as if it were another machine
    net.clock.ms += 1000
    updates: list[Event] = []
    one.discovery.subscribe(updates.append)
    clone = await net.node([one], secret=secret)
    await until(lambda: len(one.discovery.neighbours()) == 1)
    await asyncio.sleep(0.3)
    assert len(updates) < 20
    assert clone.peer == two.peer


async def test_a_partition_heals(net: Net) -> None:
    nodes = await net.full(4)
    left, right = nodes[:2], nodes[2:]
    net.hub.partition([n.peer for n in left], [n.peer for n in right])
    left[0].discovery.add_groups(Digest("left"))
    right[0].discovery.add_groups(Digest("right"))
    await until(lambda: groups_seen(left[1].discovery, left[0].discovery) == {Digest("left")})
    assert groups_seen(right[1].discovery, left[0].discovery) == set()
    net.hub.heal()
    await until(lambda: groups_seen(right[1].discovery, left[0].discovery) == {Digest("left")})
    await until(lambda: groups_seen(left[1].discovery, right[0].discovery) == {Digest("right")})


async def test_a_bootstrap_node_that_comes_later_is_found(net: Net) -> None:
    late = SecretKey.generate()
    address = net.hub.bind(
        late, net.nodes[0].transport.network if net.nodes else Digest("x")
    ).address
    early = await net.node([address])
    await asyncio.sleep(0.03)
    assert early.discovery.neighbours() == ()
    node = await net.node(secret=late)
    await until(lambda: early.knows(node.peer))


async def test_events_tell_the_story(net: Net) -> None:
    one = await net.node()
    events = one.discovery.events()
    two = await net.node([one])
    discovered = await anext(events)
    assert isinstance(discovered, PeerDiscovered)
    assert discovered.entry.peer == two.peer
    two.discovery.add_groups(Digest("g"))
    while True:
        updated = await anext(events)
        assert isinstance(updated, PeerUpdated)
        if updated.entry.groups:
            break
    await two.close()
    assert await anext(events) == PeerDeparted(two.peer)
    await one.close()
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_slow_reader_loses_the_oldest_events(net: Net) -> None:
    one = await net.node(events_backlog=3)
    events = one.discovery.events()
    for _ in range(5):
        other = await net.node([one])
        await until(partial(one.knows, other.peer))
    assert events.lost >= 2
    assert isinstance(await anext(events), PeerDiscovered | PeerUpdated)


async def test_a_watcher_is_called_once_a_turn(net: Net) -> None:
    node = await net.node()
    await asyncio.sleep(0.01)
    calls: list[int] = []
    cancel = node.discovery.watch(lambda catalog: calls.append(len(catalog.local().entry.groups)))
    for n in range(50):
        node.discovery.add_groups(Digest(str(n)))
    await asyncio.sleep(0.01)
    assert calls == [50]
    cancel()
    node.discovery.add_groups(Digest("more"))
    await asyncio.sleep(0.01)
    assert calls == [50]


async def test_a_subscriber_that_raises_is_reported_and_others_are_told(net: Net) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: reported.append(context["exception"])
    )
    one = await net.node()
    bug = ZeroDivisionError()

    def broken(event: Event) -> None:
        raise bug

    seen: list[Event] = []
    one.discovery.subscribe(broken)
    one.discovery.subscribe(seen.append)
    two = await net.node([one])
    await until(lambda: one.knows(two.peer))
    assert seen
    assert set(reported) == {bug}


async def test_dial_and_sync(net: Net) -> None:
    one, two = await net.full(2)
    three = await net.node()
    await three.discovery.sync_with(one.address)
    assert three.knows(one.peer, two.peer)
    await three.discovery.sync_with(one.address)
    four = await net.node()
    await four.discovery.dial("memory:nobody", two.address)
    await until(lambda: four.knows(one.peer, two.peer, three.peer))
    with pytest.raises(DialError, match="nobody listens"):
        await four.discovery.dial("memory:nobody", "memory:none")
    with pytest.raises(DialError):
        await four.discovery.sync_with("memory:nobody")


async def test_who_dials_at_once_from_both_sides_ends_with_one_link(net: Net) -> None:
    for _ in range(5):
        one, two = await net.node(), await net.node()
        await asyncio.gather(one.discovery.dial(two.address), two.discovery.dial(one.address))
        await until(partial(one.knows, two.peer))
        await until(partial(two.knows, one.peer))
        await asyncio.sleep(0.05)
        links = [link for link in one.transport.links if link.remote == two.peer]
        assert len(links) == 1
        assert links[0].initiator == (one.peer < two.peer)


class NewestWins(Gossip):
    """The planted bug: each side keeps the link that it saw last, and they see them in another order."""

    def _replaces(self, link: Link, existing: Neighbour) -> bool:
        return True


@pytest.mark.parametrize("kind", [Gossip, NewestWins])
async def test_two_links_in_one_direction_leave_one(
    net: Net, monkeypatch: pytest.MonkeyPatch, kind: type[Gossip]
) -> None:
    monkeypatch.setattr(discovery, "Gossip", kind)
    one, two = await net.node(), await net.node()
    # The other side adopts each as it is dialled; this side in the opposite order.
    links = [await one.transport.dial(two.address, PROTOCOL) for _ in range(2)]
    for link in reversed(links):
        one.discovery._gossip.adopt(link)
    for _ in range(5):
        await asyncio.sleep(0)
    assert [link.closed for link in links].count(False) == (1 if kind is Gossip else 0)


async def test_feed_takes_what_came_by_another_way(net: Net) -> None:
    one, two = await net.node(), await net.node()
    assert one.discovery.feed(two.discovery.catalog().local())
    assert not one.discovery.feed(two.discovery.catalog().local())
    assert one.knows(two.peer)
    await until(lambda: two.knows(one.peer))  # it is dialled, too


async def test_closing_twice_is_closing_once(net: Net) -> None:
    node = await net.node()
    await node.close()
    await node.close()
    assert [event async for event in node.discovery.events()] == []
    node.discovery.add_groups(Digest("g"))
    assert node.discovery.me().groups == frozenset()
