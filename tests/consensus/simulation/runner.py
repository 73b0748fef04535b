"""Seeds of the consensus simulator."""

from __future__ import annotations

from typing import Final, TextIO

from mosaik.testing.simulation.rules import Violation
from mosaik.testing.simulation.seeds import ENOUGH, Outcome, Summary, run_seeds
from tests.consensus.simulation.simulation import Simulation

__all__ = [
    "ENOUGH",
    "REQUIRED",
    "Outcome",
    "Summary",
    "replay_command",
    "run_seed",
    "run_seeds",
    "summary",
]

#: What a run must reach once a seed, on average; less, and it proves too little.
REQUIRED: Final = ("elections", "truncations", "changes", "restarts")


def replay_command(seed: int) -> str:
    """How a person sees one seed's trace."""
    return f"python -m tests.consensus.simulation --start {seed} --seeds 1 --trace"


def summary() -> Summary:
    """One that nothing was added to."""
    return Summary(REQUIRED, replay_command)


def run_seed(seed: int, trace: TextIO | None = None) -> Outcome:
    """Runs one seed to its end."""
    simulation = Simulation(seed, trace=trace)
    violation = ""
    try:
        simulation.run()
    except Violation as found:
        violation = f"after {simulation.now:.3f} s: {found}"
    return Outcome(seed, simulation.hash, simulation.steps, simulation.ledger.counts, violation)
