"""A stopped node's log made long in a second, through the storage contract, as its leader would have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.storage import Storage, open_storage
from mosaik.transport.identity import Identity

__all__ = ["lengthen"]

#: Entries in one batch: about a megabyte, which one transaction takes.
_BATCH: Final = 16 * 1024


def lengthen(storage: str, data_dir: Path, length: int, payloads: Sequence[bytes]) -> None:
    """Appends commands, the payloads over and over, until the log is so long. Blocks.

    Args:
        storage: the backend's name or URL, as the node was given it.
        data_dir: the node's data directory.
        length: the log's last index in the end.
        payloads: commands as their node would have encoded them. The entry of an index carries the
            payload at the index, modulo their number.
    """
    identity = Identity.in_directory(data_dir)
    try:
        environment = open_storage(storage, peer=identity.peer, data_dir=identity.data_dir)
        try:
            (owner,) = environment.logs()
            log = environment.log(owner)
            while log.tail.index < length:
                until = min(length, log.tail.index + _BATCH)
                log.write(WriteBatch(entries=_continue(log, until, payloads)))
        finally:
            environment.close()
    finally:
        identity.close()


def _continue(log: Storage[bytes], until: int, payloads: Sequence[bytes]) -> list[Entry[bytes]]:
    tail = log.tail
    last = log.get(tail.index)
    assert last is not None, "a log that has a history has an entry"
    entries: list[Entry[bytes]] = []
    previous = tail.checksum
    for index in range(tail.index + 1, until + 1):
        payload = payloads[index % len(payloads)]
        entry = seal(EntryKind.COMMAND, index, tail.term, last.time_ms, payload, previous)
        entries.append(entry)
        previous = entry.checksum
    return entries
