"""One process of the simulation: a core, its disk, and the driver between them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from mosaik.consensus import Consensus, Effects, Input, Parameters, Write
from mosaik.consensus.log import Log
from mosaik.primitives.entry import Entry
from mosaik.primitives.membership import Replica
from tests.consensus.simulation.store import SimStore

__all__ = ["SimNode"]


class SimNode:
    """A node, up or down.

    Attributes:
        name: for people, ``n1``.
        peer: its id.
        store: its disk; outlives the process.
        core: the replica, while the process is up.
        incarnation: how often the process was started.
        bonds: peers that this end believes it can speak to.
        writing: the write in flight.
        paused: what happens is queued until it goes on.
        left: it left the group for good.
        commit: highest commit index this process has shown, in its present history.
    """

    def __init__(self, name: str, peer: bytes, parameters: Parameters, store: SimStore) -> None:
        self.name = name
        self.peer = peer
        self.parameters = parameters
        self.store = store
        self.core: Consensus | None = None
        self.incarnation = 0
        self.bonds: set[bytes] = set()
        self.writing: Write | None = None
        self.paused = False
        self.left = False
        self.queued: list[Input] = []
        self.wake_at = float("inf")
        self.deadline = float("inf")
        self.disk_seconds = (0.001, 0.01)
        self.clock_ms = 0
        self.history = b""
        self.commit = 0

    @property
    def up(self) -> bool:
        return self.core is not None

    @property
    def replica(self) -> Replica:
        """Who its disk says it is."""
        hard = self.store.hard_state
        return Replica(self.peer, hard.store, hard.life)

    @property
    def log(self) -> Log:
        """The log in memory. The simulation looks at it and never touches it."""
        assert self.core is not None
        return self.core._core.log

    @property
    def suspect(self) -> bool:
        """It misses, or may miss, a tail that it once acknowledged."""
        return bool(self.store.suspect or (self.core is not None and self.core._core.suspect))

    def start(self, now: float, chance: random.Random) -> None:
        """Starts the process on whatever the disk holds."""
        self.incarnation += 1
        keep = chance.choice((0, 1, 8, 1000))
        recovered = self.store.recovered(self.peer, keep)
        self.core = Consensus(self.parameters, recovered, random.Random(chance.random()), now)
        self.clock_ms = chance.randrange(10_000)
        self.wake_at = float("inf")
        self.history, self.commit = self.store.hard_state.history, 0

    def stop(self) -> Write | None:
        """Ends the process; answers the write that was in flight."""
        writing, self.writing = self.writing, None
        self.core = None
        self.paused = False
        self.bonds = set()
        self.queued = []
        return writing

    def step(self, inputs: Sequence[Input], now: float) -> Effects:
        """Steps the core."""
        assert self.core is not None
        return self.core.step(inputs, now, int(now * 1000) + self.clock_ms)

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
