"""The correct group under all faults at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mosaik.testing.simulation import Summary, run_seed, run_seeds
from mosaik.testing.simulation.runner import REQUIRED, replay_command, run_beyond
from mosaik.testing.simulation.seeds import ENOUGH

PARTS, SEEDS = 6, 50
BEYOND = 12


@pytest.mark.timeout(180)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_seed_breaks_a_rule(part: int, record_property: Callable[[str, object], None]) -> None:
    summary = Summary(REQUIRED, replay_command)
    for outcome in run_seeds(run_seed, part * SEEDS, SEEDS, workers=1):
        summary.add(outcome)
    record_property("simulation", (summary.seeds, summary.steps, dict(summary.counts)))
    assert summary.seeds >= ENOUGH, "too few to say whether they reach anything"
    assert summary.passed, "\n".join(summary.lines())


@pytest.mark.timeout(120)
def test_what_nothing_could_survive_is_refused_and_never_answered_wrongly() -> None:
    summary = Summary((), replay_command)
    for outcome in run_seeds(run_beyond, 0, BEYOND, workers=1):
        summary.add(outcome)
    assert summary.passed, "\n".join(summary.lines())
    assert summary.counts["acknowledged"] > BEYOND, "it served until then"
