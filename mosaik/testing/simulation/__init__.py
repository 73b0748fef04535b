"""Whole groups in one process, on virtual time, under faults: one function of a seed.

``mosaik simulate`` runs it from the command line. See ``docs/simulation.md``.
"""

from __future__ import annotations

from mosaik.testing.simulation.network import Quality
from mosaik.testing.simulation.rules import Property, Violation
from mosaik.testing.simulation.runner import run_seed, shrink
from mosaik.testing.simulation.scenario import FAULTS, Scenario, draw
from mosaik.testing.simulation.seeds import Outcome, Summary, run_seeds
from mosaik.testing.simulation.simulation import Simulation

__all__ = [
    "FAULTS",
    "Outcome",
    "Property",
    "Quality",
    "Scenario",
    "Simulation",
    "Summary",
    "Violation",
    "draw",
    "run_seed",
    "run_seeds",
    "shrink",
]
