"""Rule 6's exception: a disk without room refuses, and nothing is lost; and a directory that may not be
written to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mosaik.primitives.errors import CorruptEntry
from mosaik.storage import open_storage
from tests.storage.stores import child, require, url_of
from tests.storage.support import PEER, entries, identity

#: Small enough for a small disk; the other engines write what they are told to.
QUERY = {"rocksdb": "write_buffer=64KiB"}
SIZE = 400
Resize = Callable[[str], None]


@contextmanager
def disk(place: Path, size: str) -> Generator[Resize]:
    """A file system of that size; gives what resizes it."""

    def mount(*arguments: str) -> None:
        subprocess.run(["mount", *arguments, str(place)], check=True, capture_output=True)

    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={size}", "mosaik-test")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small disk")
    try:
        yield lambda larger: mount("-o", f"remount,size={larger}")
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Generator[tuple[Path, Resize]]:
    """A disk of 6 MiB, and what resizes it."""
    place = tmp_path / "disk"
    with disk(place, "6m") as resize:
        yield place, resize


def holds(backend: str, directory: Path, acknowledged: Sequence[int]) -> None:
    """The store, opened anew, has at least what was acknowledged, and only what was written."""
    url = url_of(backend, directory, QUERY.get(backend, ""))
    with closing(open_storage(url, peer=PEER)) as environment:
        log = environment.log(identity())
        assert log.tail.index >= acknowledged[-1]
        assert log.get_range(0, log.tail.index) == entries(log.tail.index)


def numbers(lines: Sequence[str], word: str) -> list[int]:
    return [int(line.split()[-1]) for line in lines if line.startswith(word)]


def test_a_full_disk_refuses_until_there_is_room(
    durable_backend: str, small: tuple[Path, Resize]
) -> None:
    place, resize = small
    query = QUERY.get(durable_backend, "")
    with child("append", durable_backend, str(place), "0", str(SIZE), query) as writer:
        lines = writer.until("failed")
        given = numbers(lines, "ack")
        assert len(given) > 10
        refused = f"failed StorageFull {given[-1]}"
        assert lines[-1] == refused
        assert writer.line() == "idle"
        for _ in range(3):
            writer.tell("again")
            assert writer.until("failed")[-1] == refused
        resize("64m")
        writer.tell("again")
        given.append(given[-1] + SIZE)
        assert writer.until("ack")[-1] == f"ack {given[-1]}"
        writer.kill()
    holds(durable_backend, place, given)


def test_a_refusal_that_counts_as_done_is_caught(small: tuple[Path, Resize]) -> None:
    require("sqlite")
    place, resize = small
    with child("append", "sqlite", str(place), "300", str(SIZE), bug="hides failures") as writer:
        given = numbers(writer.until("idle"), "ack")
        writer.kill()
    resize("64m")
    with pytest.raises((AssertionError, CorruptEntry)):
        holds("sqlite", place, given)


def test_a_directory_without_permission_is_named(durable_backend: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    (mine / "warm").mkdir()
    if os.getuid() != 0:
        mine.chmod(0o500)
    with child("unprivileged", durable_backend, str(mine)) as opener:
        said = opener.line()
    mine.chmod(0o700)
    assert said.startswith("StorageUnavailable: ")
    assert str(mine) in said
    assert "make it writable" in said
