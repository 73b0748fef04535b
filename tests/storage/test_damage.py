"""Rule 5 with real engines: the logs that they replay, cut and changed in the ways that crashes and disks do.

The kit's rules damage whatever files there are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mosaik.primitives.errors import CorruptEntry
from mosaik.storage import open_storage, recover
from tests.storage.stores import child, place_of, require, url_of
from tests.storage.support import PEER, entries, identity

COUNT = 200


@pytest.fixture(scope="module", params=["sqlite", "rocksdb"])
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was killed, in a directory of its backend's name; `COUNT` entries were acknowledged, as
    its watermark knows."""
    backend: str = request.param
    require(backend)
    directory = tmp_path_factory.mktemp("killed") / backend
    with child("append", backend, str(directory), str(COUNT), "1") as writer:
        writer.until("idle")
        writer.kill()
    return directory


def log_of(killed: Path, directory: Path) -> Path:
    """The log of a copy of that store."""
    shutil.copytree(killed, directory, dirs_exist_ok=True)
    place = place_of(killed.name, directory)
    sqlite = killed.name == "sqlite"
    logs = [place.with_name(f"{place.name}-wal")] if sqlite else place.glob("*.log")
    return max(logs, key=lambda path: path.stat().st_size)


def cut_a_little(content: bytes) -> bytes:
    return content[:-37]


def cut_in_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_to_nothing(_: bytes) -> bytes:
    return b""


def changed_in_the_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def changed_at_the_end(content: bytes) -> bytes:
    return content[:-60] + bytes([content[-60] ^ 1]) + content[-59:]


Damage = Callable[[bytes], bytes]
DAMAGES: list[Damage] = [
    cut_a_little,
    cut_in_half,
    cut_to_nothing,
    changed_in_the_middle,
    changed_at_the_end,
]


def a_damaged_log_is_refused(killed: Path, directory: Path, damage: Damage) -> None:
    log = log_of(killed, directory)
    log.write_bytes(damage(log.read_bytes()))
    with (
        pytest.raises(CorruptEntry),
        closing(open_storage(url_of(killed.name, directory), peer=PEER)) as environment,
    ):
        environment.log(identity())


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_log_is_refused(killed: Path, damage: Damage, tmp_path: Path) -> None:
    a_damaged_log_is_refused(killed, tmp_path, damage)


def test_without_the_watermark_a_shorter_log_is_believed(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believes(*_: object) -> None:
        """Planted bug: the log is as long as the engine says."""

    monkeypatch.setattr(recover, "_check_mark", believes)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        a_damaged_log_is_refused(killed, tmp_path, cut_a_little)


def test_what_was_torn_and_not_acknowledged_is_no_damage(killed: Path, tmp_path: Path) -> None:
    """Beyond what was acknowledged a log may end as it likes: that is what a crash leaves."""
    log = log_of(killed, tmp_path)
    whole = log.read_bytes()
    log.write_bytes(whole + whole[len(whole) // 2 :][:300])
    with closing(open_storage(url_of(killed.name, tmp_path), peer=PEER)) as environment:
        assert environment.log(identity()).get_range(0, COUNT + 1) == entries(COUNT)
