"""Planted bugs: a whole group with one rule taken out, and the rule of the simulator that notices.

Each replaces functions by name, for one test. The correct group, given the very seed that found the bug,
breaks nothing; the test asks for that too.
"""

from __future__ import annotations

from tests.simulation.bugs import core, disk, driver
from tests.simulation.bugs.registry import BUGS, Bug

__all__ = ["BUGS", "Bug", "core", "disk", "driver"]
