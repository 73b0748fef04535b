"""Keys and data directories: kept, locked, and never readable by others."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mosaik.primitives.errors import IdentityError
from mosaik.primitives.peer import SecretKey
from mosaik.transport import identity as module
from mosaik.transport.identity import DirectoryLock, Identity, write_key_file

HOLD = """
import sys
from mosaik.transport.identity import Identity
identity = Identity.in_directory(sys.argv[1])
print(identity.peer, flush=True)
sys.stdin.read()
"""


def test_an_identity_returns(tmp_path: Path) -> None:
    first = Identity.in_directory(tmp_path / "node" / "1")
    first.close()
    again = Identity.in_directory(tmp_path / "node" / "1")
    assert again.peer == first.peer
    assert again.durable
    assert again.data_dir == tmp_path / "node" / "1"
    again.close()
    again.close()


def test_nobody_else_can_read_the_key(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        identity = Identity.in_directory(tmp_path / "node")
    finally:
        os.umask(old)
    key = tmp_path / "node" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert sorted(p.name for p in key.parent.iterdir()) == ["key", "lock"]
    assert identity.secret.reveal().hex() not in repr(identity)
    identity.close()


def test_an_ephemeral_identity_is_new_each_time() -> None:
    assert Identity.ephemeral().peer != Identity.ephemeral().peer
    assert not Identity.ephemeral().durable
    assert Identity.from_secret(bytes(32)).peer == Identity.from_secret(bytes(32)).peer


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    Identity.in_directory(tmp_path).close()
    (tmp_path / "key").chmod(mode)
    with pytest.raises(IdentityError, match=r"can be read by others.*chmod 600"):
        Identity.in_directory(tmp_path)
    with pytest.raises(IdentityError, match="can be read by others"):
        Identity.from_key_file(tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    Identity.in_directory(tmp_path).close()  # the refusal held no lock


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Identity.in_directory(tmp_path).close()
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(IdentityError, match="belongs to user"):
        Identity.in_directory(tmp_path)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"ab" * 31, b"ab" * 33, b"\xff" * 64])
def test_a_damaged_key_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    Identity.in_directory(tmp_path).close()
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(IdentityError, match="64 hexadecimal digits"):
        Identity.in_directory(tmp_path)
    assert (tmp_path / "key").read_bytes() == content


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    secret = SecretKey.generate()
    write_key_file(tmp_path / "mine", secret)
    with pytest.raises(IdentityError, match="never overwritten"):
        write_key_file(tmp_path / "mine", SecretKey.generate())
    assert Identity.from_key_file(tmp_path / "mine").peer == secret.peer
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_missing_key_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="cannot be read: No such file"):
        Identity.from_key_file(tmp_path / "none")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match="cannot be made"):
        Identity.in_directory(tmp_path / "file" / "node")


def test_a_key_from_elsewhere_leaves_none_in_the_directory(tmp_path: Path) -> None:
    secret = SecretKey.generate()
    identity = Identity.in_directory(tmp_path, secret=secret)
    assert identity.peer == secret.peer
    assert not (tmp_path / "key").exists()
    identity.close()


def test_one_node_in_this_process(tmp_path: Path) -> None:
    identity = Identity.in_directory(tmp_path)
    with pytest.raises(IdentityError, match=f"in use by process {os.getpid()}"):
        Identity.in_directory(tmp_path)
    identity.close()
    Identity.in_directory(tmp_path).close()


def test_one_process_holds_a_directory_until_it_dies(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        peer = holder.stdout.readline().strip()
        with pytest.raises(IdentityError, match=f"in use by process {holder.pid}"):
            Identity.in_directory(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    identity = Identity.in_directory(tmp_path)
    assert str(identity.peer) == peer
    identity.close()


def _fork_and_release_in_the_parent(lock: DirectoryLock) -> int:
    """A child that lives on while its parent's lock goes; returns its pid once it runs."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(told, b"x")
        signal.pause()
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    lock.release()
    return pid


def test_a_forked_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    child = _fork_and_release_in_the_parent(DirectoryLock(tmp_path / "lock"))
    try:
        DirectoryLock(tmp_path / "lock").release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_without_the_fork_hook_the_child_would_hold_it(tmp_path: Path) -> None:
    """The planted bug: a lock that the fork hook does not know of outlives its owner."""
    lock = DirectoryLock(tmp_path / "lock")
    module._held.discard(lock)
    child = _fork_and_release_in_the_parent(lock)
    try:
        with pytest.raises(IdentityError, match="in use"):
            DirectoryLock(tmp_path / "lock")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_forgotten_lock_warns(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "lock")
    with pytest.warns(ResourceWarning, match="was not released"):
        del lock
