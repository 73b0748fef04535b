"""A closed store is looked at without the engine that damage would make end the process."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from mosaik.primitives.errors import CorruptEntry, StorageLocked
from mosaik.storage import examine_storage, open_storage
from mosaik.testing.storage import PEER, entries, identity

pytestmark = pytest.mark.skipif(not find_spec("lmdb"), reason="lmdb is not installed")


def made(path: Path) -> str:
    url = f"lmdb://{path}/store"
    with_entries = open_storage(url, peer=PEER)
    with_entries.log(identity()).append(entries(20, size=500))
    with_entries.close()
    return url


def test_a_sound_store_passes(tmp_path: Path) -> None:
    examine_storage(made(tmp_path))


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    url = made(tmp_path)
    data = tmp_path / "store" / "data.mdb"
    content = bytearray(data.read_bytes())
    for page in range(2 * 4096, len(content), 4096):
        content[page + 8 : page + 16] = bytes(8)
    data.write_bytes(content)
    with pytest.raises(CorruptEntry, match=r"LMDB's pages are damaged: .*page \d+"):
        examine_storage(url)


def test_what_is_no_store_is_damage_too(tmp_path: Path) -> None:
    url = made(tmp_path)
    (tmp_path / "store" / "data.mdb").write_bytes(b"rot" * 5000)
    with pytest.raises(CorruptEntry, match="not an LMDB data file"):
        examine_storage(url)


def test_an_open_store_is_locked(tmp_path: Path) -> None:
    url = made(tmp_path)
    environment = open_storage(url, peer=PEER)
    with pytest.raises(StorageLocked):
        examine_storage(url)
    environment.close()


def test_there_may_be_nothing_to_look_at(tmp_path: Path) -> None:
    examine_storage("memory")
    examine_storage(f"lmdb://{tmp_path}/none")
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_never_finished_is_made_anew(tmp_path: Path) -> None:
    """The power failed while LMDB wrote its first two pages."""
    data = tmp_path / "store" / "data.mdb"
    data.parent.mkdir()
    data.write_bytes(bytes(512))
    environment = open_storage(made(tmp_path), peer=PEER)
    assert environment.log(identity()).tail.index == 20
    environment.close()


def test_a_store_that_was_cut_that_short_is_not(tmp_path: Path) -> None:
    url = made(tmp_path)
    data = tmp_path / "store" / "data.mdb"
    data.write_bytes(data.read_bytes()[:512])
    with pytest.raises(CorruptEntry, match="entries were acknowledged"):
        open_storage(url, peer=PEER)
