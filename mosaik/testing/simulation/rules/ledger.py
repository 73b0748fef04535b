"""What an observer who sees everything knows of each history.

Nothing here is visible to the replicas. The ledger only grows: what was once durable, spoken or
committed stays known, whatever crashes later.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mosaik.primitives.entry import Entry, EntryKind
from mosaik.primitives.membership import Attempt, Replica
from mosaik.testing.simulation.rules.violation import Property, Violation

__all__ = ["HistoryLedger", "Leadership", "Ledger"]


@dataclass
class Leadership:
    """Who led one term of one history, and the log it had.

    Attributes:
        incarnation: of the process; one that restarts cannot go on leading.
        log: ``(term, checksum)`` of each entry, from index 1; grows with the leader's log.
        elected_with: how long that log was when it took office.
        founded, dissolve: where these entries stand in it; 0 where they do not.
    """

    replica: Replica
    incarnation: int
    log: list[tuple[int, int]]
    elected_with: int
    founded: int = 0
    dissolve: int = 0

    def note(self, entry: Entry[Any]) -> None:
        """Sees an entry of the log."""
        if entry.kind is EntryKind.FOUNDED:
            self.founded = entry.index
        elif entry.kind is EntryKind.DISSOLVE:
            self.dissolve = entry.index


@dataclass
class HistoryLedger:
    """One history.

    Attributes:
        chain: the committed entries, from index 1.
        committed_in: the leader's term in which each was first committed.
        known: the checksum of every entry ever seen, by (index, term).
        leaders: by term.
        votes: by term, who said that it votes for whom.
        acked: by term, up to where each replica said that it durably agrees with the leader.
        accepted: founders that durably accepted.
        dead: somebody said that it will never be founded.
        dissolved_into: where it went, once its ``DISSOLVE`` is committed.
    """

    id: bytes
    chain: list[Entry[Any]] = field(default_factory=list[Entry[Any]])
    committed_in: list[int] = field(default_factory=list[int])
    known: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    leaders: dict[int, Leadership] = field(default_factory=dict[int, Leadership])
    votes: dict[int, dict[Replica, Replica]] = field(
        default_factory=dict[int, dict[Replica, Replica]]
    )
    acked: dict[int, dict[Replica, int]] = field(default_factory=dict[int, dict[Replica, int]])
    accepted: set[Replica] = field(default_factory=set[Replica])
    attempt: Attempt | None = None
    founded: bool = False
    has_command: bool = False
    dead: bool = False
    dissolved_into: bytes | None = None

    @property
    def name(self) -> str:
        return self.id[:3].hex()


class Ledger:
    """Everything that was seen, and which rules are looked at.

    Args:
        ignored: rules that are not checked. Only the tests of planted bugs use it, to show that a bug
            that one rule sees early does reach the promise that it endangers.
    """

    def __init__(self, ignored: frozenset[Property] = frozenset()) -> None:
        self.ignored = ignored
        self.histories: dict[bytes, HistoryLedger] = {}
        #: The life of every store, and the history of every life.
        self.lives: dict[tuple[bytes, bytes], int] = {}
        self.bound: dict[Replica, bytes] = {}
        self.counts: Counter[str] = Counter()

    def history(self, history: bytes) -> HistoryLedger:
        found = self.histories.get(history)
        if found is None:
            found = self.histories[history] = HistoryLedger(history)
        return found

    def require(self, condition: bool, which: Property, detail: str) -> None:
        """Raises a `Violation` unless the condition holds."""
        if not condition:
            self.broken(which, detail)

    def broken(self, which: Property, detail: str) -> None:
        """Raises a `Violation`. For rules that are asked so often that words cost too much."""
        if which not in self.ignored:
            raise Violation(which, detail)
