"""What measurements of stores share: entries to append, and the least that a durable append can cost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mosaik.primitives.entry import Entry, EntryKind, seal

__all__ = ["PAYLOAD", "BareFile", "sealed_batches"]

#: Of each entry: a small command.
PAYLOAD: Final = b"x" * 128


def sealed_batches(size: int) -> Iterator[list[Entry[Any]]]:
    """Batches of so many entries each, every one the continuation of the last. Does not end."""
    index, previous = 1, 0
    while True:
        batch: list[Entry[Any]] = []
        for _ in range(size):
            entry: Entry[Any] = seal(EntryKind.COMMAND, index, 1, 0, PAYLOAD, previous)
            batch.append(entry)
            index, previous = index + 1, entry.checksum
        yield batch


class BareFile:
    """A file that gets the same bytes by one write and one ``fdatasync`` a batch: what a store could do if it
    did nothing else."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def append(self, blob: bytes) -> None:
        """Writes the bytes, durably."""
        os.write(self._descriptor, blob)
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
