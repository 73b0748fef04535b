"""Whole groups of the real core under simulated networks, clocks and disks."""

from __future__ import annotations

from tests.consensus.simulation.scenario import NodePlan, Scenario
from tests.consensus.simulation.simulation import Simulation
from tests.consensus.simulation.violation import Property, Violation

__all__ = ["NodePlan", "Property", "Scenario", "Simulation", "Violation"]
