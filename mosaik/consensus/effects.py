"""Everything a replica can want from the world. The driver carries these out; it decides nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from mosaik.consensus.messages import Envelope
from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.membership import Configuration, Replica

__all__ = [
    "LAST_VOTER",
    "Accepted",
    "Done",
    "Effects",
    "Event",
    "Fetch",
    "Notice",
    "Outgoing",
    "ReadReady",
    "Refused",
    "View",
    "Write",
]


#: The reason of a `Refused` that protects a history from ending by accident.
LAST_VOTER: Final = "it is the last voter"


class Write(msgspec.Struct, frozen=True, gc=False):
    """Commit this batch, then say `Persisted` with the sequence. At most one is outstanding."""

    sequence: int
    batch: WriteBatch[Any]


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """Send this over the bond with ``peer``; drop it if there is none."""

    peer: bytes
    envelope: Envelope


class Fetch(msgspec.Struct, frozen=True, gc=False):
    """Read entries ``first`` to ``last`` (at most ``limit`` bytes of them) and say `Fetched`."""

    first: int
    last: int
    limit: int


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The commands of ``token`` were appended at ``first`` and after, in ``term``. If an entry of
    another term is ever committed at one of these indices, that command is certainly not done."""

    token: int
    first: int
    term: int
    count: int


class Refused(msgspec.Struct, frozen=True, gc=False):
    """What ``token`` asked for was certainly not done, and ``leader``, if known, may do it."""

    token: int
    leader: Replica | None
    reason: str


class ReadReady(msgspec.Struct, frozen=True, gc=False):
    """A read answered from a state that has applied ``index`` is linearizable."""

    token: int
    index: int


class Done(msgspec.Struct, frozen=True, gc=False):
    """The transfer, leave or removal of ``token`` has taken effect."""

    token: int


class Notice(StrEnum):
    """What an operator or an application wants to hear of."""

    FOUNDED = "founded"
    JOINED = "joined"
    LEFT = "left"
    CONFIGURATION = "configuration"
    QUORUM_LOST = "quorum lost"
    QUORUM_RESTORED = "quorum restored"
    DISSOLVED = "dissolved"
    DIVERGENT_HISTORY = "divergent history"
    HISTORY_LOST = "history lost"
    STORE_ROLLED_BACK = "store rolled back"
    QUARANTINED = "quarantined"
    SUSPECT_TAIL = "suspect tail"
    BUG = "bug"


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something worth a log line, a metric, or somebody's ``when()``."""

    notice: Notice
    detail: str = ""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica shows of itself after a step.

    Attributes:
        term: the current term.
        leader: who leads, as far as it knows.
        leading: whether that is itself.
        commit: the commit index.
        applicable: entries up to here are committed and durable here, and may be applied.
        last: the last index of its log.
        last_term: the term of that entry.
        history: the history it is bound to.
        founded: that history may take commands.
        online: it leads, or follows a leader whose log its own continues.
        configuration: the newest configuration in its log.
        role: follower, pre-candidate, candidate or leader.
        lost: a majority of the volatile history forgot; writes are refused for good.
        quarantined: this store was rolled back; it takes no part any more.
    """

    term: int
    leader: Replica | None
    leading: bool
    commit: int
    applicable: int
    last: int
    history: bytes
    founded: bool
    online: bool
    configuration: Configuration
    role: str
    last_term: int = 0
    lost: bool = False
    quarantined: bool = False


class Effects(msgspec.Struct, kw_only=True):
    """What one step asks for.

    Attributes:
        write: one batch, or nothing.
        send: messages that may go now, in order. Those that wait for a write are held back inside.
        fetch: entries wanted from the store.
        answers: to what tokens asked.
        events: for people.
        deadline: step again at this time at the latest, with or without inputs.
        restart: the replica has ended its life in a history (dissolved, lost, left): whoever applied
            its entries starts from an empty machine.
    """

    write: Write | None = None
    send: list[Outgoing] = []
    fetch: list[Fetch] = []
    answers: list[Accepted | Refused | ReadReady | Done] = []
    events: list[Event] = []
    deadline: float = 0.0
    restart: bool = False
