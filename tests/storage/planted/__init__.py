"""Bugs, at least one for each rule that says what a store does, planted in this process's framework.

What only an engine can do wrong is a store of ``tests/storage/mutants``; these are the mistakes of the
framework above it, or of a backend that has none. Each names the rule that has to notice, and what the
rule has to say of it.
"""

from __future__ import annotations

from . import group, hard, log, opened
from .bug import BUGS, Bug

__all__ = ["BUGS", "Bug", "group", "hard", "log", "opened"]
