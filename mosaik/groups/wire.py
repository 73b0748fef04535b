"""What the two ends of a bond say to each other. Numbers and order are part of the protocol."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from mosaik.consensus import Envelope
from mosaik.primitives.codec import Codec

__all__ = [
    "PROTOCOL",
    "BondFormed",
    "BondMessage",
    "Departure",
    "EntryUpdate",
    "Forward",
    "ForwardAccepted",
    "ForwardRefused",
    "HandshakeEnd",
    "HandshakeStart",
    "Ping",
    "Pong",
    "Raft",
    "bond_codec",
    "end_codec",
    "start_codec",
]

#: The name under which bonds are dialled.
PROTOCOL: Final = "mosaik/groups/1"

#: Room for a consensus message of the largest size, and what is around it.
_MAX_MESSAGE: Final = 19 * 1024 * 1024
_MAX_HANDSHAKE: Final = 8 * 1024 * 1024

_Id = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Entry = Annotated[bytes, Meta(max_length=128 * 1024)]
_Entries = Annotated[tuple[_Entry, ...], Meta(max_length=256)]


class HandshakeStart(msgspec.Struct, frozen=True, array_like=True):
    """The initiator's first frame.

    Attributes:
        network, group: what it wants to bond in.
        proof: that it knows the group key, see `GroupKey.proof`.
        entry: its own signed entry.
    """

    network: _Id
    group: _Id
    proof: _Id
    entry: _Entry


class HandshakeEnd(msgspec.Struct, frozen=True, array_like=True):
    """The acceptor's answer, with its own proof and entry, and the entries of its other bonds."""

    proof: _Id
    entry: _Entry
    bonds: _Entries = ()


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The base of all that travels on a bond."""


class Ping(_Message, frozen=True, tag=1):
    """Are you there?"""


class Pong(_Message, frozen=True, tag=2):
    """Yes."""


class Departure(_Message, frozen=True, tag=3):
    """The sender ends the bond on purpose and will not come back at once."""

    reason: str = ""


class EntryUpdate(_Message, frozen=True, tag=4):
    """The sender's own signed entry has changed."""

    entry: _Entry


class BondFormed(_Message, frozen=True, tag=5):
    """The sender has bonded with the peer whose signed entry this is."""

    entry: _Entry


class Raft(_Message, frozen=True, tag=6):
    """A message of consensus."""

    envelope: Envelope


class Forward(_Message, frozen=True, tag=7):
    """Commands for the leader of ``term``, in order, as their node encoded them."""

    token: int
    term: int
    payloads: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=1024)]


class ForwardAccepted(_Message, frozen=True, tag=8):
    """They were appended at ``first`` and after, in ``term``."""

    token: int
    first: int
    term: int


class ForwardRefused(_Message, frozen=True, tag=9):
    """They were not appended and will not be."""

    token: int
    reason: str


BondMessage = (
    Ping
    | Pong
    | Departure
    | EntryUpdate
    | BondFormed
    | Raft
    | Forward
    | ForwardAccepted
    | ForwardRefused
)

bond_codec: Codec[BondMessage] = Codec(BondMessage, limit=_MAX_MESSAGE)
start_codec: Codec[HandshakeStart] = Codec(HandshakeStart, limit=_MAX_HANDSHAKE)
end_codec: Codec[HandshakeEnd] = Codec(HandshakeEnd, limit=_MAX_HANDSHAKE)
