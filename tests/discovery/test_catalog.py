"""Which entries are taken, and which are not."""

from __future__ import annotations

import pytest

from mosaik.discovery.catalog import Registry, Tombstone, Verdict
from mosaik.discovery.config import DiscoveryConfig
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.errors import ConfigError
from mosaik.primitives.peer import PeerEntry, PeerVersion, SecretKey, SignedPeerEntry

NETWORK = Digest("tests")
NOW = 1_700_000_000_000
OWN, PEER = SecretKey.from_bytes(b"o" * 32), SecretKey.from_bytes(b"p" * 32)


def entry(
    start: int = 0,
    update: int = 0,
    *,
    secret: SecretKey = PEER,
    network: Digest = NETWORK,
    groups: frozenset[Digest] = frozenset(),
) -> SignedPeerEntry:
    """An entry whose version is given relative to now."""
    version = PeerVersion(NOW + start, NOW + update)
    return PeerEntry(network=network, version=version, peer=secret.peer, groups=groups).sign(secret)


def registry(**settings: int) -> Registry:
    return Registry(entry(secret=OWN), DiscoveryConfig(**settings))


def test_new_then_updated_then_old() -> None:
    held = registry()
    assert held.upsert(entry(0, 0), NOW) is Verdict.NEW
    assert held.upsert(entry(0, 1), NOW) is Verdict.UPDATED
    assert held.upsert(entry(0, 1), NOW) is Verdict.OLD
    assert held.upsert(entry(0, 0), NOW) is Verdict.OLD
    assert held.upsert(entry(1, 1), NOW) is Verdict.UPDATED
    assert held.snapshot().get(PEER.peer) == entry(1, 1).entry


@pytest.mark.parametrize(
    ("signed", "verdict"),
    [
        (entry(network=Digest("elsewhere")), Verdict.FOREIGN),
        (entry(0, 50_001), Verdict.AHEAD),
        (entry(50_001, 0), Verdict.AHEAD),
        (entry(0, 50_000), Verdict.NEW),
        (entry(-400_000, -300_000), Verdict.OUTDATED),
        (entry(-400_000, -299_999), Verdict.NEW),
        (entry(5, 5, secret=OWN), Verdict.OWN),
    ],
)
def test_the_rules(signed: SignedPeerEntry, verdict: Verdict) -> None:
    held = registry()
    assert held.judge(signed.entry, NOW) is verdict
    assert held.upsert(signed, NOW) is verdict
    assert (held.get(PEER.peer) is not None) == verdict.taken


def test_an_entry_from_the_future_does_not_lock_its_owner_out() -> None:
    held = registry()
    year = 365 * 24 * 3600 * 1000
    held.upsert(entry(0, year), NOW)
    assert held.upsert(entry(0, 1), NOW) is Verdict.NEW


class NoDriftCheck(Registry):
    """The planted bug: dates ahead are believed."""

    def _is_ahead(self, entry: PeerEntry, now_ms: int) -> bool:
        return False


def test_without_the_check_it_would() -> None:
    held = NoDriftCheck(entry(secret=OWN), DiscoveryConfig())
    year = 365 * 24 * 3600 * 1000
    held.upsert(entry(0, year), NOW)
    assert held.upsert(entry(0, 1), NOW) is Verdict.OLD
    assert held.purge(NOW + year // 2) == []


def test_a_departed_peer_comes_back_only_with_a_newer_entry() -> None:
    held = registry()
    held.upsert(entry(0, 5), NOW)
    assert held.depart(PEER.peer, Tombstone(PeerVersion(NOW, NOW + 7), b"", NOW + 300_000))
    assert held.upsert(entry(0, 7), NOW) is Verdict.DEPARTED
    assert held.upsert(entry(0, 8), NOW) is Verdict.NEW
    assert not held.depart(PEER.peer, Tombstone(PeerVersion(NOW, NOW + 7), b"", NOW + 300_000))
    assert held.get(PEER.peer) is not None


def test_goodbyes_are_forgotten_in_time() -> None:
    held = registry(max_peers=2)
    for n in range(3):
        held.depart(PeerId(str(n)), Tombstone(PeerVersion(NOW, NOW), b"", NOW + 1000 * n))
    assert held.tombstone(PeerId("0")) is None, "there is room for two"
    held.purge(NOW + 1000)
    assert held.tombstone(PeerId("1")) is None
    assert held.tombstone(PeerId("2")) is not None


def test_what_is_not_renewed_is_purged() -> None:
    held = registry()
    held.upsert(entry(0, 100), NOW)
    assert held.next_deadline_ms() == NOW + 300_100
    assert held.purge(NOW + 300_099) == []
    assert held.purge(NOW + 300_100) == [PEER.peer]
    assert held.next_deadline_ms() is None


def test_the_number_of_peers_is_bounded() -> None:
    held = registry(max_peers=3)
    verdicts = [held.upsert(entry(secret=SecretKey.generate()), NOW) for _ in range(4)]
    assert verdicts == [Verdict.NEW] * 3 + [Verdict.FULL]
    assert held.upsert(entry(secret=OWN), NOW) is Verdict.OWN


def test_the_bytes_of_all_entries_are_bounded() -> None:
    size = len(entry().raw)
    held = registry(max_bytes=2 * size + 20)
    assert held.upsert(entry(), NOW) is Verdict.NEW
    assert held.upsert(entry(secret=SecretKey.generate()), NOW) is Verdict.NEW
    assert held.upsert(entry(secret=SecretKey.generate()), NOW) is Verdict.FULL
    assert held.upsert(entry(0, 1), NOW) is Verdict.UPDATED
    bigger = entry(0, 2, groups=frozenset({Digest("g")}))
    assert held.upsert(bigger, NOW) is Verdict.FULL, "an update must not pass by the bound either"


def test_a_snapshot_does_not_change() -> None:
    held = registry()
    empty = held.snapshot()
    held.upsert(entry(), NOW)
    one = held.snapshot()
    held.set_local(entry(1, 1, secret=OWN))
    held.upsert(entry(secret=SecretKey.generate()), NOW)
    held.purge(NOW + 10**9)
    assert (len(empty), len(one), len(held.snapshot())) == (0, 1, 0)
    assert one.get_signed(OWN.peer) == entry(secret=OWN)
    assert held.snapshot() is held.snapshot()


def test_a_catalog_answers() -> None:
    held = registry()
    group = Digest("g")
    held.upsert(entry(groups=frozenset({group})), NOW)
    catalog = held.snapshot()
    assert [signed.entry.peer for signed in catalog.members(group)] == [PEER.peer]
    assert catalog.members(Digest("h")) == []
    assert PEER.peer in catalog
    assert OWN.peer in catalog
    assert PeerId("nobody") not in catalog
    assert [signed.entry.peer for signed in catalog.iter()] == [OWN.peer, PEER.peer]
    assert [peer.peer for peer in catalog.peers()] == [PEER.peer]
    assert catalog.get(PeerId("nobody")) is None
    assert "1 peers" in repr(catalog)


@pytest.mark.parametrize(
    "settings",
    [
        {"announce_interval": 0.0},
        {"announce_jitter": 1.0},
        {"purge_after": 100.0},
        {"neighbours": 50},
        {"max_peers": 0},
    ],
)
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="discovery: "):
        DiscoveryConfig(**settings)  # type: ignore[arg-type]  # wrong on purpose
