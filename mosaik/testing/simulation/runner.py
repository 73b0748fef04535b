"""Seeds of whole groups: running one, and finding the least of it that still fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple, TextIO

from mosaik.testing.simulation.rules import Property, Violation
from mosaik.testing.simulation.scenario import Scenario, draw
from mosaik.testing.simulation.seeds import Outcome
from mosaik.testing.simulation.simulation import Simulation

__all__ = [
    "REQUIRED",
    "Shrunk",
    "replay_command",
    "run_beyond",
    "run_seed",
    "scenario_of",
    "shrink",
]

#: What must happen once a seed, on average.
REQUIRED: Final = ("elections", "truncations", "changes", "restarts", "suspect tails")


def scenario_of(seed: int, *, beyond: bool = False) -> Scenario:
    """The scenario that a seed draws."""
    return draw(random.Random(seed), beyond=beyond)


def run_seed(
    seed: int, scenario: Scenario | None = None, *, trace: TextIO | None = None
) -> Outcome:
    """Runs one seed to its end.

    Args:
        scenario: in the place of the one that the seed draws.
        trace: where to write what happens.
    """
    simulation = Simulation(seed, scenario, trace=trace)
    violation = ""
    try:
        simulation.run()
    except Violation as found:
        violation = f"after {simulation.scheduler.now:.3f} s: {found}"
    return Outcome(seed, simulation.hash, simulation.steps, simulation.ledger.counts, violation)


def run_beyond(seed: int) -> Outcome:
    """Runs one seed whose faults destroy more than the group can stand; it must refuse."""
    return run_seed(seed, scenario_of(seed, beyond=True))


def replay_command(seed: int, scenario: Scenario | None = None, *, beyond: bool = False) -> str:
    """How a person sees one seed's trace.

    Args:
        scenario: the one that is run; the options say what differs from the one that the seed draws.
    """
    drawn = scenario_of(seed, beyond=beyond)
    words = ["mosaik simulate", f"--seed {seed}"]
    if beyond:
        words.append("--beyond")
    if scenario is not None:
        if set(scenario.faults) != set(drawn.faults):
            words.append("--faults '" + ",".join(scenario.faults) + "'")
        for name in ("nodes", "newcomers", "clients", "seconds"):
            value = getattr(scenario, name)
            if value != getattr(drawn, name):
                words.append(f"--{name} {value:g}")
    return " ".join([*words, "--trace"])


class Shrunk(NamedTuple):
    """The least that was found to fail.

    Attributes:
        outcome: of it.
        tries: how many scenarios were run.
    """

    scenario: Scenario
    outcome: Outcome
    tries: int


def shrink(
    seed: int, scenario: Scenario, *, progress: Callable[[], object] = lambda: None
) -> Shrunk | None:
    """Takes away from a failing scenario what it does not need, as long as the same rule is broken.

    Returns:
        None when the scenario does not fail.
    """
    best = _broken(seed, scenario)
    if best is None:
        return None
    tries, progressed = 1, True
    while progressed:
        progressed = False
        for smaller in _smaller(scenario):
            tries += 1
            progress()
            found = _broken(seed, smaller)
            if found is not None and found[0] is best[0]:
                scenario, best, progressed = smaller, found, True
                break
    return Shrunk(scenario, best[1], tries)


def _broken(seed: int, scenario: Scenario) -> tuple[Property, Outcome] | None:
    simulation = Simulation(seed, scenario)
    try:
        simulation.run()
    except Violation as found:
        violation = f"after {simulation.scheduler.now:.3f} s: {found}"
        counts = simulation.ledger.counts
        return found.property, Outcome(seed, simulation.hash, simulation.steps, counts, violation)
    return None


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios that are a little less, the greatest steps first."""
    relaxed = replace(scenario, commands=0, faults_at_least=0)
    if relaxed != scenario:
        yield relaxed
        return
    names = list(scenario.faults)
    for part in (len(names) // 2, len(names) // 4, 1):
        for at in range(0, len(names), part) if part else ():
            kept = names[:at] + names[at + part :]
            if len(kept) < len(names):
                yield replace(scenario, faults={name: scenario.faults[name] for name in kept})
    if scenario.seconds > 2:
        yield replace(scenario, seconds=scenario.seconds / 2)
    for name, least in (("newcomers", 0), ("clients", 1), ("nodes", 3)):
        value = getattr(scenario, name)
        if value > least:
            yield replace(scenario, **{name: value - 1})
