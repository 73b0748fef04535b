"""What must hold, whoever runs the replicas: one rule a function, asked where it can first break."""

from __future__ import annotations

from mosaik.testing.simulation.rules.ledger import HistoryLedger, Leadership, Ledger
from mosaik.testing.simulation.rules.store import PlainStore
from mosaik.testing.simulation.rules.violation import Property, Violation
from mosaik.testing.simulation.rules.watched import Watched

__all__ = [
    "HistoryLedger",
    "Leadership",
    "Ledger",
    "PlainStore",
    "Property",
    "Violation",
    "Watched",
]
