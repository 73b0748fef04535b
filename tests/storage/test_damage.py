"""Rule 5 with real engines: bytes that changed by themselves are detected or absent, never different."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mosaik.primitives.errors import CorruptEntry
from mosaik.storage import open_storage, recover
from tests.storage.stores import child, place_of, require, url_of
from tests.storage.support import PEER, entries, identity

#: Flips for each engine; each is an opening in a forked process.
TIMES = 40
COUNT = 200


# -- anywhere ------------------------------------------------------------------------------------------


def make(backend: str, directory: Path, *, killed: bool) -> None:
    """A store that was used twice, and the second time killed or closed."""
    with child("fill", backend, str(directory)) as writer:
        writer.until("filled")
        if killed:
            writer.kill()
        else:
            writer.tell("close")
            writer.until("closed")


def flip(backend: str, directory: Path, bug: str = "") -> list[str]:
    """What openings made of it, each time with another bit flipped."""
    with child("damage", backend, str(directory), backend, str(TIMES), bug=bug) as openings:
        lines = openings.until("done")[:-1]
    assert lines[0] == "the same: 0 as it is"
    assert len(lines) == TIMES + 1
    return lines[1:]


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_a_flipped_bit_is_never_served(durable_backend: str, end: str, tmp_path: Path) -> None:
    make(durable_backend, tmp_path, killed=end == "killed")
    lines = flip(durable_backend, tmp_path)
    print(durable_backend, end, dict(Counter(line.partition(":")[0] for line in lines)))
    assert not [line for line in lines if line.startswith(("different", "untyped", "killed"))]
    # Entries fill most of the files: damage that nobody notices would show that nobody looks.
    assert [line for line in lines if line.startswith("detected")]


def test_without_the_watermark_entries_would_be_missing(tmp_path: Path) -> None:
    """SQLite drops what follows a damaged frame of its log, and calls itself sound."""
    require("sqlite")
    make("sqlite", tmp_path, killed=True)
    lines = flip("sqlite", tmp_path, "has no watermark")
    assert [line for line in lines if line.startswith("different")]


# -- the logs that engines replay ----------------------------------------------------------------------


def killed_with_a_log(backend: str, directory: Path) -> Path:
    """The log of a store that was killed; `COUNT` entries were acknowledged, as its watermark knows."""
    with child("append", backend, str(directory), str(COUNT), "1") as writer:
        writer.until("idle")
        writer.kill()
    place = place_of(backend, directory)
    logs = [place.with_name(f"{place.name}-wal")] if backend == "sqlite" else place.glob("*.log")
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


def a_damaged_log_is_refused(backend: str, directory: Path, damage: Damage) -> None:
    log = killed_with_a_log(backend, directory)
    log.write_bytes(damage(log.read_bytes()))
    with (
        pytest.raises(CorruptEntry),
        closing(open_storage(url_of(backend, directory), peer=PEER)) as environment,
    ):
        environment.log(identity())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("backend", ["sqlite", "rocksdb"])
def test_a_damaged_log_is_refused(backend: str, damage: Damage, tmp_path: Path) -> None:
    require(backend)
    a_damaged_log_is_refused(backend, tmp_path, damage)


@pytest.mark.parametrize("backend", ["sqlite", "rocksdb"])
def test_without_the_watermark_a_shorter_log_is_believed(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(backend)

    def believes(*_: object) -> None:
        """Planted bug: the log is as long as the engine says."""

    monkeypatch.setattr(recover, "_check_mark", believes)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        a_damaged_log_is_refused(backend, tmp_path, cut_a_little)


@pytest.mark.parametrize("backend", ["sqlite", "rocksdb"])
def test_what_was_torn_and_not_acknowledged_is_no_damage(backend: str, tmp_path: Path) -> None:
    """Beyond what was acknowledged a log may end as it likes: that is what a crash leaves."""
    require(backend)
    log = killed_with_a_log(backend, tmp_path)
    whole = log.read_bytes()
    log.write_bytes(whole + whole[len(whole) // 2 :][:300])
    with closing(open_storage(url_of(backend, tmp_path), peer=PEER)) as environment:
        assert environment.log(identity()).get_range(0, COUNT + 1) == entries(COUNT)
