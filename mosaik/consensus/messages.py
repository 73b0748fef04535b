"""What replicas say to each other. The meaning of each message is in ``docs/membership.md`` and in
Ongaro's thesis, whose names these are.

Every message travels in an `Envelope` that names the history it is about and the exact replica it is
for. Terms of different histories are not comparable, so a receiver looks at nothing else first.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from mosaik.primitives.codec import Codec
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.durable import Anchor
from mosaik.primitives.membership import Attempt, Member, Replica

__all__ = [
    "AppendEntries",
    "AppendReply",
    "Body",
    "ClientClass",
    "DissolvedNotice",
    "Envelope",
    "HistoryInfo",
    "InstallSnapshot",
    "JoinReply",
    "JoinRequest",
    "LeaveReply",
    "LeaveRequest",
    "Phase",
    "Propose",
    "ProposeReply",
    "ProposeVerdict",
    "ReadIndex",
    "ReadIndexReply",
    "RolledBack",
    "SnapshotReply",
    "Status",
    "TimeoutNow",
    "Vote",
    "VoteReply",
    "VoteRequest",
    "envelope_codec",
]


class Phase(IntEnum):
    """Where a replica stands towards histories."""

    PRISTINE = 0
    ATTEMPT = 1
    MEMBER = 2


class ClientClass(IntEnum):
    """Whether a history holds client commands: none, only uncommitted ones, or committed ones."""

    NONE = 0
    PENDING = 1
    SOME = 2


class Vote(IntEnum):
    """A voter's answer. ``ABSTAINED`` says why it could not grant; it counts as a refusal."""

    DENIED = 0
    GRANTED = 1
    ABSTAINED = 2


class Body(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The base of every message."""


class Status(Body, frozen=True, tag=1):
    """What a replica says of itself: at bonding, on change, and with each refusal.

    ``asks`` is a nonce that the receiver sends back as ``echo``: its status is then newer than the question.
    """

    phase: Phase
    term: int
    last: Cursor
    commit: int
    founded: bool
    has_client: bool
    leader: Replica | None
    observer: bool
    volatile: bool
    reluctance: int
    member: bool
    attempt: Attempt | None = None
    dissolved: tuple[tuple[bytes, bytes], ...] = ()
    lost: bool = False
    asks: int = 0
    echo: int = 0


class Propose(Body, frozen=True, tag=2):
    """Asks a founder to accept an attempt, or to say that it never will."""

    attempt: Attempt
    giving_up: bool = False


class ProposeVerdict(IntEnum):
    """A founder's answer to a proposal: ``DEAD`` is a proof, ``BUSY`` decides nothing."""

    ACCEPTED = 0
    DEAD = 1
    DISSOLVED = 2
    BUSY = 3


class ProposeReply(Body, frozen=True, tag=3):
    """A founder's answer; ``ACCEPTED`` is its vote for the proposer in term 1 as well."""

    history: bytes
    verdict: ProposeVerdict
    into: bytes = b""


class VoteRequest(Body, frozen=True, tag=4):
    """RequestVote (§3.4), or a pre-vote (§9.6) that changes nobody's term.

    ``forced`` marks a candidate told to stand by its leader: leader stickiness does not apply (§3.10).
    """

    term: int
    last: Cursor
    pre: bool = False
    forced: bool = False


class VoteReply(Body, frozen=True, tag=5):
    """A voter's answer. A granted pre-vote speaks of the term asked about, all else of the voter's."""

    term: int
    vote: Vote
    pre: bool = False
    reason: str = ""


class AppendEntries(Body, frozen=True, tag=6):
    """AppendEntries (§3.5). ``entries`` is the concatenation of sealed entries.

    ``round`` echoes in the reply, so that a leader knows which of its rounds a follower confirmed
    (check-quorum §6.2, ReadIndex §6.4).
    """

    term: int
    previous: Anchor
    entries: bytes
    commit: int
    round: int
    floors: tuple[tuple[Replica, Cursor], ...] = ()


class AppendReply(Body, frozen=True, tag=7):
    """``match`` is durable at the follower. After a refusal ``hint`` is where to try next.

    A replica with a suspect tail is sent entries like any other, but what it holds is not ``counted``.
    """

    term: int
    success: bool
    match: int
    round: int
    hint: Cursor = Cursor()
    counted: bool = True


class InstallSnapshot(Body, frozen=True, tag=8):
    """One chunk of a snapshot (§5). The state transfer that sends it is not built yet."""

    term: int
    anchor: Anchor
    offset: int
    data: bytes
    done: bool


class SnapshotReply(Body, frozen=True, tag=9):
    """How much of a snapshot has arrived."""

    term: int
    offset: int


class TimeoutNow(Body, frozen=True, tag=10):
    """Stand for election at once (§3.10)."""

    term: int


class ReadIndex(Body, frozen=True, tag=11):
    """Asks the leader for an index at which a read is linearizable (§6.4)."""

    nonce: int


class ReadIndexReply(Body, frozen=True, tag=12):
    """``index`` 0 means: not the leader; try the hint."""

    nonce: int
    index: int
    leader: Replica | None = None


class HistoryInfo(Body, frozen=True, tag=13):
    """From a leader to the leader of another history. ``confirmed``: by a quorum, just now."""

    history: bytes
    term: int
    founded: bool
    confirmed: bool
    client: ClientClass


class JoinRequest(Body, frozen=True, tag=14):
    """A replica bound to this history asks to be a learner in it."""

    member: Member


class JoinReply(Body, frozen=True, tag=15):
    """``index`` of the configuration entry that admits; 0 with a hint or a reason."""

    index: int
    leader: Replica | None = None
    reason: str = ""


class LeaveRequest(Body, frozen=True, tag=16):
    """Asks the leader to remove a replica, the sender or a third one."""

    replica: Replica


class LeaveReply(Body, frozen=True, tag=17):
    """``index`` of the configuration entry without ``replica``; 0 with a hint or a reason."""

    replica: Replica
    index: int
    leader: Replica | None = None
    reason: str = ""


class RolledBack(Body, frozen=True, tag=18):
    """Tells a replica that its store claims less than it once acknowledged."""

    seen: Cursor
    claimed: Cursor
    seen_life: int


class DissolvedNotice(Body, frozen=True, tag=19):
    """``history`` was dissolved; ``into`` names where its members go, empty for nowhere."""

    history: bytes
    into: bytes


AnyBody = (
    Status
    | Propose
    | ProposeReply
    | VoteRequest
    | VoteReply
    | AppendEntries
    | AppendReply
    | InstallSnapshot
    | SnapshotReply
    | TimeoutNow
    | ReadIndex
    | ReadIndexReply
    | HistoryInfo
    | JoinRequest
    | JoinReply
    | LeaveRequest
    | LeaveReply
    | RolledBack
    | DissolvedNotice
)


class Target(NamedTuple):
    """The store and life a message is for; empty for whoever this peer is now."""

    store: bytes
    life: int


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message between two replicas of one group.

    Attributes:
        history: the history it speaks of; empty when the sender is pristine.
        sender: who says it; ``sender.peer`` must be the link's authenticated peer.
        target: whom it is for.
        body: what is said.
    """

    history: bytes
    sender: Replica
    target: Target
    body: AnyBody


#: How large an encoded envelope may be: one entry of the largest size, or a window of small ones.
MAX_ENVELOPE: Final = 18 * 1024 * 1024

envelope_codec: Codec[Envelope] = Codec(Envelope, limit=MAX_ENVELOPE)
