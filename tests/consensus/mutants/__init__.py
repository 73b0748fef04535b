"""Planted bugs: the core with one rule taken out, and the rule of the simulator that notices.

Each bug replaces functions of the core by name, for one test. The correct core, given the very seed
that found the bug, breaks nothing; the test asks for that too.
"""

from __future__ import annotations

from tests.consensus.mutants import membership, raft, scenarios, service
from tests.consensus.mutants.raft import counts_old_terms
from tests.consensus.mutants.registry import MUTANTS, Mutant
from tests.consensus.mutants.service import ignores_the_term_of_the_commit

__all__ = [
    "MUTANTS",
    "Mutant",
    "counts_old_terms",
    "ignores_the_term_of_the_commit",
    "membership",
    "raft",
    "scenarios",
    "service",
]
