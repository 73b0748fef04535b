"""What a member of the network that means ill can and cannot do to discovery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from mosaik.discovery import Event, PeerUpdated, gossip, wire
from mosaik.discovery.gossip import Gossip
from mosaik.discovery.neighbour import Neighbour
from mosaik.discovery.wire import CatalogEnd, Departed, Departure, Entries, Pull
from mosaik.primitives import peer as peers
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.peer import PeerEntry, PeerVersion, SecretKey, SignedPeerEntry
from mosaik.transport import CloseReason

if TYPE_CHECKING:
    from tests.discovery.conftest import Enemy, Net

NETWORK = Digest("tests")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def forged(victim: PeerEntry, forger: SecretKey, **changes: object) -> bytes:
    """A newer entry of somebody else, signed with the wrong key."""
    entry = victim.revised(victim.version.update_ms + 1, **changes)
    encoded = entry._encode()
    signature = forger.sign(peers._ENTRY_CONTEXT + encoded)
    return peers._wire_signed.encode(peers._WireSigned(encoded, signature))


@pytest.fixture
async def enemy(net: Net) -> Enemy:
    from tests.discovery.conftest import Enemy  # a conftest is not imported as a package everywhere

    return Enemy(net)


async def test_nobody_speaks_for_another(net: Net, enemy: Enemy) -> None:
    one, two = await net.full(2)
    await enemy.dial(one)
    enemy.say(Entries((forged(two.discovery.me(), enemy.secret, groups=frozenset({NETWORK})),)))
    code, reason, _ = await enemy.ending
    assert code == CloseReason.PROTOCOL_VIOLATION
    assert "was not signed by that peer" in reason
    entry = one.discovery.catalog().get(two.peer)
    assert entry is not None
    assert entry.groups == frozenset()


async def test_without_the_check_a_forgery_would_be_believed(
    net: Net, enemy: Enemy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: entries are taken as `peek` shows them."""

    def believe(raw: bytes) -> SignedPeerEntry:
        return SignedPeerEntry(SignedPeerEntry.peek(raw), raw)

    one, two = await net.full(2)
    believed: list[Event] = []
    one.discovery.subscribe(believed.append)
    await enemy.dial(one)
    monkeypatch.setattr(SignedPeerEntry, "decode", believe)
    enemy.say(Entries((forged(two.discovery.me(), enemy.secret, groups=frozenset({NETWORK})),)))
    # Not for long: its owner hears of an entry newer than its own, and goes beyond it.
    await until(lambda: any(isinstance(e, PeerUpdated) and e.entry.groups for e in believed))


async def test_what_came_after_a_forgery_is_void(net: Net, enemy: Enemy) -> None:
    one, two = await net.full(2)
    other = SecretKey.generate()
    version = PeerVersion(net.clock.ms, net.clock.ms)
    good = PeerEntry(network=NETWORK, version=version, peer=other.peer).sign(other)
    await enemy.dial(one)
    enemy.say(Entries((forged(two.discovery.me(), enemy.secret), good.raw)))
    await enemy.ending
    await asyncio.sleep(0.01)
    assert other.peer not in one.discovery.catalog()


@pytest.mark.parametrize(
    "junk", [b"", b"\xc1", b"\x93\x09\x01\x02", b"\x92\x01\x91\xc4\x01x", bytes(999)]
)
async def test_junk_ends_the_link_and_nothing_else(net: Net, enemy: Enemy, junk: bytes) -> None:
    one, two = await net.full(2)
    await enemy.dial(one)
    enemy.link.send(junk)
    assert (await enemy.ending)[0] == CloseReason.PROTOCOL_VIOLATION
    two.discovery.add_groups(NETWORK)
    await until(lambda: one.discovery.catalog().members(NETWORK))


async def test_a_message_has_a_longest_size(net: Net, enemy: Enemy) -> None:
    (one,) = await net.full(1)
    await enemy.dial(one)
    enemy.link.send(bytes(wire.codec.limit + 1))
    code, reason, _ = await enemy.ending
    assert code == CloseReason.PROTOCOL_VIOLATION
    assert "at most" in reason


async def test_an_entry_of_another_network_is_a_violation(net: Net, enemy: Enemy) -> None:
    (one,) = await net.full(1)
    await enemy.dial(one)
    enemy.say(Entries((enemy.signed(network=Digest("elsewhere")).raw,)))
    assert (await enemy.ending)[0] == CloseReason.PROTOCOL_VIOLATION
    assert len(one.discovery.catalog()) == 0


async def test_an_older_version_changes_nothing(net: Net, enemy: Enemy) -> None:
    one, two = await net.full(2)
    before = two.discovery.catalog().local()
    two.discovery.add_groups(NETWORK)
    await until(lambda: one.discovery.catalog().members(NETWORK))
    await enemy.dial(one)
    enemy.say(Entries((before.raw,)), CatalogEnd())
    await asyncio.sleep(0.01)
    assert one.discovery.catalog().members(NETWORK), "an old entry, though well signed, is no news"
    assert not enemy.link.closed


async def test_an_entry_dated_ahead_is_refused(
    net: Net, enemy: Enemy, caplog: pytest.LogCaptureFixture
) -> None:
    (one,) = await net.full(1)
    await enemy.dial(one)
    enemy.say(Entries((enemy.signed(net.clock.ms + 60_000).raw,)))
    await until(lambda: "dated ahead" in caplog.text)
    assert enemy.peer not in one.discovery.catalog()
    enemy.say(Entries((enemy.signed(net.clock.ms + 40_000).raw,)))
    await until(lambda: one.knows(enemy.peer))


async def test_nobody_says_goodbye_for_another(net: Net, enemy: Enemy) -> None:
    one, two = await net.full(2)
    await enemy.dial(one)
    version = two.discovery.me().version
    mine = Departed.sign(enemy.secret, NETWORK, version, net.clock.ms)
    signed = wire._signed.decode(mine.raw)
    stolen = wire._signed.encode(
        wire._Signed(
            NETWORK, two.peer, version.start_ms, version.update_ms, net.clock.ms, signed.signature
        )
    )
    enemy.say(Departure(stolen))
    assert (await enemy.ending)[0] == CloseReason.PROTOCOL_VIOLATION
    assert two.peer in one.discovery.catalog()


@pytest.mark.parametrize("seconds", [60, -301])
async def test_a_goodbye_of_another_time_is_ignored(net: Net, enemy: Enemy, seconds: int) -> None:
    (one,) = await net.full(1)
    await enemy.dial(one)
    entry = enemy.signed()
    enemy.say(Entries((entry.raw,)))
    await until(lambda: one.knows(enemy.peer))
    when = net.clock.ms + 1000 * seconds
    enemy.say(Departure(Departed.sign(enemy.secret, NETWORK, entry.entry.version, when).raw))
    await asyncio.sleep(0.01)
    assert one.knows(enemy.peer)


async def test_a_goodbye_replayed_after_the_return_is_ignored(net: Net, enemy: Enemy) -> None:
    one = await net.node()
    secret = SecretKey.generate()
    two = await net.node([one], secret=secret)
    await until(lambda: one.knows(two.peer))
    farewell = Departed.sign(secret, NETWORK, two.discovery.me().version, net.clock.ms)
    await two.close()
    net.clock.ms += 100
    again = await net.node([one], secret=secret)
    await until(lambda: one.knows(again.peer))
    await enemy.dial(one)
    enemy.say(Departure(farewell.raw))
    await asyncio.sleep(0.01)
    assert one.knows(again.peer)


async def test_who_sends_too_much_is_cut_off(net: Net, enemy: Enemy) -> None:
    (one,) = await net.full(1, max_peers=10)
    await enemy.dial(one)
    for n in range(30):
        enemy.say(Entries((enemy.signed(net.clock.ms + n).raw,)))
    code, reason, _ = await enemy.ending
    assert code == CloseReason.PROTOCOL_VIOLATION
    assert "more entries" in reason


async def test_who_pulls_too_often_is_cut_off(net: Net, enemy: Enemy) -> None:
    nodes = await net.full(4, max_peers=10)
    await enemy.dial(nodes[0])
    enemy.say(*[Pull() for _ in range(10)])
    assert "more entries" in (await enemy.ending)[1]


class NoBudget(Neighbour):
    """The planted bug: a neighbour may send whatever it likes."""

    def charge(self, entries: int) -> None:
        self.heard = self._loop.time()


async def test_without_the_budget_it_would_go_on(
    net: Net, enemy: Enemy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gossip, "Neighbour", NoBudget)
    (one,) = await net.full(1, max_peers=10)
    await enemy.dial(one)
    for n in range(100):
        enemy.say(Entries((enemy.signed(net.clock.ms + n).raw,)))
    await asyncio.sleep(0.05)
    assert not enemy.link.closed


async def test_a_peer_that_stalls_holds_nobody_up(net: Net, enemy: Enemy) -> None:
    """It connects, says nothing, reads nothing: the others go on finding each other."""
    one, two = await net.full(2)
    await enemy.dial(one)
    net.hub.separate(enemy.peer, one.peer)
    two.discovery.add_groups(NETWORK)
    await until(lambda: one.discovery.catalog().members(NETWORK))
    net.hub.heal()


async def test_a_peer_that_is_silent_for_long_is_dropped(net: Net, enemy: Enemy) -> None:
    one = await net.node(announce_interval=0.05)
    await enemy.dial(one)
    assert (await enemy.ending)[0] == CloseReason.TIMEOUT


async def test_a_peer_that_does_not_read_is_dropped(
    net: Net, enemy: Enemy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mosaik.discovery import neighbour

    monkeypatch.setattr(neighbour, "_MAX_BACKLOG", 4096)
    (one,) = await net.full(1)
    await enemy.dial(one)
    await until(lambda: enemy.heard)
    net.hub.separate(enemy.peer, one.peer)
    for n in range(200):
        one.discovery.add_tags(Digest(str(n)))
        await asyncio.sleep(0)
    assert one.discovery.neighbours() == ()
    net.hub.heal()
    assert (await enemy.ending)[0] == CloseReason.TOO_MANY


async def test_a_full_node_turns_away_with_addresses_of_others(net: Net, enemy: Enemy) -> None:
    nodes = await net.full(3, neighbours=2, max_neighbours=2)
    await until(lambda: len(nodes[0].discovery.neighbours()) == 2)
    await enemy.dial(nodes[0])
    code, _, died = await enemy.ending
    assert (code, died) == (CloseReason.TOO_MANY, False)
    shown = {
        SignedPeerEntry.decode(raw).entry.peer
        for message in enemy.heard
        if isinstance(message, Entries)
        for raw in message.raws
    }
    assert shown == {node.peer for node in nodes}


async def test_a_large_catalog_does_not_hold_up_the_loop(net: Net, enemy: Enemy) -> None:
    (one,) = await net.full(1)
    keys = [SecretKey.generate() for _ in range(600)]
    version = PeerVersion(net.clock.ms, net.clock.ms)
    raws = [PeerEntry(network=NETWORK, version=version, peer=k.peer).sign(k).raw for k in keys]
    await enemy.dial(one)
    loop = asyncio.get_running_loop()
    turns: list[float] = []

    def turn() -> None:
        turns.append(time.perf_counter())
        if len(one.discovery.catalog()) < 600:
            loop.call_soon(turn)

    enemy.say(Entries(tuple(raws)))
    turn()
    await until(lambda: len(one.discovery.catalog()) == 600)
    assert len(turns) > 20, "some 60 ms of signature checks, in slices of a millisecond"


async def test_in_one_piece_it_would(
    net: Net, enemy: Enemy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: everything that arrived is worked off at once."""
    monkeypatch.setattr(gossip, "_SLICE", 1e9)
    (one,) = await net.full(1)
    keys = [SecretKey.generate() for _ in range(200)]
    version = PeerVersion(net.clock.ms, net.clock.ms)
    raws = [PeerEntry(network=NETWORK, version=version, peer=k.peer).sign(k).raw for k in keys]
    await enemy.dial(one)
    enemy.say(Entries(tuple(raws)))
    turns = 0
    while len(one.discovery.catalog()) < 200:
        await asyncio.sleep(0)
        turns += 1
    assert turns < 10


class Forgetful(Gossip):
    """The planted bug: goodbyes leave no tombstone."""

    def _departed(self, neighbour: Neighbour, raw: bytes) -> None:
        super()._departed(neighbour, raw)
        self._registry._tombstones.clear()


@pytest.mark.parametrize("kind", [Gossip, Forgetful])
async def test_an_older_entry_does_not_bring_the_departed_back(
    net: Net, enemy: Enemy, monkeypatch: pytest.MonkeyPatch, kind: type[Gossip]
) -> None:
    from mosaik.discovery import discovery

    monkeypatch.setattr(discovery, "Gossip", kind)
    one, two = await net.full(2)
    last = two.discovery.catalog().local()
    await two.close()
    await until(lambda: two.peer not in one.discovery.catalog())
    await enemy.dial(one)
    enemy.say(Entries((last.raw, enemy.signed().raw)))
    await until(lambda: one.knows(enemy.peer))
    assert one.knows(PeerId.from_bytes(two.peer)) == (kind is Forgetful)
