"""A flipped bit in RocksDB's own records must not make an opening hang."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mosaik.primitives.errors import CorruptEntry
from mosaik.storage import examine_storage, open_storage
from mosaik.storage.rocksdb_records import check_records
from mosaik.testing.storage import PEER, entries, identity

BLOCK = 32 * 1024

pytestmark = pytest.mark.skipif(not find_spec("rocksdict"), reason="rocksdict is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rocksdb") / "store"
    with_entries = open_storage(f"rocksdb://{place}", peer=PEER)
    with_entries.log(identity()).append(entries(20, size=500))
    with_entries.close()
    return place


def killed(place: Path) -> Path:
    """A store whose process was killed: its write-ahead log holds all."""
    script = (
        "import os, sys\n"
        "from mosaik.storage import open_storage\n"
        "from mosaik.testing.storage import PEER, entries, identity\n"
        "open_storage(sys.argv[1], peer=PEER).log(identity()).append(entries(200, size=500))\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, f"rocksdb://{place}"], check=True, timeout=60)
    return place


def manifest_of(place: Path) -> Path:
    return place / (place / "CURRENT").read_text().strip()


def types_in(content: bytes) -> list[int]:
    """Where the types of the records lie."""
    found: list[int] = []
    at = 0
    while at + 7 <= len(content):
        length, kind = struct.unpack_from("<4xHB", content, at)
        if not kind:
            break
        found.append(at + 6)
        at += 7 + length
        if -at % BLOCK < 7:
            at += -at % BLOCK
    return found


def test_a_sound_one_passes(made: Path) -> None:
    check_records(made, "rocksdb:")
    examine_storage(f"rocksdb://{made}")


def test_a_record_of_a_recycled_file_is_refused_before_rocksdb_sees_it(
    made: Path, tmp_path: Path
) -> None:
    """RocksDB itself would wait for ever: a whole record's type, 1, is one bit from 5."""
    content = manifest_of(made).read_bytes()
    types = types_in(content)
    assert len(types) > 1
    for number, at in enumerate(types):
        place = tmp_path / str(number)
        shutil.copytree(made, place)
        manifest_of(place).write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        url = f"rocksdb://{place}"
        with pytest.raises(CorruptEntry, match=f"unknown type at byte {at - 6}"):
            open_storage(url, peer=PEER)
        with pytest.raises(CorruptEntry, match="unknown type"):
            examine_storage(url)


def test_so_is_one_in_the_write_ahead_log(tmp_path: Path) -> None:
    place = killed(tmp_path / "store")
    [path] = [log for log in place.glob("*.log") if log.stat().st_size]
    content = path.read_bytes()
    types = types_in(content)
    assert len(content) > 3 * BLOCK
    assert {content[at] for at in types} >= {2, 3, 4}, "a batch of several parts"
    for at in types:
        path.write_bytes(content[:at] + bytes([content[at] + 4]) + content[at + 1 :])
        with pytest.raises(CorruptEntry, match=f"unknown type at byte {at - 6}"):
            open_storage(f"rocksdb://{place}", peer=PEER)
    path.write_bytes(content)
    sound = open_storage(f"rocksdb://{place}", peer=PEER)
    assert sound.log(identity()).last().index == 200
    sound.close()


def test_a_tail_whose_sectors_did_not_all_reach_the_disk_is_rocksdbs_to_judge(
    tmp_path: Path,
) -> None:
    """A header may lie across two sectors, of which only the second was written."""
    place = killed(tmp_path / "store")
    [path] = [log for log in place.glob("*.log") if log.stat().st_size]
    content = path.read_bytes()
    start = types_in(content)[-1] - 6
    for missing in range(1, 7):
        path.write_bytes(content[:start] + bytes(missing) + content[start + missing :])
        check_records(place, "rocksdb:")


def test_what_rocksdb_can_tell_is_left_to_it(made: Path, tmp_path: Path) -> None:
    check_records(tmp_path / "nothing", "rocksdb:")
    place = tmp_path / "cut"
    shutil.copytree(made, place)
    manifest = manifest_of(place)
    for length in (0, 3, 9, len(manifest.read_bytes()) - 2):
        manifest.write_bytes(manifest.read_bytes()[:length])
        check_records(place, "rocksdb:")


@pytest.mark.parametrize("remedy", [True, False])
def test_a_damaged_file_of_settings_does_not_end_the_process(tmp_path: Path, remedy: bool) -> None:
    """RocksDB's driver reads it although it is given others; one bit in it may be a SIGSEGV."""
    place = killed(tmp_path / "store")
    (settings,) = place.glob("OPTIONS-*")
    content = settings.read_bytes()
    flipped = content.replace(b"parallel_threads=1", b"parallel_threads=0")
    assert flipped != content
    settings.write_bytes(flipped)
    script = (
        "import sys\n"
        "from mosaik.storage import open_storage, rocksdb\n"
        "from mosaik.testing.storage import PEER, identity\n"
        f"if not {remedy}: rocksdb.forget_settings = lambda path: None\n"
        "store = open_storage(sys.argv[1], peer=PEER)\n"
        "assert store.log(identity()).tail.index == 200\n"
        "store.close()\n"
    )
    command = [sys.executable, "-c", script, f"rocksdb://{place}"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode == 0) is remedy, done.stderr
