"""Whole groups of the real core under simulated networks, clocks and disks."""

from __future__ import annotations

from mosaik.testing.simulation.rules.violation import Property, Violation
from tests.consensus.simulation.scenario import NodePlan, Scenario
from tests.consensus.simulation.simulation import Simulation

__all__ = ["NodePlan", "Property", "Scenario", "Simulation", "Violation"]
