"""What a simulation may find, by name."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Property", "Violation"]


class Property(StrEnum):
    """The rules that are checked after every step; thesis figure 3.2 and ``docs/membership.md``."""

    # Raft's own, and the steps of its proof that can be seen from outside.
    ELECTION_SAFETY = "Election Safety"
    ELECTION_QUORUM = "Election Quorum"
    ONE_VOTE = "One Vote per Term"
    LEADER_APPEND_ONLY = "Leader Append-Only"
    LOG_MATCHING = "Log Matching"
    LEADER_COMPLETENESS = "Leader Completeness"
    STATE_MACHINE_SAFETY = "State Machine Safety"
    COMMIT_QUORUM = "Commit Quorum"
    COMMIT_RULE = "Current-Term Commit Rule"
    COMMITS_STAY = "Committed Entries Stay"
    # What is said rests on what is durable.
    DURABLE_VOTE = "Durable before Spoken: Vote"
    DURABLE_TERM = "Durable before Spoken: Term"
    DURABLE_ACK = "Durable before Spoken: Acknowledgement"
    DURABLE_ACCEPT = "Durable before Spoken: Acceptance"
    STORE_CONTRACT = "Storage Contract"
    # What callers are told.
    ACKNOWLEDGED = "Acknowledged Means Committed"
    READ_LINEARIZABLE = "Linearizable Read"
    ANSWERED = "Every Request is Answered Once"
    # Membership.
    ONE_CHANGE = "One Change at a Time"
    FOUNDED_FIRST = "Commands and Changes Follow a Committed Founding"
    FENCED = "Nothing Follows a Dissolve"
    FOUNDED_BY_ALL = "Founded by All"
    ONE_HISTORY = "One History per Life"
    LIFE_FORWARD = "Life Never Goes Back"
    LAWFUL_END = "A Life Ends Lawfully"
    S3_SHARED_STORE = "S3: Two Histories Share no Store"
    DEAD_STAYS_DEAD = "Lemma: Dead is Never Founded"
    S4_DISSOLVED = "S4: Dissolved Holds no Command"
    S4_CYCLE = "S4: No Cycle of Dissolved"
    NO_BUG_REPORTED = "The Core Reports no Bug"
    LINEARIZABLE = "Linearizable"
    WEAK_READ = "A Weak Read Saw Some Committed State"
    MACHINES_EQUAL = "All Machines Equal"
    REFUSED = "What Cannot be Kept is Refused"
    LIVENESS = "Live Again after the Faults"


class Violation(AssertionError):
    """A rule was broken.

    Attributes:
        property: which.
        detail: how.
    """

    def __init__(self, which: Property, detail: str) -> None:
        super().__init__(f"{which.value}: {detail}")
        self.property = which
        self.detail = detail
