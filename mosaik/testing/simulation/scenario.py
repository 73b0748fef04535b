"""What a simulation is given: who there is, how bad the world is, and for how long."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mosaik.testing.simulation.network import PERFECT, Quality

__all__ = ["FAULTS", "Scenario", "draw"]

#: What may happen, and after how many seconds on average; a seed draws a rate of its own for each.
FAULTS: Final[Mapping[str, float]] = {
    "crash": 12.0,
    "crash leader": 15.0,
    "torn write": 15.0,
    "partition": 20.0,
    "isolate leader": 8.0,
    "one way": 25.0,
    "slow wire": 25.0,
    "break link": 15.0,
    "pause": 20.0,
    "pause leader": 20.0,
    "drift": 30.0,
    "jump": 30.0,
    "slow disk": 20.0,
    "failed sync": 20.0,
    "full disk": 30.0,
    "flipped bit": 40.0,
    "rotten tail": 25.0,
    "wipe": 40.0,
    "roll back": 40.0,
    "transfer": 15.0,
    "leave": 40.0,
    "remove": 40.0,
    "newcomer": 20.0,
}


@dataclass(frozen=True)
class Scenario:
    """One run.

    Attributes:
        nodes: how many found the group.
        newcomers: at most so many join later.
        observers: how many of these never vote.
        clients: how many ask, each one thing at a time.
        think_seconds: mean pause of a client between an answer and the next question.
        seconds: the least virtual time that faults and load last; longer until there were enough of both.
        commands, faults_at_least: how many are enough.
        faults: by name, the mean seconds between two of the kind; one that is not named does not happen.
        quality: of the wires, while faults last.
        max_voters: of the group.
        beyond: the faults destroy more than the group can stand: a majority of the voters' disks. It must
            refuse from then on.
    """

    nodes: int = 3
    newcomers: int = 2
    observers: int = 0
    clients: int = 6
    think_seconds: float = 0.4
    seconds: float = 30.0
    commands: int = 200
    faults_at_least: int = 5
    faults: Mapping[str, float] = field(default_factory=lambda: FAULTS)
    quality: Quality = PERFECT
    max_voters: int = 5
    beyond: bool = False


def draw(chance: random.Random, *, beyond: bool = False) -> Scenario:
    """A scenario by chance."""
    quality = chance.choice(
        (
            Quality(),
            Quality(seconds=(0.001, 0.02)),
            Quality(loss=0.01, duplicate=0.01, overtaken=0.02),
            Quality(loss=0.05, duplicate=0.05, overtaken=0.1),
        )
    )
    # Fewer kinds of faults at a time reach further than all of them together ("swarm testing").
    faults = {
        name: mean * chance.choice((0.5, 1.0, 2.0))
        for name, mean in FAULTS.items()
        if chance.random() < 0.7
    }
    # Without these a seed shows little: divergent logs, restarts, tails that nobody can vouch for.
    for name in ("isolate leader", "torn write", "newcomer"):
        faults.setdefault(name, FAULTS[name])
    nodes = chance.choice((3, 3, 3, 3, 4, 5))
    return Scenario(
        nodes=nodes,
        newcomers=chance.choice((1, 2, 2)),
        observers=chance.choice((0, 0, 1)),
        clients=chance.choice((3, 4)),
        think_seconds=chance.choice((0.2, 0.4)),
        faults=faults,
        quality=quality,
        max_voters=max(nodes, chance.choice((3, 5, 5))),
        beyond=beyond,
    )
