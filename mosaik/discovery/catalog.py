"""Who is there: the signed entries that a node holds, and the rules by which they are taken.

A `Catalog` is a snapshot that never changes. `Registry` is what it is a snapshot of; it copies its
table only when somebody holds a snapshot of it.

An entry is taken when it is of this network, neither outdated nor dated ahead, newer than what is held,
and not older than its owner's goodbye. The check for dates ahead matters: an entry of next year
would be purged next year, and until then not even its owner could replace it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from mosaik.discovery.config import DiscoveryConfig
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.peer import PeerEntry, PeerVersion, SignedPeerEntry

__all__ = ["Catalog", "Registry", "Tombstone", "Verdict"]


class Verdict(Enum):
    """What became of an entry, and why."""

    NEW = "of a peer that was not known"
    UPDATED = "newer than the one that was held"
    OLD = "not newer than the one that is held"
    OUTDATED = "not renewed for too long"
    AHEAD = "dated in the future"
    FOREIGN = "of another network"
    DEPARTED = "older than its owner's departure"
    OWN = "of this node itself"
    FULL = "one more than this node keeps"

    @property
    def taken(self) -> bool:
        """Whether the entry is in the catalog now."""
        return self in (Verdict.NEW, Verdict.UPDATED)


class Tombstone(NamedTuple):
    """A peer said goodbye: its entries up to a version are void until it is forgotten anyway."""

    version: PeerVersion
    raw: bytes
    expires_ms: int


class Catalog:
    """The peers that a node knew at one moment, itself included."""

    __slots__ = ("_entries", "_local")

    def __init__(self, local: SignedPeerEntry, entries: Mapping[PeerId, SignedPeerEntry]) -> None:
        self._local = local
        self._entries = MappingProxyType(entries)

    def local(self) -> SignedPeerEntry:
        """The node's own entry."""
        return self._local

    def signed_peers(self) -> Iterator[SignedPeerEntry]:
        """The other peers' entries as they were signed."""
        return iter(self._entries.values())

    def peers(self) -> Iterator[PeerEntry]:
        """The other peers' entries."""
        return (signed.entry for signed in self._entries.values())

    def iter(self) -> Iterator[SignedPeerEntry]:
        """All entries, this node's first."""
        yield self._local
        yield from self._entries.values()

    def get_signed(self, peer: PeerId) -> SignedPeerEntry | None:
        """A peer's entry as it was signed; also this node's own."""
        return self._local if peer == self._local.entry.peer else self._entries.get(peer)

    def get(self, peer: PeerId) -> PeerEntry | None:
        """A peer's entry."""
        signed = self.get_signed(peer)
        return None if signed is None else signed.entry

    def members(self, group: Digest) -> list[SignedPeerEntry]:
        """The other peers that say they are in a group."""
        return [signed for signed in self._entries.values() if group in signed.entry.groups]

    def tagged(self, tag: Digest) -> list[SignedPeerEntry]:
        """The other peers that carry a tag."""
        return [signed for signed in self._entries.values() if tag in signed.entry.tags]

    def __contains__(self, peer: object) -> bool:
        return peer == self._local.entry.peer or peer in self._entries

    def __len__(self) -> int:
        """How many peers are known, without this node."""
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Catalog of {self._local.entry.peer.short}: {len(self)} peers>"


class Registry:
    """The entries that a node holds.

    Args:
        local: its own entry.
        config: the limits.
    """

    def __init__(self, local: SignedPeerEntry, config: DiscoveryConfig) -> None:
        self._config: Final = config
        self._local = local
        self._entries: dict[PeerId, SignedPeerEntry] = {}
        self._tombstones: dict[PeerId, Tombstone] = {}
        self._bytes = 0
        self._snapshot: Catalog | None = None
        self._shared = False  # some snapshot still looks at the table

    @property
    def local(self) -> SignedPeerEntry:
        """The node's own entry."""
        return self._local

    def snapshot(self) -> Catalog:
        """What is held now."""
        if self._snapshot is None:
            self._snapshot = Catalog(self._local, self._entries)
            self._shared = True
        return self._snapshot

    def get(self, peer: PeerId) -> SignedPeerEntry | None:
        """What is held of a peer."""
        return self._entries.get(peer)

    def tombstone(self, peer: PeerId) -> Tombstone | None:
        """A peer's goodbye, while it is remembered."""
        return self._tombstones.get(peer)

    def set_local(self, local: SignedPeerEntry) -> None:
        """Replaces the node's own entry."""
        self._local = local
        self._snapshot = None

    def judge(self, entry: PeerEntry, now_ms: int) -> Verdict:
        """What `upsert` would say. Takes nothing, so the entry's signature need not be checked yet."""
        if entry.network != self._local.entry.network:
            return Verdict.FOREIGN
        if self._is_ahead(entry, now_ms):
            return Verdict.AHEAD
        if entry.peer == self._local.entry.peer:
            return Verdict.OWN
        if self._deadline(entry) <= now_ms:
            return Verdict.OUTDATED
        tombstone = self._tombstones.get(entry.peer)
        if tombstone is not None and entry.version <= tombstone.version:
            return Verdict.DEPARTED
        held = self._entries.get(entry.peer)
        if held is None:
            full = len(self._entries) >= self._config.max_peers
            return Verdict.FULL if full else Verdict.NEW
        return Verdict.UPDATED if entry.is_newer_than(held.entry) else Verdict.OLD

    def upsert(self, signed: SignedPeerEntry, now_ms: int) -> Verdict:
        """Takes an entry, if the rules allow it."""
        verdict = self.judge(signed.entry, now_ms)
        if not verdict.taken:
            return verdict
        held = self._entries.get(signed.entry.peer)
        size = self._bytes + len(signed.raw) - (len(held.raw) if held else 0)
        if size > self._config.max_bytes:
            return Verdict.FULL
        self._unshare()
        self._entries[signed.entry.peer] = signed
        self._bytes = size
        return verdict

    def depart(self, peer: PeerId, tombstone: Tombstone) -> bool:
        """Buries a peer; whether an entry of it was held and is gone now."""
        if len(self._tombstones) >= self._config.max_peers:
            del self._tombstones[next(iter(self._tombstones))]
        self._tombstones[peer] = tombstone
        held = self._entries.get(peer)
        if held is None or held.entry.version > tombstone.version:
            return False
        self._remove(peer)
        return True

    def purge(self, now_ms: int) -> list[PeerId]:
        """Forgets entries that were not renewed, and goodbyes that nobody needs any more."""
        gone = [s.entry.peer for s in self._entries.values() if self._deadline(s.entry) <= now_ms]
        for peer in gone:
            self._remove(peer)
        for peer, tombstone in list(self._tombstones.items()):
            if tombstone.expires_ms <= now_ms:
                del self._tombstones[peer]
        return gone

    def next_deadline_ms(self) -> int | None:
        """When the next entry has to be purged, if none is renewed."""
        return min((self._deadline(s.entry) for s in self._entries.values()), default=None)

    def raws(self, peers: Iterable[PeerId] | None = None) -> list[bytes]:
        """The signed bytes of some entries, or of all, this node's first."""
        if peers is None:
            return [self._local.raw, *(s.raw for s in self._entries.values())]
        return [self._local.raw, *(self._entries[p].raw for p in peers if p in self._entries)]

    def _is_ahead(self, entry: PeerEntry, now_ms: int) -> bool:
        return max(entry.version) > now_ms + 1000 * self._config.max_time_drift

    def _deadline(self, entry: PeerEntry) -> int:
        return entry.version.update_ms + int(1000 * self._config.purge_after)

    def _remove(self, peer: PeerId) -> None:
        self._unshare()
        self._bytes -= len(self._entries.pop(peer).raw)

    def _unshare(self) -> None:
        self._snapshot = None
        if self._shared:
            self._entries = dict(self._entries)
            self._shared = False
