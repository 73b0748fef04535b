"""The correct core under every fault that the simulator knows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mosaik.consensus import Submit, election, step
from mosaik.consensus.core import Core
from mosaik.consensus.progress import Progress
from tests.consensus.mutants import counts_old_terms, scenarios
from tests.consensus.mutants.registry import nothing
from tests.consensus.simulation import Property, Scenario, Simulation, Violation
from tests.consensus.simulation.runner import (
    ENOUGH,
    REQUIRED,
    Outcome,
    run_seed,
    run_seeds,
)
from tests.consensus.simulation.runner import (
    summary as new_summary,
)

ROOT = Path(__file__).resolve().parents[2]

#: Real seconds for all parts together, which run two at a time.
BUDGET = float(os.environ.get("MOSAIK_SIM_SECONDS", "26"))
PARTS = 4


@pytest.mark.timeout(BUDGET + 60)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_seed_breaks_a_rule(part: int, record_property: Callable[[str, object], None]) -> None:
    summary, began = new_summary(), time.monotonic()
    for outcome in run_seeds(
        run_seed, part * 1_000_000, None, seconds=2 * BUDGET / PARTS, workers=1
    ):
        summary.add(outcome)
    summary.seconds = time.monotonic() - began
    record_property("simulation", (summary.seeds, summary.steps, dict(summary.counts)))
    assert summary.passed, "\n".join(summary.lines())


SPECIAL = {
    "churn": scenarios.CHURN,
    "split votes": scenarios.SPLIT,
    "growth": scenarios.GROWTH,
    "genesis": scenarios.GENESIS,
    "overlapping attempts": scenarios.OVERLAP,
    "meeting": replace(scenarios.MEETING, submit_every=0.1, submit_from=7.0),
    "meeting under load": scenarios.MEETING_UNDER_LOAD,
}


@pytest.mark.parametrize("scenario", SPECIAL.values(), ids=SPECIAL)
def test_no_special_scenario_breaks_a_rule(scenario: Scenario) -> None:
    for seed in range(12):
        Simulation(seed, scenario).run()


def test_a_seed_gives_one_trace_whatever_the_hash_seed() -> None:
    def hashes(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.consensus.simulation", "--hashes"]
        return subprocess.run(
            [*command, "--seeds", "5", "--start", "70", "--workers", "1"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.partition("5 seeds")[0]

    first = hashes("1")
    assert len(first.splitlines()) == 5
    assert first == hashes("2")
    assert len(set(first.split()[1::2])) == 5, "different seeds, different traces"


def test_a_failing_seed_says_how_to_see_it_again() -> None:
    with pytest.MonkeyPatch.context() as patch:
        counts_old_terms(patch)
        patch.setattr(Core, "_forget_agreement", nothing)
        failing = next(o for o in map(run_seed, range(200)) if o.violation)
        assert run_seed(failing.seed).hash == failing.hash
    summary = new_summary()
    summary.add(failing)
    assert not summary.passed
    replay = (
        f"replay: python -m tests.consensus.simulation --start {failing.seed} --seeds 1 --trace"
    )
    assert any(replay in line for line in summary.lines())


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_run_that_reaches_too_little_fails(missing: str) -> None:
    summary = new_summary()
    for seed in range(ENOUGH):
        reached = Counter({name: 1 for name in REQUIRED if name != missing or seed})
        summary.add(Outcome(seed, 0, 1, reached))
    assert not summary.passed
    assert any(missing in line for line in summary.lines() if "too tame" in line)


def test_a_group_that_stays_dead_is_noticed() -> None:
    quiet = replace(scenarios.CHURN, seconds=3.0, faults={"crash leader": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(election, "start_pre_vote", Core.reset_election_timer)
        found: list[Property] = []
        for seed in range(5):
            try:
                Simulation(seed, quiet).run()
            except Violation as violation:
                found.append(violation.property)
    assert Property.LIVENESS in found


def test_a_repaired_tail_that_never_catches_up_is_noticed() -> None:
    """What a suspect replica confirms does not count, but has to make room in the leader's window."""
    damage = replace(
        scenarios.CHURN,
        seconds=6.0,
        fault_every=0.6,
        window=1,
        message_bytes=100,
        faults={"damage": 1},
    )

    def acknowledge(progress: Progress, match: int, *, counted: bool) -> bool:
        return before(progress, match if counted else 0, counted=counted)

    before = Progress.acknowledge

    def stuck() -> list[Property]:
        found: list[Property] = []
        for seed in range(6):
            try:
                Simulation(seed, damage).run()
            except Violation as violation:
                found.append(violation.property)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "acknowledge", acknowledge)
        assert set(stuck()) == {Property.LIVENESS}
    assert stuck() == []


def test_a_command_that_is_neither_taken_nor_refused_is_noticed() -> None:
    def submit(core: Core, item: Submit) -> None:
        if item.token % 7:
            before(core, item)

    before = step._submit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "_submit", submit)
        with pytest.raises(Violation, match="neither taken nor refused"):
            Simulation(1, replace(scenarios.CHURN, seconds=32.0)).run()
