"""Who counts: replicas, configurations, and the attempts that found a history.

A *peer* is a process's key. A *replica* is one life of one store of one peer, and it is replicas that
vote: a peer that returns with an empty disk is somebody new (see ``docs/membership.md``).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, NamedTuple

import msgspec

from mosaik.primitives.codec import Codec
from mosaik.primitives.digest import Digest

__all__ = ["Attempt", "Configuration", "Member", "Replica", "Role", "configuration_codec"]


class Replica(NamedTuple):
    """One life of one store of one peer.

    Attributes:
        peer: the peer's id, 32 bytes.
        store: the store's random id, 16 bytes.
        life: how often the store was erased lawfully, from 0.
    """

    peer: bytes
    store: bytes
    life: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]

    def __str__(self) -> str:
        return f"{self.peer[:5].hex()}/{self.store[:3].hex()}.{self.life}"


class Role(IntEnum):
    """What a member does in elections and commits. A learner replicates and never counts."""

    LEARNER = 0
    VOTER = 1


class Member(msgspec.Struct, frozen=True, array_like=True):
    """One replica in a configuration.

    Attributes:
        replica: who.
        role: whether it counts.
        observer: it never wants to be a voter.
        volatile: its store does not outlive its process.
        reluctance: multiplies its election timers; 1 is normal, more is later.
        joined: index of the configuration entry that first named it; orders promotions.
    """

    replica: Replica
    role: Role
    observer: bool = False
    volatile: bool = False
    reluctance: int = 1
    joined: int = 0


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """The members of a history, as one ``CONFIG`` entry of its log names them. Ordered by peer id."""

    members: tuple[Member, ...] = ()

    def find(self, replica: Replica) -> Member | None:
        """The member that is this replica, if it is one."""
        for member in self.members:
            if member.replica == replica:
                return member
        return None

    def of_peer(self, peer: bytes) -> Member | None:
        """The member that belongs to this peer, in whatever life or store."""
        for member in self.members:
            if member.replica.peer == peer:
                return member
        return None

    @property
    def voters(self) -> tuple[Replica, ...]:
        """The replicas that count."""
        return tuple(m.replica for m in self.members if m.role is Role.VOTER)

    @property
    def learners(self) -> tuple[Replica, ...]:
        return tuple(m.replica for m in self.members if m.role is Role.LEARNER)

    @property
    def majority(self) -> int:
        """How many voters decide."""
        return len(self.voters) // 2 + 1

    def with_member(self, member: Member) -> Configuration:
        """This configuration with the member added, or put in the place of the same peer's old one."""
        others = [m for m in self.members if m.replica.peer != member.replica.peer]
        return Configuration(tuple(sorted([*others, member], key=lambda m: m.replica)))

    def without(self, replica: Replica) -> Configuration:
        """This configuration with the replica removed."""
        return Configuration(tuple(m for m in self.members if m.replica != replica))

    def __str__(self) -> str:
        voters = " ".join(str(replica) for replica in self.voters)
        learners = " ".join(str(replica) for replica in self.learners)
        return f"voters {voters or 'none'}; learners {learners or 'none'}"


#: How a configuration is written into the payload of a ``CONFIG`` entry.
configuration_codec: Codec[Configuration] = Codec(Configuration, limit=1024 * 1024)


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """A proposal to found a history.

    Attributes:
        founders: the configuration of entry 1.
        proposer: who proposes, and gets the founders' votes in term 1.
        nonce: 16 random bytes that keep two attempts of equal content apart.
        entry: entry 1, sealed by the proposer.
        history: the id of the history, see `history_id`.
    """

    founders: Configuration
    proposer: Replica
    nonce: bytes
    entry: bytes
    history: bytes

    @staticmethod
    def history_id(group: bytes, entry: bytes, proposer: Replica, nonce: bytes) -> Digest:
        """The name of the history whose first entry this is: it commits to every founder."""
        tag = b"mosaik-history"
        who = proposer.peer + proposer.store + proposer.life.to_bytes(8, "big")
        return Digest.hash(tag, group, len(entry).to_bytes(8, "big"), entry, who, nonce)
