"""One process as the rules see it: its core, and its disk beside it."""

from __future__ import annotations

from typing import Any

from mosaik.consensus import Consensus
from mosaik.consensus.log import Log
from mosaik.primitives.entry import Entry
from mosaik.primitives.membership import Replica
from mosaik.testing.simulation.rules.store import PlainStore

__all__ = ["Watched"]


class Watched:
    """A node, up or down. The rules look at it and never touch it.

    Attributes:
        name: for people, ``n1``.
        peer: its id.
        store: what its disk holds, as a plain list; outlives the process.
        core: the replica, while there is one.
        incarnation: how often a core was made.
        history: the history that the core served when it was last looked at.
        commit: highest commit index that this core has shown, in its present history.
    """

    def __init__(self, name: str, peer: bytes, store: PlainStore) -> None:
        self.name = name
        self.peer = peer
        self.store = store
        self.core: Consensus | None = None
        self.incarnation: int = 0
        self.history = b""
        self.commit = 0

    @property
    def replica(self) -> Replica:
        """Who its disk says it is."""
        hard = self.store.hard_state
        return Replica(self.peer, hard.store, hard.life)

    @property
    def log(self) -> Log:
        """The log in memory."""
        assert self.core is not None
        return self.core._core.log  # pyright: ignore[reportPrivateUsage]  # an observer sees everything

    @property
    def suspect(self) -> bool:
        """It misses, or may miss, a tail that it once acknowledged."""
        core = self.core
        return bool(
            self.store.suspect or (core is not None and core._core.suspect)  # pyright: ignore[reportPrivateUsage]  # as above
        )

    def entries(self, first: int, last: int) -> list[Entry[Any]]:
        """Entries of the log in memory, the oldest of which only the disk holds."""
        if last < first:
            return []
        log = self.log
        found = log.entries(first, last)
        if found is not None:
            return found
        older: list[Entry[Any]] = []
        for entry in self.store.range(first, min(last, log.stable)):
            if log.entry(entry.index) is not None:
                break
            older.append(entry)
        return older + (log.entries(first + len(older), last) or [])

    def checksum(self, index: int) -> int:
        """The chain value at an index of the log in memory; 0 before entry 1."""
        if not index:
            return 0
        known = self.log.checksum_at(index)
        if known is None:
            entry = self.store.entry(index)
            known = entry.checksum if entry is not None else 0
        return known
