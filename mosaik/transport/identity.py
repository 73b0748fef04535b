"""A node's key and its data directory.

The secret key outlives the process, because a durable store belongs to a peer: it lies in the node's
data directory, readable by its owner alone, beside the lock that keeps a second process out. The lock
is the kernel's: it goes when the process dies, however it dies, and children do not inherit it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import warnings
import weakref
from pathlib import Path
from typing import Final, Self

from mosaik.primitives.digest import DIGEST_SIZE, PeerId
from mosaik.primitives.errors import IdentityError
from mosaik.primitives.peer import SecretKey

__all__ = ["DirectoryLock", "Identity", "read_key_file", "write_key_file"]

KEY_NAME: Final = "key"
LOCK_NAME: Final = "lock"


class Identity:
    """Who this node is, and where it keeps what outlives it.

    Made by `ephemeral`, `from_secret`, `from_key_file` or `in_directory`; close it when the node ends.

    Attributes:
        secret: the node's key.
        data_dir: where the node keeps its files; None when it keeps none.
        durable: whether the same identity can return after the process has ended.
    """

    def __init__(
        self,
        secret: SecretKey,
        *,
        data_dir: Path | None = None,
        durable: bool = False,
        lock: DirectoryLock | None = None,
    ) -> None:
        self.secret: Final = secret
        self.data_dir: Final = data_dir
        self.durable: Final = durable
        self._lock = lock

    @property
    def peer(self) -> PeerId:
        """The node's id."""
        return self.secret.peer

    @classmethod
    def ephemeral(cls) -> Self:
        """A new identity that ends with the process."""
        return cls(SecretKey.generate())

    @classmethod
    def from_secret(cls, secret: SecretKey | bytes) -> Self:
        """An identity whose key is managed elsewhere, by somebody who gives the same one again.

        Raises:
            IdentityError: not 32 bytes.
        """
        key = secret if isinstance(secret, SecretKey) else SecretKey.from_bytes(secret)
        return cls(key, durable=True)

    @classmethod
    def from_key_file(cls, path: str | os.PathLike[str]) -> Self:
        """The identity in a key file, which must exist. Blocks.

        Raises:
            IdentityError: missing, readable by others, owned by somebody else, or not a key.
        """
        return cls(read_key_file(Path(path)), durable=True)

    @classmethod
    def in_directory(cls, path: str | os.PathLike[str], *, secret: SecretKey | None = None) -> Self:
        """The identity that lives in a data directory; makes both if they are not there. Blocks.

        Args:
            path: the directory.
            secret: a key that is kept elsewhere; then the directory holds none.

        Raises:
            IdentityError: the directory is in use by another process, cannot be used, or holds a key
                that is readable by others or damaged.
        """
        directory = Path(path).absolute()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise IdentityError(
                f"the data directory {directory} cannot be made: {error.strerror}; "
                "choose another data_dir or change the permissions"
            ) from error
        lock = DirectoryLock(directory / LOCK_NAME)
        try:
            if secret is None:
                secret = _kept_key(directory / KEY_NAME)
        except BaseException:
            lock.release()
            raise
        return cls(secret, data_dir=directory, durable=True, lock=lock)

    def close(self) -> None:
        """Releases the data directory."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __repr__(self) -> str:
        return f"Identity(peer={self.peer.short}, data_dir={self.data_dir}, durable={self.durable})"


def _kept_key(path: Path) -> SecretKey:
    if path.exists() or path.is_symlink():
        return read_key_file(path)
    secret = SecretKey.generate()
    write_key_file(path, secret)
    return secret


def read_key_file(path: Path) -> SecretKey:
    """The secret key in a file: 64 hexadecimal digits.

    Raises:
        IdentityError: missing, readable by others, owned by somebody else, or not a key.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(4 * DIGEST_SIZE)
    except OSError as error:
        raise IdentityError(f"the key file {path} cannot be read: {error.strerror}") from error
    if status.st_uid != os.geteuid():
        raise IdentityError(
            f"the key file {path} belongs to user {status.st_uid}, not to {os.geteuid()}; "
            "run as its owner, or give this node a key of its own"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise IdentityError(
            f"the key file {path} can be read by others (mode {stat.S_IMODE(status.st_mode):o}); "
            f"chmod 600 {path}, and make a new key if somebody may have seen it"
        )
    try:
        return SecretKey.from_bytes(bytes.fromhex(text.decode("ascii").strip()))
    except (ValueError, IdentityError) as error:
        raise IdentityError(
            f"the key file {path} does not hold 64 hexadecimal digits; restore it from a copy, or "
            "remove it to start as a new node"
        ) from error


def write_key_file(path: Path, secret: SecretKey) -> None:
    """Writes a key file of mode 0600; it is there wholly or not at all, and never readable by others.

    Raises:
        IdentityError: there is one already, or it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, secret.reveal().hex().encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(temporary, path)  # unlike a rename it fails where a key exists
        _sync_directory(path.parent)
    except FileExistsError as error:
        raise IdentityError(f"{path} exists; a key is never overwritten") from error
    except OSError as error:
        raise IdentityError(f"the key file {path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DirectoryLock:
    """Keeps a second process, and a second node in this process, out of a data directory.

    Raises:
        IdentityError: somebody holds it; the message names the process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise IdentityError(
                f"the data directory {path.parent} cannot be locked: {error.strerror}; "
                "the node must be able to write there"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise IdentityError(
                f"the data directory {path.parent} is in use by process {holder or 'unknown'}; "
                "stop it, or give this node another data_dir"
            ) from error
        self._fd = fd
        _held.add(self)

    def release(self) -> None:
        """Lets others in. Releasing twice does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if self._fd >= 0:
            warnings.warn(f"the lock {self._path} was not released", ResourceWarning, stacklevel=2)
            self.release()


_held: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


def _forget_locks_of_the_parent() -> None:
    # A forked child shares the open file, and with it the lock: while any copy is open, the lock
    # outlives the parent. Closing the child's copy does not release it.
    for lock in list(_held):
        with contextlib.suppress(OSError):
            lock.release()


os.register_at_fork(after_in_child=_forget_locks_of_the_parent)
