"""How news of peers gets around.

Theory of operation
-------------------
Each node keeps links with a few neighbours. A new link begins with both sides sending all they know;
from then on each passes on what is *news* to it: an entry that its registry takes, a goodbye that
beats the one it knows. News is news once, so every flood ends; it goes to everybody except where it came
from; and it is checked before it is passed on, so whoever passes on a bad signature made it.

Checking a signature takes 0.1 ms. What arrives is queued and worked off in slices of a millisecond
between other events, so that a catalog of thousands never holds up a heartbeat; a neighbour that
sends more than it may is cut off before the queue can grow. Nothing here waits for anybody.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from mosaik.discovery.catalog import Registry, Tombstone, Verdict
from mosaik.discovery.config import DiscoveryConfig
from mosaik.discovery.neighbour import Neighbour
from mosaik.discovery.wire import (
    CatalogEnd,
    Departed,
    Departure,
    Entries,
    Pull,
    codec,
    packed,
)
from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import CodecError
from mosaik.primitives.peer import PeerEntry, PeerVersion, SignedPeerEntry
from mosaik.transport.contract import CloseReason, Link
from mosaik.transport.quiet import QuietLog

__all__ = ["Gossip", "Listener"]

#: Seconds of work on what arrived before other events get their turn.
_SLICE: Final = 0.001
#: Two links that are made within so many seconds count as crossing each other.
_CROSSING: Final = 5.0
#: How many entries a node that has no room sends to whoever it turns away.
_CONSOLATION: Final = 64

log = logging.getLogger("mosaik.discovery")


class Listener(Protocol):
    """Whoever is told what gossip brings."""

    def entry_taken(self, entry: PeerEntry, verdict: Verdict) -> None: ...

    def peer_departed(self, peer: PeerId) -> None: ...

    def outdone(self, version: PeerVersion) -> None:
        """Others hold an entry of this very node that is newer than its own."""
        ...

    def neighbours_changed(self) -> None: ...


class Gossip:
    """The discovery links of one node, and what goes over them."""

    def __init__(
        self,
        registry: Registry,
        config: DiscoveryConfig,
        listener: Listener,
        now_ms: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._config = config
        self._listener = listener
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._quiet = QuietLog(log)
        self.neighbours: Final[dict[PeerId, Neighbour]] = {}
        self._work: deque[tuple[Neighbour, bytes | Departure | CatalogEnd]] = deque()
        self._working = False
        self._news: dict[PeerId, tuple[bytes, Neighbour | None]] = {}

    # Links.

    def adopt(self, link: Link) -> Neighbour | None:
        """Makes a link's peer a neighbour; None when the link was closed instead."""
        existing = self.neighbours.get(link.remote)
        if existing is not None:
            if not self._replaces(link, existing):
                link.close(CloseReason.ALREADY_BONDED, "the other link stays")
                return None
            self._drop(existing, CloseReason.ALREADY_BONDED, "another link takes its place")
        elif not link.initiator and len(self.neighbours) >= self._config.max_neighbours:
            self._turn_away(link)
            return None
        neighbour = Neighbour(link, self._config)
        self.neighbours[link.remote] = neighbour
        link.on_frame = partial(self._received, neighbour)
        link.on_close = partial(self._lost, neighbour)
        neighbour.send_catalog(self._registry.raws())
        self._listener.neighbours_changed()
        return neighbour

    def _replaces(self, link: Link, existing: Neighbour) -> bool:
        """Of links that cross each other both sides keep the same one, in whatever order they came.

        That is the one that the lower id dialled; of two in one direction that of lower binding.
        """
        if existing.age() > _CROSSING:
            return True  # the peer dials again because it lost its end of the old one
        lower_is_own = self._registry.local.entry.peer < link.remote

        def rank(one: Link) -> tuple[bool, bytes]:
            return one.initiator != lower_is_own, one.binding

        return existing.link.closed or rank(link) < rank(existing.link)

    def _turn_away(self, link: Link) -> None:
        known = [signed.entry.peer for signed in self._registry.snapshot().signed_peers()]
        some = random.sample(known, min(_CONSOLATION, len(known)))
        for frame in packed(self._registry.raws(some)):
            link.send(frame)
        link.close(CloseReason.TOO_MANY, "no room for another neighbour; ask one of these")

    def _drop(self, neighbour: Neighbour, code: int, reason: str) -> None:
        if self.neighbours.get(neighbour.peer) is neighbour:
            del self.neighbours[neighbour.peer]
        neighbour.link.close(code, reason)
        neighbour.lost(code, reason)

    def _lost(self, neighbour: Neighbour, code: int, reason: str, died: bool) -> None:
        log.debug("the discovery link with %s ended: %s (%d)", neighbour.peer.short, reason, code)
        neighbour.lost(code, reason)
        if self.neighbours.get(neighbour.peer) is neighbour:
            del self.neighbours[neighbour.peer]
            self._listener.neighbours_changed()

    def _misbehaved(self, neighbour: Neighbour, error: Exception) -> None:
        self._quiet.warning("%s broke the discovery protocol: %s", neighbour.peer.short, error)
        neighbour.banned = True
        self._drop(neighbour, CloseReason.PROTOCOL_VIOLATION, str(error)[:200])
        self._listener.neighbours_changed()

    def drop_silent(self, longest: float) -> None:
        """Ends links on which nothing was heard for so many seconds."""
        now = self._loop.time()
        for neighbour in list(self.neighbours.values()):
            if now - neighbour.heard > longest:
                self._drop(neighbour, CloseReason.TIMEOUT, "silent for too long")
                self._listener.neighbours_changed()

    def close(self, farewell: Departed) -> None:
        """Says goodbye to all neighbours and ends their links."""
        frame = codec.encode(Departure(farewell.raw))
        for neighbour in list(self.neighbours.values()):
            neighbour.link.send(frame)
            self._drop(neighbour, CloseReason.GRACEFUL_SHUTDOWN, "the node shut down")
        self._work.clear()

    # News, outwards.

    def tell(self, signed: SignedPeerEntry, source: Neighbour | None = None) -> None:
        """Passes an entry on to every neighbour except its source, at the end of this turn."""
        if not self._news:
            self._loop.call_soon(self._flush)
        self._news[signed.entry.peer] = (signed.raw, source)

    def _flush(self) -> None:
        news, self._news = list(self._news.values()), {}
        for neighbour in list(self.neighbours.values()):
            neighbour.send(packed(raw for raw, source in news if source is not neighbour))

    # News, inwards.

    def _received(self, neighbour: Neighbour, frame: bytes) -> None:
        message = codec.decode(frame)
        match message:
            case Entries(raws):
                neighbour.charge(len(raws))
                self._work.extend((neighbour, raw) for raw in raws)
            case Pull():
                catalog = self._registry.raws()
                neighbour.charge(len(catalog))
                neighbour.send_catalog(catalog)
            case Departure() | CatalogEnd():
                neighbour.charge(1)
                self._work.append((neighbour, message))
        if self._work and not self._working:
            self._working = True
            self._loop.call_soon(self._work_off)

    def _work_off(self) -> None:
        deadline = time.perf_counter() + _SLICE
        while self._work and time.perf_counter() < deadline:
            neighbour, item = self._work.popleft()
            if not neighbour.banned:
                self._handle(neighbour, item)
        self._working = bool(self._work)
        if self._working:
            self._loop.call_soon(self._work_off)

    def _handle(self, neighbour: Neighbour, item: bytes | Departure | CatalogEnd) -> None:
        try:
            match item:
                case CatalogEnd():
                    neighbour.catalog_ended()
                case Departure(raw):
                    self._departed(neighbour, raw)
                case bytes():
                    self._entry(neighbour, item)
        except CodecError as error:
            self._misbehaved(neighbour, error)

    def _entry(self, neighbour: Neighbour, raw: bytes) -> None:
        entry = SignedPeerEntry.peek(raw)
        verdict = self._registry.judge(entry, self._now_ms())
        if verdict.taken:
            self.take(SignedPeerEntry.decode(raw), neighbour)
        elif verdict is Verdict.OWN:
            if entry.is_newer_than(self._registry.local.entry):
                self._listener.outdone(SignedPeerEntry.decode(raw).entry.version)
        elif verdict is Verdict.FOREIGN:
            raise CodecError(f"an entry of {entry.peer.short}, which is of another network")
        elif verdict is Verdict.AHEAD:
            self._quiet.warning(
                "the entry of %s is dated ahead of this node's clock and was refused; "
                "set the clocks of both", entry.peer.short,
            )  # fmt: skip
        elif verdict is Verdict.FULL:
            self._quiet.warning("no room for the entry of %s; raise max_peers", entry.peer.short)
        elif entry.peer == neighbour.peer:
            self._correct(neighbour, entry)

    def _correct(self, neighbour: Neighbour, entry: PeerEntry) -> None:
        """A living peer shows an entry older than its last: it is told, and will go beyond that."""
        tombstone = self._registry.tombstone(entry.peer)
        held = self._registry.get(entry.peer)
        if tombstone is not None and entry.version <= tombstone.version:
            neighbour.send([codec.encode(Departure(tombstone.raw))])
        elif held is not None and held.entry.is_newer_than(entry):
            neighbour.send(packed([held.raw]))

    def take(self, signed: SignedPeerEntry, source: Neighbour | None = None) -> Verdict:
        """Takes an entry whose signature was checked, and passes it on if it is news."""
        verdict = self._registry.upsert(signed, self._now_ms())
        if verdict.taken:
            self.tell(signed, source)
            self._listener.entry_taken(signed.entry, verdict)
        return verdict

    def _departed(self, neighbour: Neighbour, raw: bytes) -> None:
        gone = Departed.decode(raw)
        local = self._registry.local.entry
        if gone.network != local.network:
            raise CodecError(f"a departure of {gone.peer.short} from another network")
        now = self._now_ms()
        drift = int(1000 * self._config.max_time_drift)
        keep = int(1000 * self._config.purge_after)
        if max(*gone.version, gone.time_ms) > now + drift or gone.time_ms <= now - keep:
            return  # of no use, and nothing that its sender could know better
        if gone.peer == local.peer:
            if gone.version >= local.version:
                self._listener.outdone(gone.version)
            return
        known = self._registry.tombstone(gone.peer)
        if known is not None and known.version >= gone.version:
            return
        tombstone = Tombstone(gone.version, raw, now + keep)
        if self._registry.depart(gone.peer, tombstone):
            self._listener.peer_departed(gone.peer)
        for other in list(self.neighbours.values()):
            if other is not neighbour:
                other.send([codec.encode(Departure(raw))])
