"""Reading a whole log, to see that it is what was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mosaik.primitives.errors import CorruptEntry
from mosaik.storage.contract import Storage

__all__ = ["verify"]

_CHUNK: Final = 1 << 20


def verify(log: Storage[Any], url: str, report: Callable[[int], None] | None = None) -> None:
    """See `StorageEnvironment.verify`. Works for any `Storage`."""
    before = log.anchor
    index, end = before.index + 1, log.tail
    while index <= end.index:
        entries = log.get_range(index, end.index, limit=_CHUNK)
        if not entries or entries[0].index != index:
            raise CorruptEntry(index, "it is missing", url=url)
        if entries[0].previous != before.checksum or entries[0].term < before.term:
            raise CorruptEntry(index, "it does not continue the entry before it", url=url)
        for entry in entries:
            if log.term_at(entry.index) != entry.term:
                raise CorruptEntry(
                    entry.index,
                    f"it has term {entry.term}, the log's record says {log.term_at(entry.index)}",
                    url=url,
                )
        last = entries[-1]
        before = type(before)(last.term, last.index, last.checksum)
        index = last.index + 1
        if report is not None:
            report(last.index)
    if before != end:
        raise CorruptEntry(end.index, "the log does not end as its state says", url=url)
