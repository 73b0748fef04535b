"""The socket in a node's data directory, at which its operator asks and nobody else.

The directory is opened first and the socket named under its descriptor, because a socket's address holds no
more than 107 bytes and paths are longer than that. Both sides ask the kernel who the other is: what lies
under the name may have been put there by somebody else.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mosaik.primitives.errors import DialError, IdentityError

__all__ = ["NAME", "connected_socket", "listening_socket", "peer_uid", "remove_socket"]

NAME: Final = "node.sock"
#: Seconds in which the kernel must have connected us.
_PATIENCE: Final = 10.0
_BACKLOG: Final = 8
_CREDENTIALS: Final = struct.Struct("iII")


def listening_socket(data_dir: Path) -> socket.socket:
    """The socket of the node that holds the lock of this directory; replaces what a killed one left.

    Raises:
        IdentityError: something else lies in its place.
        OSError: the file system has no sockets.
    """
    with _opened(data_dir) as directory:
        _remove(directory, data_dir / NAME)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # On Linux the mode of a socket that has no name yet is the one that the name gets.
            os.fchmod(listening.fileno(), 0o600)
            listening.bind(_address(directory))
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except BaseException:
            listening.close()
            raise
        return listening


def remove_socket(data_dir: Path) -> None:
    """Removes the node's own socket.

    Raises:
        IdentityError: something else lies in its place.
    """
    with _opened(data_dir) as directory:
        _remove(directory, data_dir / NAME)


def connected_socket(data_dir: Path) -> socket.socket:
    """A connection with the node that runs in this directory.

    Raises:
        DialError: none does, or what answers is not that node.
    """
    path = data_dir / NAME
    try:
        with _opened(data_dir) as directory:
            owner = _owner(directory, path)
            if owner not in {os.geteuid(), os.fstat(directory).st_uid}:
                raise DialError(f"{path} belongs to user {owner}; no node of ours made it")
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(_PATIENCE)
                connection.connect(_address(directory))
                if (uid := peer_uid(connection)) != owner:
                    raise DialError(f"a process of user {uid} answers at {path}, not its owner's")
            except BaseException:
                connection.close()
                raise
            return connection
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        raise DialError(
            f"no node runs in {data_dir}; `mosaik log` reads the store of one that is stopped"
        ) from error
    except (OSError, IdentityError) as error:
        raise DialError(f"the node in {data_dir} cannot be asked: {error}") from error


def peer_uid(connection: socket.socket) -> int:
    """The user whose process is at the other end."""
    size = _CREDENTIALS.size
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    uid: int = _CREDENTIALS.unpack(found)[1]
    return uid


@contextmanager
def _opened(data_dir: Path) -> Generator[int]:
    directory = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


def _address(directory: int) -> str:
    return f"/proc/self/fd/{directory}/{NAME}"


def _owner(directory: int, path: Path) -> int:
    """Whose socket lies there. A link is not followed.

    Raises:
        IdentityError: something else does.
    """
    found = os.stat(NAME, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISSOCK(found.st_mode):
        raise IdentityError(f"{path} is not a socket; remove it, or give the node another data_dir")
    return found.st_uid


def _remove(directory: int, path: Path) -> None:
    try:
        owner = _owner(directory, path)
    except FileNotFoundError:
        return
    if owner != os.geteuid():
        raise IdentityError(f"{path} belongs to user {owner}; remove it, or run as its owner")
    os.unlink(NAME, dir_fd=directory)
