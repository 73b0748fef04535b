"""Each bug that is planted in a whole group is found, within the number of seeds that the docs state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mosaik.testing.simulation import Property, Scenario, Simulation, Violation
from mosaik.testing.simulation.runner import scenario_of
from tests.simulation.bugs import BUGS, Bug


def scenario(bug: Bug, seed: int) -> Scenario:
    drawn = scenario_of(seed, beyond=bug.beyond)
    faults = {**drawn.faults, **bug.faults}
    nodes = bug.nodes or drawn.nodes
    return replace(drawn, faults=faults, nodes=nodes, max_voters=max(nodes, drawn.max_voters))


def hunt(bug: Bug) -> int | None:
    """The first seed that shows the bug for what it is, not only by some late consequence."""
    for seed in range(bug.seeds):
        try:
            Simulation(seed, scenario(bug, seed), ignored=bug.ignoring).run()
        except Violation as violation:
            if violation.property in bug.finds:
                return seed
    return None


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    with pytest.MonkeyPatch.context() as patch:
        bug.plant(patch)
        seed = hunt(bug)
    assert seed is not None, f"{bug.seeds} seeds did not show that {bug.name}"
    # The correct group survives the very same faults.
    Simulation(seed, scenario(bug, seed)).run()


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 15
    assert len({bug.name for bug in BUGS}) == len(BUGS)


def test_the_rules_about_callers_are_each_seen_to_catch_something() -> None:
    """The others are, in the simulator of the core alone."""
    needed = {
        Property.ACKNOWLEDGED,
        Property.LINEARIZABLE,
        Property.WEAK_READ,
        Property.MACHINES_EQUAL,
        Property.REFUSED,
        Property.LIVENESS,
        Property.STORE_CONTRACT,
    }
    assert needed <= {which for bug in BUGS for which in bug.finds}
