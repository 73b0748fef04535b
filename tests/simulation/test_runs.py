"""What a run of the simulator says of itself: its trace, how much it reached, how to see it again."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mosaik.consensus import Effects, View, election
from mosaik.consensus.core import Core
from mosaik.testing.linearizability import (
    MapEntry,
    check_linearizable,
    require_telling,
    with_stale_read,
)
from mosaik.testing.simulation import FAULTS, Outcome, Property, Simulation, Summary, run_seed
from mosaik.testing.simulation.node import SimNode
from mosaik.testing.simulation.runner import REQUIRED, replay_command, scenario_of, shrink
from mosaik.testing.simulation.seeds import ENOUGH
from tests.linearizability.kinds import inserted, is_exchange, is_read
from tests.simulation.bugs import BUGS

ROOT = Path(__file__).resolve().parents[2]


def test_each_fault_happens() -> None:
    """A fault that is drawn and never done would prove nothing."""
    happened: Counter[str] = Counter()
    for seed in range(1000, 1400):
        happened += run_seed(seed).counts
        if all(happened[f"fault: {name}"] for name in FAULTS):
            return
    pytest.fail(f"never: {[name for name in FAULTS if not happened[f'fault: {name}']]}")


def test_a_seed_gives_one_trace_whatever_the_hash_seed() -> None:
    def hashes(hash_seed: str) -> list[str]:
        program = (
            "from mosaik.testing.simulation import run_seed\n"
            "for seed in range(40, 44): print(f'{run_seed(seed).hash:08x}')\n"
        )
        return subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()

    first = hashes("1")
    assert first == hashes("2")
    assert len(set(first)) == 4, "different seeds, different traces"


def test_a_trace_does_not_change_what_happens() -> None:
    trace = io.StringIO()
    assert run_seed(2, trace=trace).hash == run_seed(2).hash
    lines = trace.getvalue().splitlines()
    assert len(lines) > 1000
    assert any("crash" in line for line in lines)


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_run_that_reaches_too_little_fails(missing: str) -> None:
    summary = Summary(REQUIRED, replay_command)
    for seed in range(ENOUGH):
        reached = Counter({name: 1 for name in REQUIRED if name != missing or seed})
        summary.add(Outcome(seed, 0, 1, reached))
    assert summary.too_tame == [missing]
    assert not summary.passed
    assert f"too tame: {missing} happened less than once a seed" in summary.lines()


def test_a_failing_seed_is_shown_again_and_shrunk() -> None:
    bug = next(bug for bug in BUGS if bug.name == "a strong read is answered at once")
    with pytest.MonkeyPatch.context() as patch:
        bug.plant(patch)
        failing = next(o for o in map(run_seed, range(20)) if o.violation)
        assert run_seed(failing.seed) == failing
        drawn = scenario_of(failing.seed)
        tries: list[None] = []
        least = shrink(failing.seed, drawn, progress=lambda: tries.append(None))
        assert least is not None
        assert len(tries) == least.tries - 1
        assert Property.LINEARIZABLE.value in least.outcome.violation
        assert run_seed(failing.seed, least.scenario) == least.outcome
    assert len(least.scenario.faults) < len(drawn.faults)
    command = replay_command(failing.seed, least.scenario)
    assert command.startswith(f"mosaik simulate --seed {failing.seed} --faults '")
    assert command.endswith(" --trace")
    assert shrink(failing.seed, least.scenario) is None, "without the bug it does not fail"


def test_a_group_that_stays_dead_is_noticed() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(election, "start_pre_vote", Core.reset_election_timer)
        drawn = replace(scenario_of(5), faults={"crash leader": 4.0})
        assert Property.LIVENESS.value in run_seed(5, drawn).violation
    assert not run_seed(5, drawn).violation


class Watched(Simulation):
    """Notes on the clients' clock when leaders changed."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.changes: list[tuple[float, float]] = []
        self._since = 0.0

    def stepped(self, node: SimNode, effects: Effects, before: View) -> View:
        view = super().stepped(node, effects, before)
        if view.leading != before.leading:
            now = self.clients.recorded.mark()
            if view.leading:
                self.changes.append((self._since, now))
            self._since = now
        return view


@pytest.mark.parametrize("seed", range(3))
def test_the_history_of_a_seed_shows_something(seed: int) -> None:
    """The clients' history is checked in each run; here it is shown that there is something to check."""
    simulation = Watched(seed)
    simulation.run()
    operations = simulation.clients.recorded.operations()
    require_telling(operations, simulation.changes, reads=is_read, exchanges=is_exchange)
    assert sum(each.ended is None for each in operations) > 10, "outcomes that nobody knows"
    stale = with_stale_read(operations, reads=is_read, written=inserted)
    assert check_linearizable(stale, MapEntry())
