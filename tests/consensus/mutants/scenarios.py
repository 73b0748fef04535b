"""Where planted bugs are looked for, and where the correct core has to hold."""

from __future__ import annotations

from dataclasses import replace

from tests.consensus.simulation import NodePlan, Scenario
from tests.consensus.simulation.network import LinkQuality

__all__ = [
    "CHURN",
    "EARLY",
    "FIVE",
    "GENESIS",
    "GROWTH",
    "MEETING",
    "MEETING_UNDER_LOAD",
    "OVERLAP",
    "READS",
    "SPLIT",
    "THREE",
]

THREE = (NodePlan(), NodePlan(), NodePlan())
FIVE = (*THREE, NodePlan(), NodePlan())

#: Leaders come and go under load, and so do voters.
CHURN = Scenario(
    nodes=THREE,
    expect=3,
    seconds=10.0,
    fault_every=1.0,
    submit_every=0.1,
    faults={"isolate leader": 6, "crash leader": 3, "slow disk": 2, "pause leader": 1, "poison": 1},
)
#: Candidates stand at the same time.
SPLIT = replace(CHURN, nodes=FIVE, jitter=0.0, quality=LinkQuality(seconds=(0.01, 0.1)))
#: Old leaders are asked while new ones commit.
READS = replace(
    CHURN, submit_every=0.02, fault_every=2.0, faults={"pause leader": 1, "isolate leader": 2}
)
#: Members come and go.
GROWTH = replace(
    CHURN,
    nodes=FIVE,
    faults={
        "newcomer": 6,
        "wipe": 2,
        "remove": 3,
        "leave": 1,
        "crash leader": 2,
        "isolate leader": 2,
    },
    newcomers=3,
)
#: Histories begin amid faults: attempts overlap, fail, and are given up.
GENESIS = Scenario(
    nodes=(*THREE, NodePlan()),
    expect=2,
    seconds=8.0,
    fault_every=0.6,
    early_fault_every=0.12,
    submit_every=0.0,
    faults={"partition": 3, "crash": 3, "wipe": 2, "break link": 3, "newcomer": 2},
)
#: The last node sees the third only, who hears of two attempts.
OVERLAP = replace(
    GENESIS,
    hidden=((0, 3), (1, 3)),
    hidden_until=5.0,
    early_fault_every=0.0,
    quality=LinkQuality(seconds=(0.02, 0.3)),
)
#: Callers do not wait until there is a history.
EARLY = replace(GENESIS, submit_every=0.02)
#: Histories that began apart meet, and one gives way.
MEETING = Scenario(
    nodes=(*THREE, NodePlan()),
    expect=1,
    seconds=9.0,
    fault_every=2.0,
    faults={"crash": 2, "break link": 2, "isolate leader": 1},
    hidden=((0, 2), (0, 3), (1, 2), (1, 3)),
    hidden_until=2.0,
    submit_every=0.0,
)
#: The same, and the first command comes as they meet.
MEETING_UNDER_LOAD = replace(MEETING, submit_every=0.04, submit_from=2.0)
