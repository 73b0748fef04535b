"""Logs in memory: for tests, caches, and groups whose replicas are enough durability.

Nothing outlives the process, so nothing about surviving is claimed. Each opening is a new store with a
new store id, and to the group its node is a new replica.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Final

import msgspec

from mosaik.storage.contract import Description, SyncMode
from mosaik.storage.engine import Change
from mosaik.storage.plugin import EnginePlugin, Layout, Place

__all__ = ["MemoryEngine", "MemoryOptions", "plugin"]


class MemoryOptions(msgspec.Struct, frozen=True):
    """Memory has no options."""


class _Log:
    """Rows of one log; ``firsts`` is kept sorted, ``blobs`` holds what lies at each."""

    __slots__ = ("blobs", "firsts")

    def __init__(self) -> None:
        self.firsts: list[int] = []
        self.blobs: dict[int, bytes] = {}

    def remove(self, start: int, stop: int) -> None:
        for first in self.firsts[start:stop]:
            del self.blobs[first]
        del self.firsts[start:stop]

    def put(self, first: int, blob: bytes) -> None:
        if first not in self.blobs:
            insort(self.firsts, first)
        self.blobs[first] = blob


class MemoryEngine:
    """Implements `Engine`."""

    def __init__(self, url: str = "memory") -> None:
        self._url = url
        self._metas: dict[bytes, bytes] = {}
        self._logs: dict[bytes, _Log] = {}

    def settle(self) -> None:
        """What is read is all there is."""

    def logs(self) -> list[bytes]:
        return list(self._metas)

    def meta(self, log: bytes) -> bytes | None:
        return self._metas.get(log)

    def rows(self, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        held = self._logs.get(log)
        if held is None:
            return []
        found: list[tuple[int, bytes]] = []
        size = 0
        for at in held.firsts[max(0, bisect_right(held.firsts, first) - 1) :]:
            if found and (at > last or size >= limit):
                break
            blob = held.blobs[at]
            found.append((at, blob))
            size += len(blob)
        return found

    def last_row(self, log: bytes) -> tuple[int, bytes] | None:
        held = self._logs.get(log)
        if held is None or not held.firsts:
            return None
        first = held.firsts[-1]
        return first, held.blobs[first]

    def commit(self, changes: Sequence[Change]) -> None:
        for change in changes:
            held = self._logs.setdefault(change.log, _Log())
            if change.drop:
                held.remove(0, len(held.firsts))
            if change.delete_from is not None:
                held.remove(bisect_left(held.firsts, change.delete_from), len(held.firsts))
            if change.delete_below is not None:
                held.remove(0, bisect_left(held.firsts, change.delete_below))
            for first, blob in change.rows:
                held.put(first, blob)
            if change.meta:
                self._metas[change.log] = change.meta
            elif change.meta is not None:
                self._metas.pop(change.log, None)
                self._logs.pop(change.log, None)

    def describe(self) -> Description:
        # An acknowledged batch survives the machine's death no less than the process's: not at all.
        return Description(
            url=self._url, engine="memory", sync=SyncMode.FULL, capabilities=frozenset()
        )

    def close(self) -> None:
        self._metas.clear()
        self._logs.clear()


def _connect(place: Place, _options: MemoryOptions) -> MemoryEngine:
    return MemoryEngine(place.url.text())


plugin: Final = EnginePlugin("memory", MemoryOptions, _connect, layout=Layout.NOWHERE)
