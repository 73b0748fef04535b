"""One writer for a store, and many stores for one database."""

from __future__ import annotations

import pytest

from mosaik.primitives.errors import ConfigError, StorageLocked
from mosaik.storage import open_storage, shared
from mosaik.storage.engine import Change
from mosaik.testing.storage.subject import PEER
from tests.storage.support import OTHER

pytest.importorskip("sqlalchemy")

from tests.storage.servers import ServerSubject, engine_of


def test_a_store_is_the_same_however_its_url_is_spelt(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_storage(url, peer=PEER)
    with pytest.raises(ConfigError, match=r"timeout=30\.0 there and timeout=29\.0 here"):
        open_storage(f"{url}&timeout=29s", peer=PEER)
    monkeypatch.setattr(shared, "_table", {})  # as in another process
    with pytest.raises(StorageLocked, match=r"has store .* open.*end its session at the server"):
        open_storage(url.replace("?", "/?").replace("patience=1s", "patience=0s"), peer=PEER)
    first.close()


def test_the_stores_of_one_database_do_not_wait_for_each_other(subject: ServerSubject) -> None:
    """Where one deletes to the end of its log, its neighbour may have to insert."""
    urls = [f"{subject.base}&timeout=1s&store=neighbour-{n}" for n in range(2)]
    peers = [PEER, OTHER]
    both = [open_storage(url, peer=peer) for url, peer in zip(urls, peers, strict=True)]
    engines = [engine_of(each) for each in both]
    log = bytes([7]) * 32
    with engines[0]._transaction(), engines[1]._transaction():
        for engine in engines:
            engine._apply(engine._connection, Change(log=log, drop=True))
        for engine in engines:
            engine._apply(engine._connection, Change(log=log, rows=[(1, b"row")]))
    for each in both:
        each.close()


@pytest.mark.parametrize("option", ["timeout=0", "timeout=120min", "patience=7200"])
@pytest.mark.parametrize("scheme", ["postgresql", "mariadb"])
def test_times_that_nobody_can_mean_are_refused(scheme: str, option: str) -> None:
    with pytest.raises(ConfigError, match="timeout lies between"):
        open_storage(f"{scheme}://host/database?{option}", peer=PEER)
