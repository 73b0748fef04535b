"""What a simulation is given: who there is, how bad the world is, and for how long."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

from mosaik.consensus import Parameters
from tests.consensus.simulation.network import PERFECT, LinkQuality

__all__ = ["FAULTS", "GROUP", "NodePlan", "Scenario", "draw"]

GROUP = bytes(range(32))

#: What may happen, and how often relative to the rest.
FAULTS: Mapping[str, int] = {
    "crash": 4,
    "crash leader": 4,
    "partition": 3,
    "isolate leader": 26,
    "deafen": 2,
    "break link": 2,
    "pause": 2,
    "pause leader": 2,
    "slow disk": 2,
    "poison": 1,
    "wipe": 1,
    "damage": 2,
    "transfer": 2,
    "remove": 1,
    "leave": 1,
    "newcomer": 3,
}


@dataclass(frozen=True)
class NodePlan:
    """One node.

    Attributes:
        joins_at: when it is first started, seconds.
    """

    joins_at: float = 0.0
    observer: bool = False
    volatile: bool = False
    reluctance: int = 1


@dataclass(frozen=True)
class Scenario:
    """One run.

    Attributes:
        nodes: those that take part from the start; faults may add newcomers.
        expect: ``bootstrap_expect``.
        seconds: how long faults and load last.
        fault_every: mean seconds between faults; 0 for none.
        early_fault_every: the same for the first two seconds, when histories begin; 0 for no more.
        faults: their weights.
        quality: of the links, while faults last.
        hidden: pairs of nodes that do not see each other until ``hidden_until``.
        submit_every: mean seconds between submissions.
        message_bytes, write_bytes, tail_entries, tail_bytes, window: of `Parameters`.
        newcomers: at most so many.
        jitter: of election timers, seconds; without, votes split.
    """

    nodes: tuple[NodePlan, ...] = (NodePlan(), NodePlan(), NodePlan())
    expect: int = 2
    seconds: float = 14.0
    fault_every: float = 1.5
    early_fault_every: float = 0.0
    faults: Mapping[str, int] = field(default_factory=lambda: FAULTS)
    quality: LinkQuality = PERFECT
    hidden: tuple[tuple[int, int], ...] = ()
    hidden_until: float = 0.0
    submit_every: float = 0.15
    submit_from: float = 0.0
    message_bytes: int = 256 * 1024
    write_bytes: int = 1024 * 1024
    tail_entries: int = 16_384
    tail_bytes: int = 16 * 1024 * 1024
    window: int = 64
    max_voters: int = 5
    jitter: float = 0.5
    newcomers: int = 2
    forget_lost_history: bool = False

    def parameters(self, plan: NodePlan) -> Parameters:
        """The numbers that a node runs by: the usual ones, four times as fast."""
        return Parameters(
            group=GROUP,
            heartbeat_interval=0.25,
            election_timeout=1.0,
            election_timeout_jitter=self.jitter,
            bootstrap_delay=0.5,
            bootstrap_expect=self.expect,
            max_voters=self.max_voters,
            dead_voter_timeout=4.0,
            reluctance=plan.reluctance,
            observer=plan.observer,
            volatile=plan.volatile,
            forget_lost_history=self.forget_lost_history,
            window=self.window,
            message_bytes=self.message_bytes,
            write_bytes=self.write_bytes,
            tail_entries=self.tail_entries,
            tail_bytes=self.tail_bytes,
        )


def draw(chance: random.Random) -> Scenario:
    """A scenario by chance."""
    count = chance.choice((3, 3, 3, 4, 5))
    quality = chance.choice(
        (
            LinkQuality(),
            LinkQuality(loss=0.01, duplicate=0.01, slow=0.01),
            LinkQuality(loss=0.05, duplicate=0.05, slow=0.1),
            LinkQuality(loss=0.2, duplicate=0.1, slow=0.2, slow_seconds=0.5),
        )
    )
    volatile = chance.random() < 0.1
    nodes = tuple(
        NodePlan(
            joins_at=chance.random() * 5 if chance.random() < 0.1 else 0.0,
            observer=at >= 3 and chance.random() < 0.3,
            volatile=volatile,
            reluctance=chance.choice((1, 1, 1, 2)),
        )
        for at in range(count)
    )
    hidden: tuple[tuple[int, int], ...] = ()
    expect = count // 2 + 1
    hidden_until = chance.uniform(1.0, 5.0)
    submit_from = 0.0
    pairs = list(combinations(range(count), 2))
    if chance.random() < 0.2:
        # Histories that arise apart, and meet; most before anybody asks for anything.
        expect = chance.choice((1, 1, 1, 2))
        inside = chance.sample(range(count), chance.randrange(1, count))
        hidden = tuple(pair for pair in pairs if (pair[0] in inside) != (pair[1] in inside))
        submit_from = chance.choice((0.0, hidden_until, hidden_until + 4.0, hidden_until + 6.0))
    elif chance.random() < 0.1:
        # Attempts that overlap: who stands between two proposers hears of both.
        expect = 2
        hidden = tuple(pair for pair in pairs if chance.random() < 0.5)
    else:
        expect = chance.choice((1, 2, 3, 3, 3, 3, 3, expect))
    # Fewer kinds of faults at a time reach further than all of them together ("swarm testing").
    faults = {name: weight for name, weight in FAULTS.items() if chance.random() < 0.6}
    faults["isolate leader"] = FAULTS["isolate leader"]
    observers = sum(1 for node in nodes if node.observer)
    return Scenario(
        nodes=nodes,
        expect=min(expect, count - observers),
        seconds=chance.uniform(12.0, 22.0),
        fault_every=chance.choice((0.8, 1.2, 1.8)),
        early_fault_every=chance.choice((0.0, 0.0, 0.1, 0.3)),
        faults=faults,
        quality=quality,
        hidden=hidden,
        hidden_until=hidden_until,
        submit_every=chance.choice((0.05, 0.1, 0.2)),
        submit_from=submit_from,
        message_bytes=chance.choice((100, 300, 256 * 1024)),
        write_bytes=chance.choice((1, 300, *[1024 * 1024] * 4)),
        tail_entries=chance.choice((4, 32, 16_384)),
        tail_bytes=chance.choice((200, 16 * 1024 * 1024)),
        window=chance.choice((1, 4, 64)),
        max_voters=chance.choice((3, 5, 5)),
        forget_lost_history=chance.random() < 0.5,
    )
