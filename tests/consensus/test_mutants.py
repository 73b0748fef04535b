"""Every rule that the simulator checks is seen to catch the bug that it is there for."""

from __future__ import annotations

import pytest

from tests.consensus.mutants import MUTANTS, Mutant
from tests.consensus.simulation import Property, Simulation, Violation


def hunt(mutant: Mutant) -> tuple[int, Violation] | None:
    """The first seed that shows the bug, and how."""
    for seed in range(mutant.seeds):
        try:
            Simulation(seed, mutant.scenario, ignored=mutant.ignoring).storm()
        except Violation as violation:
            return seed, violation
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_found(mutant: Mutant) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant.plant(patch)
        found = hunt(mutant)
    assert found is not None, f"{mutant.seeds} seeds did not show that {mutant.name}"
    seed, violation = found
    assert violation.property in mutant.finds, str(violation)
    # The correct core survives the very same faults.
    Simulation(seed, mutant.scenario).storm()


#: Seen broken in `test_simulation`, where groups are run to their end, and in ``tests/simulation``, where
#: machines and clients are there, too.
ELSEWHERE = {
    Property.LIVENESS,
    Property.LINEARIZABLE,
    Property.WEAK_READ,
    Property.MACHINES_EQUAL,
    Property.REFUSED,
}


def test_every_rule_is_seen_to_catch_something() -> None:
    seen = {which for mutant in MUTANTS for which in mutant.finds} | ELSEWHERE
    assert seen == set(Property)
