"""What a log keeps: its hard state, and the one shape in which it changes.

Consensus decides these values and storage keeps them; neither knows the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from mosaik.primitives.codec import Codec
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.entry import Entry
from mosaik.primitives.membership import Attempt, Replica

__all__ = [
    "DISSOLVED_KEPT",
    "Anchor",
    "HardState",
    "SnapshotRef",
    "WriteBatch",
    "hard_state_codec",
]

C = TypeVar("C")

#: How many dissolved histories a store remembers, for laggards.
DISSOLVED_KEPT: Final = 64


class Anchor(NamedTuple):
    """The place from which a log continues: the last entry that it does not hold.

    Attributes:
        term, index: its cursor; (0, 0) before entry 1.
        checksum: its chain value, which the next entry continues.
    """

    term: int = 0
    index: int = 0  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    checksum: int = 0

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.term, self.index)


class SnapshotRef(msgspec.Struct, frozen=True, array_like=True):
    """Names a snapshot of the state machine.

    Attributes:
        anchor: the last entry it contains.
        name: the file that holds it, in the node's data directory.
        size: its length in bytes.
        digest: BLAKE3 of its content.
    """

    anchor: Anchor
    name: str
    size: int
    digest: bytes


class HardState(msgspec.Struct, frozen=True, array_like=True):
    """Everything a replica must remember besides the entries, and nothing it can derive by scanning.

    Attributes:
        term: the current term.
        voted_for: who got this replica's vote in that term.
        store: the store's id, 16 random bytes; empty only before the first write.
        life: how often this store was erased lawfully. Never goes back.
        history: the history this life is bound to; empty while pristine.
        attempt: the genesis attempt that made ``history``, when this replica accepted one.
        configs: indices of the two newest ``CONFIG`` entries, oldest first.
        founded: index of the ``FOUNDED`` entry, 0 without one.
        first_command: index of the first ``COMMAND`` entry, 0 without one.
        dissolve: index of the ``DISSOLVE`` entry, 0 without one.
        dissolved: histories left through a committed ``DISSOLVE``, with where they went (empty: nowhere).
        quarantine: a peer proved that this store was rolled back; it takes no part any more.
        floors: the highest (term, match) seen from each replica.
    """

    term: int = 0
    voted_for: Replica | None = None
    store: bytes = b""
    life: int = 0
    history: bytes = b""
    attempt: Attempt | None = None
    configs: tuple[int, ...] = ()
    founded: int = 0
    first_command: int = 0
    dissolve: int = 0
    dissolved: tuple[tuple[bytes, bytes], ...] = ()
    quarantine: bool = False
    floors: tuple[tuple[Replica, Cursor], ...] = ()


hard_state_codec: Codec[HardState] = Codec(HardState, limit=4 * 1024 * 1024)


class WriteBatch(msgspec.Struct, Generic[C], frozen=True):
    """One atomic, synced change of a log; the parts are applied in the order in which they stand here.

    Attributes:
        hard_state: replaces the hard state.
        reset_to: drops every entry; the log continues after this anchor.
        truncate_from: removes every entry at or above this index.
        entries: are appended; they continue what is then the last.
        prune_to: removes every entry at or below this index.
        snapshot: is recorded as the newest snapshot.
    """

    hard_state: HardState | None = None
    reset_to: Anchor | None = None
    truncate_from: int | None = None
    entries: Sequence[Entry[C]] = ()
    prune_to: int | None = None
    snapshot: SnapshotRef | None = None

    @property
    def is_empty(self) -> bool:
        return (
            self.hard_state is None
            and self.reset_to is None
            and self.truncate_from is None
            and not self.entries
            and self.prune_to is None
            and self.snapshot is None
        )


#: For annotations where the command type does not matter.
AnyBatch = WriteBatch[Any]
