"""One process of the simulation: a core, its disk, and the driver between them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from mosaik.consensus import Consensus, Effects, Input, Parameters, Write
from mosaik.testing.simulation.rules import PlainStore, Watched

__all__ = ["SimNode"]


class SimNode(Watched):
    """A node, up or down.

    Attributes:
        bonds: peers that this end believes it can speak to.
        writing: the write in flight.
        paused: what happens is queued until it goes on.
        left: it left the group for good.
    """

    def __init__(self, name: str, peer: bytes, parameters: Parameters, store: PlainStore) -> None:
        super().__init__(name, peer, store)
        self.parameters = parameters
        self.bonds: set[bytes] = set()
        self.writing: Write | None = None
        self.paused = False
        self.left = False
        self.queued: list[Input] = []
        self.wake_at = float("inf")
        self.deadline = float("inf")
        self.disk_seconds = (0.001, 0.01)
        self.clock_ms = 0

    @property
    def up(self) -> bool:
        return self.core is not None

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
