"""Disks that fail, fill up, or take their time: ``faulty+``, ``full+`` and ``slow+`` before any store's URL.

::

    faulty+sqlite:///var/lib/app/raft.db?fail_sync_at=6
    slow+lmdb:///var/lib/app/raft?delay=200ms
    full+rocksdb:///var/lib/app/raft?after=1MiB

They do on purpose, at a commit that a test chooses, what `docs/storage.md` says of a real one.
"""

from __future__ import annotations

import errno
import time
from typing import Annotated, Final

import msgspec

from mosaik.primitives.errors import CorruptEntry, InvalidBatch, StorageFull
from mosaik.storage import StorageEnvironment
from mosaik.storage.url import Seconds, Size
from mosaik.testing.faults.wrapped import Batches, WrappedEnvironment, Wrapper

__all__ = [
    "FaultyEnvironment",
    "FaultyOptions",
    "FullEnvironment",
    "FullOptions",
    "SlowEnvironment",
    "SlowOptions",
    "faulty",
    "full",
    "slow",
]

#: The number of a commit, counted from 1; 0 is none.
_Number = Annotated[int, msgspec.Meta(ge=0)]

#: What has happened to stores of this process, by their key: a fault happens once, not once an opening,
#: so that a replica whose store failed finds a good one when it opens it again. A clean close forgets it.
_happened: Final[dict[str, set[str]]] = {}


class FaultyOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a ``faulty+`` URL: numbers of commits, counted from 1 since the store was opened.

    Attributes:
        fail_sync_at: this commit is written, and then its sync fails: it poisons the opening, and is
            found when the store is opened again.
        fail_write_at: this commit fails before it is written: it poisons, too, and is not found.
        full_at: this commit is refused with `StorageFull`, as nothing of it was written.
    """

    fail_sync_at: _Number = 0
    fail_write_at: _Number = 0
    full_at: _Number = 0


class FaultyEnvironment(WrappedEnvironment):
    """Fails at chosen commits. What the store behind refuses by itself is not counted."""

    def __init__(self, inner: StorageEnvironment, options: FaultyOptions) -> None:
        super().__init__("faulty", inner)
        self._at = {name: at for name, at in msgspec.structs.asdict(options).items() if at}
        self._commits = 0

    def write(self, batches: Batches) -> None:
        if all(batch.is_empty for _, batch in batches):
            super().write(batches)
            return
        self._commits += 1
        if self._happens("full_at"):
            raise StorageFull(
                f"commit {self._commits} finds no space, as planned", url=self.describe().url
            )
        if self._happens("fail_write_at"):
            raise self.poison(self._failure("write"))
        try:
            super().write(batches)
        except (InvalidBatch, CorruptEntry, StorageFull):
            self._commits -= 1
            raise
        if self._happens("fail_sync_at"):
            raise self.poison(self._failure("sync"))

    def _happens(self, fault: str) -> bool:
        happened = _happened.setdefault(self.key, set())
        if self._at.get(fault) != self._commits or fault in happened:
            return False
        happened.add(fault)
        return True

    def _failure(self, call: str) -> OSError:
        return OSError(errno.EIO, f"the {call} of commit {self._commits} fails, as planned")

    def close(self) -> None:
        if self.poisoned is None:
            _happened.pop(self.key, None)
        super().close()


class SlowOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a ``slow+`` URL.

    Attributes:
        delay: how much longer each commit takes, such as ``200ms``.
    """

    delay: Seconds


class SlowEnvironment(WrappedEnvironment):
    """Takes its time over each commit, on the writer thread."""

    def __init__(self, inner: StorageEnvironment, options: SlowOptions) -> None:
        super().__init__("slow", inner)
        self._delay = options.delay

    def write(self, batches: Batches) -> None:
        super().write(batches)
        # Nothing is waited for: a slow disk is one that takes this long.
        time.sleep(self._delay)


class FullOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a ``full+`` URL.

    Attributes:
        after: how many sealed bytes the disk has room for, such as ``1MiB``.
    """

    after: Size


class FullEnvironment(WrappedEnvironment):
    """Has room for so many sealed bytes, counted since it was opened. From the first commit that does not
    fit it refuses every one, until it is closed; pruning gives nothing back."""

    def __init__(self, inner: StorageEnvironment, options: FullOptions) -> None:
        super().__init__("full", inner)
        self._left = int(options.after)
        self._full = False

    def write(self, batches: Batches) -> None:
        if all(batch.is_empty for _, batch in batches):
            super().write(batches)
            return
        size = sum(len(entry.sealed) for _, batch in batches for entry in batch.entries)
        self._full = self._full or size > self._left
        if self._full:
            raise StorageFull("the disk is full, as planned", url=self.describe().url)
        super().write(batches)
        self._left -= size


faulty: Final = Wrapper("faulty", FaultyOptions, FaultyEnvironment)
slow: Final = Wrapper("slow", SlowOptions, SlowEnvironment)
full: Final = Wrapper("full", FullOptions, FullEnvironment)
