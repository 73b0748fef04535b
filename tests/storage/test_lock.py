"""Rule 7: one opener, by a lock that dies with its process and is not inherited."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mosaik.primitives.errors import StorageLocked, StorageUnavailable
from mosaik.storage import open_storage
from mosaik.storage.lock import StoreLock
from tests.storage.support import PEER, Disk, entries, identity, open_disk


def test_the_second_opener_is_told_who_holds_it(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path / "lock")
    with pytest.raises(StorageLocked, match=f"process {os.getpid()} has this store open"):
        StoreLock(tmp_path / "lock")
    lock.release()
    lock.release()
    StoreLock(tmp_path / "lock").release()


def test_it_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mosaik.storage.lock import StoreLock\n"
        "lock = StoreLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StorageLocked, match=f"process {holder.pid} "):
            StoreLock(tmp_path / "lock")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    StoreLock(tmp_path / "lock").release()


def test_programs_that_are_started_do_not_inherit_it(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path / "lock")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        StoreLock(tmp_path / "lock").release()
        child.kill()


def test_a_forked_child_neither_holds_it_nor_uses_the_store(tmp_path: Path) -> None:
    environment = open_disk(Disk(), tmp_path)
    log = environment.log(identity())
    to_child, from_parent = os.pipe()
    to_parent, from_child = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # it ends below, without pytest
        try:
            log.append(entries(1))
        except BaseException as error:
            os.write(from_child, type(error).__name__.encode())
        environment.close()
        os.read(to_child, 1)
        os._exit(0)
    try:
        assert os.read(to_parent, 100) == b"StorageClosed"
        log.append(entries(1))
        with pytest.raises(StorageLocked):
            open_disk(Disk(), tmp_path)
        environment.close()
        lock = StoreLock(tmp_path / "mosaik.lock")  # although the child still lives
        lock.release()
    finally:
        os.write(from_parent, b".")
        os.waitpid(pid, 0)
        for descriptor in (to_child, from_parent, to_parent, from_child):
            os.close(descriptor)


def test_a_forked_child_meets_its_parents_lock(durable_backend: str, tmp_path: Path) -> None:
    """What the parent shares with itself is not the child's to share."""
    environment = open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  # it ends below, without pytest
        answer = b"opened"
        try:
            open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
        except StorageLocked as error:
            answer = str(error).encode()
        except BaseException as error:
            answer = repr(error).encode()
        os.write(writer, answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    assert f"process {os.getpid()} has this store open" in told
    environment.log(identity()).append(entries(1))
    environment.close()


def test_a_place_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="No such file or directory"):
        StoreLock(tmp_path / "nowhere" / "lock")
