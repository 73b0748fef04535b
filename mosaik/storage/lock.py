"""One opener at a time: a kernel lock on a file that is never removed.

``flock`` belongs to the open file, dies with the process, and is not passed to programs that are started
(the descriptor is close-on-exec). A plain fork would inherit it, so a child of ``os.fork`` gives up its
copy at once; the parent's lock stands. The file holds the holder's pid, for the error message only. It is
not removed at release: an unlinked file can be locked by two processes at once.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path
from typing import Final

from mosaik.primitives.errors import StorageLocked, StorageUnavailable

__all__ = ["StoreLock"]

_held: Final[weakref.WeakSet[StoreLock]] = weakref.WeakSet()


class StoreLock:
    """A held lock.

    Args:
        path: the lock's file; made when it is not there.

    Raises:
        StorageLocked: somebody holds it.
        StorageUnavailable: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageUnavailable(
                f"the lock file {path} cannot be opened: {error.strerror}; the store's directory must "
                f"be writable by this user"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace")
            os.close(descriptor)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise StorageLocked(
                f"{path.name}: {who} has this store open; a store has one opener at a time. Close the "
                f"other, or ask that node itself (`mosaik node inspect`, `mosaik node backup`)"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)

    def release(self) -> None:
        """Lets the next opener in. Releasing twice does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        _held.discard(self)


def _release_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)
