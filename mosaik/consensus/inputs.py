"""Everything that can happen to a replica. `mosaik.consensus.step` takes these and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mosaik.consensus.messages import Envelope
from mosaik.primitives.durable import Anchor, HardState
from mosaik.primitives.entry import Entry
from mosaik.primitives.membership import Configuration

__all__ = [
    "Bonded",
    "Fetched",
    "Input",
    "Leave",
    "Persisted",
    "Read",
    "Received",
    "Recovered",
    "Submit",
    "Transfer",
    "Unbonded",
]


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What the store held when it was opened; where a replica starts from.

    Attributes:
        peer: this node's id.
        hard_state: as it was last written; its ``store`` is set.
        anchor: where the log begins.
        tail: where it ends.
        term_starts: ``(first index, term)`` of each run of equal terms.
        configurations: ``(index, configuration)`` of the entries that ``hard_state.configs`` names.
        newest: some of the newest entries, ending at ``tail``; may be empty.
        suspect: the last index of a damaged tail beyond ``tail``; 0 without one.
        suspect_term: no acknowledged entry of that tail was of a higher term.
    """

    peer: bytes
    hard_state: HardState
    anchor: Anchor = Anchor()
    tail: Anchor = Anchor()
    term_starts: Sequence[tuple[int, int]] = ()
    configurations: Sequence[tuple[int, Configuration]] = ()
    newest: Sequence[Entry[Any]] = ()
    suspect: int = 0
    suspect_term: int = 0


class Received(msgspec.Struct, frozen=True, gc=False):
    """A message arrived over the bond of ``envelope.sender.peer`` (the driver has checked that)."""

    envelope: Envelope


class Submit(msgspec.Struct, frozen=True, gc=False):
    """Commands to append, in order and without others between them; answered by `Accepted` or
    `Refused` with the same token."""

    token: int
    payloads: Sequence[bytes]


class Persisted(msgspec.Struct, frozen=True, gc=False):
    """The write of this sequence is durable."""

    sequence: int


class Fetched(msgspec.Struct, frozen=True, gc=False):
    """Answers a `Fetch`: entries from ``first`` on; none when they are gone."""

    first: int
    entries: Sequence[Entry[Any]]


class Bonded(msgspec.Struct, frozen=True):
    """A peer can be spoken to."""

    peer: bytes


class Unbonded(msgspec.Struct, frozen=True):
    """A peer cannot be spoken to any more.

    Attributes:
        died: its side of the connection was closed, as a dying process's is; not a time-out.
    """

    peer: bytes
    died: bool = False


class Read(msgspec.Struct, frozen=True, gc=False):
    """Asks for an index at which a read is linearizable; answered by `ReadReady` or `Refused`."""

    token: int


class Transfer(msgspec.Struct, frozen=True):
    """Hand leadership over, to ``peer`` or to the most advanced voter."""

    token: int
    peer: bytes | None = None


class Leave(msgspec.Struct, frozen=True):
    """Remove ``replica_of`` (this replica, when None) from the configuration for good."""

    token: int
    replica_of: bytes | None = None
    end_history: bool = False


Input = Received | Submit | Persisted | Fetched | Bonded | Unbonded | Read | Transfer | Leave
