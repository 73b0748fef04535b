"""What is known of a log without reading it: kept in memory, rebuilt at opening without a scan."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import msgspec

from mosaik.primitives.cursor import IndexRange
from mosaik.primitives.durable import Anchor, HardState, SnapshotRef
from mosaik.storage.contract import LogIdentity
from mosaik.storage.record import LogRecord

__all__ = ["LogState", "starts_before", "starts_from", "term_at"]

TermStarts = tuple[tuple[int, int], ...]
_MAX: Final = 1 << 63


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """A log between two batches.

    Attributes:
        hard_state, anchor, tail, term_starts, snapshot: see `Storage`.
        tail_time: when the last entry was sealed, in its leader's milliseconds; 0 when unknown.
        suspect: the range that is damaged beyond the watermark.
        suspect_term: no entry of it was of a higher term; 0 without one.
        damaged: the rows still hold damaged bytes beyond ``tail``; the next batch removes them.
    """

    hard_state: HardState
    anchor: Anchor = Anchor()
    tail: Anchor = Anchor()
    tail_time: int = 0
    term_starts: TermStarts = ()
    snapshot: SnapshotRef | None = None
    suspect: IndexRange | None = None
    suspect_term: int = 0
    damaged: bool = False

    def record(self, store: bytes, identity: LogIdentity) -> LogRecord:
        """What of this is stored; the tail is found in the last row."""
        return LogRecord(
            store=store,
            identity=identity,
            hard_state=self.hard_state,
            anchor=self.anchor,
            term_starts=self.term_starts,
            snapshot=self.snapshot,
            suspect=self.suspect.end if self.suspect else 0,
            suspect_term=self.suspect_term if self.suspect else 0,
        )


def term_at(state: LogState, index: int) -> int | None:
    """The term of an entry, of the anchor, or of index 0; None for any other index."""
    if index == 0:
        return 0
    if index == state.anchor.index:
        return state.anchor.term
    if not state.anchor.index < index <= state.tail.index:
        return None
    position = bisect_right(state.term_starts, (index, _MAX)) - 1
    return state.term_starts[position][1]


def starts_before(starts: TermStarts, index: int) -> TermStarts:
    """The term starts of the entries below ``index``."""
    return starts[: bisect_right(starts, (index, -1))]


def starts_from(starts: TermStarts, index: int) -> TermStarts:
    """The term starts of the entries from ``index`` on, where there is at least one."""
    position = bisect_right(starts, (index, _MAX)) - 1
    return ((index, starts[position][1]), *starts[position + 1 :])
