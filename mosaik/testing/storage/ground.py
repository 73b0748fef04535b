"""The ground on which one rule is tried: a new place, and stores that are closed at the end."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from mosaik.primitives.durable import Anchor, HardState
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.storage import LogIdentity, Storage, StorageEnvironment
from mosaik.testing.storage.subject import PEER, Subject

if TYPE_CHECKING:
    from mosaik.testing.storage.workers import Worker

__all__ = ["Ground", "entries", "hard_state", "identity"]

#: A file system in memory, and the bytes that must be free there for it to be used.
_MEMORY: Final = Path("/dev/shm")  # noqa: S108
_ROOM: Final = 1 << 30


def identity(name: str = "group", *, peer: bytes = PEER, **parts: str) -> LogIdentity:
    """The identity of a log; the name stands for group and key."""
    tag = name.encode()
    return LogIdentity(group=tag.ljust(32, b"g"), peer=peer, key=tag.ljust(32, b"k"), parts=parts)


def entries(
    count: int, after: Anchor | None = None, *, term: int = 1, size: int = 16, tag: str = ""
) -> list[Entry[Any]]:
    """So many entries that continue a log which ends at ``after``; the same arguments, the same bytes.

    Args:
        size: bytes of each payload, at least.
        tag: begins each payload, and tells entries of one term and index apart.
    """
    start = after or Anchor()
    made: list[Entry[Any]] = []
    previous = start.checksum
    for index in range(start.index + 1, start.index + count + 1):
        payload = f"{tag}{term}.{index}".encode().ljust(size, b".")
        entry: Entry[Any] = seal(EntryKind.COMMAND, index, term, index, payload, previous)
        made.append(entry)
        previous = entry.checksum
    return made


def hard_state(log: Storage[Any], **changes: Any) -> HardState:
    """The log's hard state with changes."""
    return msgspec.structs.replace(log.hard_state, **changes)


def _roomy(path: Path) -> bool:
    """Whether a store in this directory will not meet a full disk that nobody planned."""
    try:
        space = os.statvfs(path)
    except OSError:
        return False
    return os.access(path, os.W_OK) and space.f_bavail * space.f_frsize > _ROOM


class Ground:
    """Where one rule is tried. A context manager: at its end everything is closed and removed.

    Attributes:
        subject: whose store it is.
        place: a directory of this trial's own.
        seed: for whatever is drawn at random; the same seed, the same trial.
    """

    def __init__(self, subject: Subject, *, seed: int = 0, under: Path | None = None) -> None:
        self.subject = subject
        self.seed = seed
        self._scratch = tempfile.TemporaryDirectory(prefix="mosaik-kit-", dir=under)
        self.place = Path(self._scratch.name).resolve() / "place"
        self.place.mkdir(mode=0o700)
        self._opened: list[StorageEnvironment] = []
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.close)

    def open(self, place: Path | None = None, *, peer: bytes = PEER) -> StorageEnvironment:
        """Opens the store of this trial, or of another place; closed at the end if it is open then."""
        environment = self.subject.open(place or self.place, peer=peer)
        self._opened.append(environment)
        return environment

    def log(self, name: str = "group") -> Storage[Any]:
        """Opens the store and a log in it."""
        return self.open().log(identity(name))

    def close(self) -> None:
        """Closes every opening of this trial that is open."""
        while self._opened:
            self._opened.pop().close()

    def reopened(self, name: str = "group") -> Storage[Any]:
        """The same log after its store was closed and opened again."""
        self.close()
        return self.log(name)

    def another(self, name: str) -> Path:
        """One more empty directory of this trial."""
        path = self.place.parent / name
        path.mkdir(mode=0o700)
        return path

    def quick(self, name: str) -> Path:
        """One more empty directory, in memory where there is room: for processes that die by the dozen,
        and for which it makes no difference what the kernel keeps the files on. Names may recur."""
        under = _MEMORY if _roomy(_MEMORY) else None
        scratch = tempfile.TemporaryDirectory(prefix=f"mosaik-{name}-", dir=under)
        path = Path(self._stack.enter_context(scratch)).resolve()
        self._stack.callback(self.subject.remove, path)
        return path

    def fork(self) -> Worker:
        """A process of its own for the store; it is killed at the end."""
        from mosaik.testing.storage.workers import fork  # which needs what is in this module

        worker = fork(self.subject)
        self._stack.callback(worker.close)
        return worker

    def filled(self, count: int, *, size: int = 16) -> Storage[Any]:
        """A log with so many entries, committed ten at a time."""
        log = self.log()
        while log.tail.index < count:
            log.append(entries(min(10, count - log.tail.index), log.tail, size=size))
        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        finally:
            for place in self._places():
                self.subject.remove(place)
            self._scratch.cleanup()

    def _places(self) -> Sequence[Path]:
        return [path for path in self.place.parent.iterdir() if path.is_dir()]
