"""A disk without room, a file that may not grow, a directory that may not be written to."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosaik.storage import open_storage
from tests.storage.stores import child, url_of
from tests.storage.support import PEER, entries, identity

#: Small enough for a small disk; the other engines write what they are told to.
QUERY = {"rocksdb": "write_buffer=64KiB"}


@contextmanager
def disk(place: Path, size: str) -> Generator[Callable[[str], None]]:
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


def holds(backend: str, directory: Path, acknowledged: Sequence[int]) -> None:
    """The store, opened anew, has at least what was acknowledged, and only what was written."""
    environment = open_storage(url_of(backend, directory, QUERY.get(backend, "")), peer=PEER)
    try:
        log = environment.log(identity())
        assert log.tail.index >= acknowledged[-1]
        assert log.get_range(0, log.tail.index) == entries(log.tail.index)
    finally:
        environment.close()


def numbers(lines: Sequence[str], word: str) -> list[int]:
    return [int(line.split()[-1]) for line in lines if line.startswith(word)]


def test_a_full_disk_refuses_and_serves_again_when_there_is_room(
    durable_backend: str, tmp_path: Path
) -> None:
    place, query = tmp_path / "disk", QUERY.get(durable_backend, "")
    with disk(place, "6m") as resize:
        with child("append", durable_backend, str(place), "0", "400", query) as writer:
            lines = writer.until("failed")
            end = writer.line()
            given = numbers(lines, "ack")
            assert given
            assert given[-1] == numbers(lines, "failed")[-1]
            _, error, _ = lines[-1].split()
            if end == "idle":
                assert error == "StorageFull"
                resize("64m")
                writer.tell("again")
                assert writer.until("ack")[-1] == f"ack {given[-1] + 400}"
                given.append(given[-1] + 400)
                writer.tell("close")
                writer.until("closed")
            else:
                assert (error, end) == ("StoragePoisoned", "poisoned")
                writer.kill()
                resize("64m")
        holds(durable_backend, place, given)
        print(durable_backend, error, "after", len(given), "batches")


def test_a_file_that_may_not_grow_loses_nothing_acknowledged(
    durable_backend: str, tmp_path: Path
) -> None:
    """The kernel's answer is none that an engine knows, in the middle of a commit."""
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is not installed")
    query = QUERY.get(durable_backend, "")
    limit = ["prlimit", f"--fsize={1 << 20}"]
    if durable_backend == "rocksdb":
        limit = ["prlimit", f"--fsize={40_000}"]  # its files are no larger than its write buffer
    with child("append", durable_backend, str(tmp_path), "0", "400", query, before=limit) as writer:
        lines = writer.until("failed")
        end = writer.line()
        writer.kill()
    given = numbers(lines, "ack")
    assert given
    assert (lines[-1].split()[1], end) in {
        ("StoragePoisoned", "poisoned"),
        ("StorageFull", "idle"),
    }
    holds(durable_backend, tmp_path, given)


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
