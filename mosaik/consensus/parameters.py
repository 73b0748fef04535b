"""The numbers a replica runs by. Times are seconds."""

from __future__ import annotations

import msgspec

__all__ = ["Parameters"]


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica is told when it starts.

    Attributes:
        group: the group's id.
        heartbeat_interval: how often a leader speaks when it has nothing to say.
        election_timeout: the shortest silence after which a voter stands.
        election_timeout_jitter: a uniform addition to it, drawn anew each time.
        bootstrap_delay: how long a pristine replica listens before it proposes a history.
        bootstrap_expect: how many must meet before a history begins.
        max_voters: promotion stops here.
        dead_voter_timeout: a silence after which a voter gives its place to a learner.
        reluctance: multiplies this replica's own election timers; 1 is normal.
        observer: it never becomes a voter.
        volatile: its store does not outlive its process.
        forget_lost_history: on a lost volatile history, start over instead of blocking.
        window: unacknowledged AppendEntries messages a follower may have in flight.
        message_bytes: sealed bytes in one AppendEntries, unless one entry is larger.
        write_bytes: sealed bytes in one write, unless one entry is larger.
        tail_entries: how many of the newest entries are kept in memory.
        tail_bytes: and how many bytes of them.
    """

    group: bytes
    heartbeat_interval: float = 0.5
    election_timeout: float = 2.0
    election_timeout_jitter: float = 0.5
    bootstrap_delay: float = 3.0
    bootstrap_expect: int = 1
    max_voters: int = 5
    dead_voter_timeout: float = 60.0
    reluctance: int = 1
    observer: bool = False
    volatile: bool = False
    forget_lost_history: bool = False
    window: int = 64
    message_bytes: int = 256 * 1024
    write_bytes: int = 1024 * 1024
    tail_entries: int = 16_384
    tail_bytes: int = 16 * 1024 * 1024

    @property
    def genesis_timeout(self) -> float:
        """How long an attempt or a join may take before it is given up."""
        return max(self.bootstrap_delay, 2 * self.election_timeout)
