"""What a node knows of the others, and what it tells them of itself."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from mosaik.discovery.catalog import Catalog, Registry, Verdict
from mosaik.discovery.config import DiscoveryConfig
from mosaik.discovery.events import (
    Event,
    Events,
    PeerDeparted,
    PeerDiscovered,
    PeerUpdated,
    Subscribers,
)
from mosaik.discovery.gossip import Gossip
from mosaik.discovery.neighbour import Neighbour
from mosaik.discovery.seeker import Seeker
from mosaik.discovery.wire import PROTOCOL, Departed, Pull, codec
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.errors import DialError, LinkClosed
from mosaik.primitives.peer import PeerEntry, PeerVersion, SecretKey, SignedPeerEntry
from mosaik.transport.contract import CloseReason, Link, Transport

__all__ = ["Discovery"]

#: How often a link of ours may give way to one that crosses it before we give up.
_CROSSINGS: Final = 3

log = logging.getLogger("mosaik.discovery")


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Discovery:
    """One node's view of its network. Made and started by `mosaik.Network`.

    Args:
        secret: the node's key.
        network: the network's id.
        transport: makes the links; started already.
        bootstrap: addresses to begin with.
        config: limits and times.
        now_ms: the wall clock, in milliseconds since 1970.
    """

    def __init__(
        self,
        secret: SecretKey,
        network: Digest,
        transport: Transport,
        *,
        bootstrap: Iterable[str] = (),
        config: DiscoveryConfig | None = None,
        now_ms: Callable[[], int] = _wall_clock_ms,
    ) -> None:
        self._secret = secret
        self._transport = transport
        self._config: Final = config or DiscoveryConfig()
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        start = now_ms()
        entry = PeerEntry(
            network=network,
            version=PeerVersion(start, start),
            peer=secret.peer,
            addresses=transport.addresses,
        )
        self._registry = Registry(entry.sign(secret), self._config)
        self._gossip = Gossip(self._registry, self._config, self, now_ms)
        self._seeker = Seeker(
            self._config,
            connect=self._connect,
            linked=self._gossip.neighbours.keys,
            known=lambda: self.catalog().signed_peers(),
            own=lambda: self.me().addresses,
            bootstrap=tuple(bootstrap),
        )
        self._subscribers: Subscribers[Event] = Subscribers()
        self._watchers: Subscribers[Catalog] = Subscribers()
        self._streams: list[Events] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._change_due = False
        self._linked: dict[PeerId, Neighbour] = {}
        self._outdone: PeerVersion | None = None
        self._outdone_pause = 0.0
        self._closed = False

    # What is known.

    def me(self) -> PeerEntry:
        """The node's own entry, as others get it."""
        return self._registry.local.entry

    def catalog(self) -> Catalog:
        """All that is known now; it does not change any more."""
        return self._registry.snapshot()

    def neighbours(self) -> tuple[PeerId, ...]:
        """With whom news is exchanged now."""
        return tuple(self._gossip.neighbours)

    def events(self) -> Events:
        """News of peers from now on, as an asynchronous iterator."""
        stream = Events(self._subscribers, self._config.events_backlog)
        if self._closed:
            stream.close()
        self._streams.append(stream)
        return stream

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Calls back with each piece of news; returns what ends that."""
        return self._subscribers.add(callback)

    def watch(self, callback: Callable[[Catalog], None]) -> Callable[[], None]:
        """Calls back with the catalog after it changed, this node's own entry included.

        At most once in a turn of the loop, however much has changed.

        Returns:
            what ends that.
        """
        return self._watchers.add(callback)

    # What is told.

    def add_groups(self, *groups: Digest) -> None:
        """Says that this node is in groups."""
        self._revise_set("groups", self.me().groups.union(groups))

    def remove_groups(self, *groups: Digest) -> None:
        """Says that it is not any more."""
        self._revise_set("groups", self.me().groups.difference(groups))

    def add_tags(self, *tags: Digest) -> None:
        """Adds to what this node is found by."""
        self._revise_set("tags", self.me().tags.union(tags))

    def remove_tags(self, *tags: Digest) -> None:
        """Takes away from what it is found by."""
        self._revise_set("tags", self.me().tags.difference(tags))

    def feed(self, signed: SignedPeerEntry) -> bool:
        """Takes an entry that came by another way than discovery; whether it was news."""
        return self._gossip.take(signed).taken

    def _revise_set(self, field: str, value: frozenset[Digest]) -> None:
        if value != getattr(self.me(), field):
            self._revise(**{field: value})

    def _revise(self, **changes: Any) -> None:
        self._set_own(self.me().revised(self._now_ms(), **changes))

    def _set_own(self, entry: PeerEntry) -> None:
        if self._closed:
            return
        signed = entry.sign(self._secret)
        self._registry.set_local(signed)
        self._gossip.tell(signed)
        self._changed()

    # Links.

    async def dial(self, *addresses: str) -> None:
        """Makes neighbours of whoever answers at these addresses.

        Raises:
            DialError: nobody answered at any of them.
        """
        errors: list[DialError] = []
        for address in addresses:
            try:
                await self._connect(address, None)
            except DialError as error:
                errors.append(error)
        if errors and len(errors) == len(addresses):
            raise errors[0]

    async def sync_with(self, address: str) -> None:
        """Exchanges catalogs with whoever answers at an address, and waits until its is here.

        Raises:
            DialError: nobody answered in time, or the link ended before the catalog did.
        """
        try:
            async with asyncio.timeout(self._config.dial_timeout):
                await self._pull_from(address)
        except (TimeoutError, LinkClosed) as error:
            raise DialError(f"{address} did not send its catalog: {error}") from error

    async def _pull_from(self, address: str) -> None:
        # The seeker, or the peer, may dial at the same moment; then another link than ours stays.
        for attempt in range(_CROSSINGS):
            peer = await self._connect(address, None)
            neighbour = self._gossip.neighbours.get(peer)
            try:
                if neighbour is None:
                    raise LinkClosed(CloseReason.ALREADY_BONDED, "the link gave way to another")
                neighbour.send([codec.encode(Pull())])
                await neighbour.synced()
            except LinkClosed as closed:
                if closed.code != CloseReason.ALREADY_BONDED or attempt == _CROSSINGS - 1:
                    raise
            else:
                return

    def accept(self, link: Link) -> None:
        """A peer dialled us for discovery."""
        self._gossip.adopt(link)

    async def _connect(self, address: str, expect: PeerId | None) -> PeerId:
        link = await self._transport.dial(
            address, PROTOCOL, expect=expect, timeout=self._config.dial_timeout
        )
        self._gossip.adopt(link)
        return link.remote

    # Life.

    async def start(self) -> None:
        """Begins to seek neighbours and to renew the node's entry."""
        self._tasks = [
            asyncio.create_task(self._seeker.run(), name="mosaik seek"),
            asyncio.create_task(self._keep_house(), name="mosaik announce"),
        ]

    async def close(self) -> None:
        """Says goodbye to the neighbours and ends."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        local = self.me()
        farewell = Departed.sign(self._secret, local.network, local.version, self._now_ms())
        self._gossip.close(farewell)
        for stream in self._streams:
            stream.close()

    async def _keep_house(self) -> None:
        """Renews the own entry, forgets others that were not renewed, ends links that fell silent."""
        interval = self._config.announce_interval
        announce_at = self._loop.time()
        while True:
            now = self._loop.time()
            if now >= announce_at:
                jitter = self._config.announce_jitter
                spread = random.uniform(1 - jitter, 1 + jitter)  # noqa: S311 - no secret
                announce_at = now + interval * spread
                self._revise()
                self._gossip.drop_silent(3 * interval)
                self._outdone_pause /= 2
            for peer in self._registry.purge(self._now_ms()):
                self.peer_departed(peer)
            deadline = self._registry.next_deadline_ms()
            wait = announce_at - now
            if deadline is not None:
                wait = min(wait, (deadline - self._now_ms()) / 1000)
            await asyncio.sleep(max(wait, 0.01))  # a clock that moves must not make this spin

    # What gossip reports.

    def entry_taken(self, entry: PeerEntry, verdict: Verdict) -> None:
        """An entry is in the catalog that was not there."""
        new = verdict is Verdict.NEW
        if new or entry.version.update_ms - entry.version.start_ms < 1000:
            self._seeker.forgive(entry.peer)
        self._subscribers.publish(PeerDiscovered(entry) if new else PeerUpdated(entry))
        self._changed()

    def peer_departed(self, peer: PeerId) -> None:
        """A peer is not in the catalog any more."""
        self._seeker.forget(peer)
        self._subscribers.publish(PeerDeparted(peer))
        self._changed()

    def neighbours_changed(self) -> None:
        """There is a link more, or one less."""
        now = dict(self._gossip.neighbours)
        for peer, neighbour in self._linked.items():
            if peer not in now:
                self._seeker.lost(neighbour)
        self._linked = now
        self._seeker.wake()

    def outdone(self, version: PeerVersion) -> None:
        """Others hold a newer entry of this node than its own: goes beyond that.

        It is from before a restart, when the clock has gone back since. Or another node
        uses the same key: then both would go on for ever, hence the pauses.
        """
        first = self._outdone is None
        self._outdone = max(version, self._outdone or version)
        if not first:
            return
        if self._outdone_pause > 1:
            log.error(
                "another node uses the key of %s; give each node a data directory of its own",
                self.me().peer.short,
            )
        self._loop.call_later(self._outdone_pause, self._overtake)
        longest = self._config.announce_interval
        self._outdone_pause = min(longest, max(0.1, 2 * self._outdone_pause))

    def _overtake(self) -> None:
        version, self._outdone = self._outdone, None
        if version is not None and version >= self.me().version:
            beyond = max(version, self.me().version).next(self._now_ms())
            self._set_own(msgspec.structs.replace(self.me(), version=beyond))

    def _changed(self) -> None:
        if not self._change_due:
            self._change_due = True
            self._loop.call_soon(self._tell_watchers)

    def _tell_watchers(self) -> None:
        self._change_due = False
        self._watchers.publish(self.catalog())
