"""A conformance kit for storage backends: rules, a report card, and a pytest class.

See ``docs/storage-backends.md`` for how to write a backend and try it.
"""

from __future__ import annotations

from mosaik.testing.storage.card import Card, Outcome, Result, Verdict, check, try_rule
from mosaik.testing.storage.conformance import StorageConformance
from mosaik.testing.storage.ground import Ground, entries, hard_state, identity
from mosaik.testing.storage.rule import Broken, Mark, NotApplicable, NotAttested, Rule, rule, rules
from mosaik.testing.storage.subject import PEER, Subject

__all__ = [
    "PEER",
    "Broken",
    "Card",
    "Ground",
    "Mark",
    "NotApplicable",
    "NotAttested",
    "Outcome",
    "Result",
    "Rule",
    "StorageConformance",
    "Subject",
    "Verdict",
    "check",
    "entries",
    "hard_state",
    "identity",
    "rule",
    "rules",
    "try_rule",
]
