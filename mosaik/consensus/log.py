"""The log as consensus sees it: where it begins and ends, whose terms it holds, and a bounded tail.

Theory of operation
-------------------
Entries are appended and truncated here at once; the disk follows. Three marks say how far:

* ``last``    the newest entry in memory;
* ``handed``  the newest that was given to a write (in flight or durable), minus what was truncated;
* ``stable``  the newest that is durable.

Changes that no write has taken yet are gathered as *one* pending batch: an entry that was appended
and truncated before any write took it never reaches the disk, and several truncations merge into the
lowest. `take` hands the batch over; `settle` hears that it is durable. A truncation that passes below
an in-flight write lowers what that write will count for, so a late completion never declares durable
an index that was meanwhile cut.

Only a bounded tail of entries is kept; older ones are read from the store. Terms are answered from
``term_starts`` for the whole log, and checksums for the tail only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from mosaik.primitives.cursor import Cursor
from mosaik.primitives.durable import Anchor
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import InternalError

__all__ = ["Log"]


class Log:
    """An in-memory view of a durable log."""

    def __init__(
        self,
        anchor: Anchor,
        tail: Anchor,
        term_starts: Sequence[tuple[int, int]],
        newest: Sequence[Entry[Any]],
        *,
        keep_entries: int,
        keep_bytes: int,
    ) -> None:
        self.anchor = anchor
        self.last = tail
        self.stable = tail.index
        self.handed = tail.index
        self.last_time_ms = newest[-1].time_ms if newest else 0
        self._keep_entries = keep_entries
        self._keep_bytes = keep_bytes
        self._start_indices = [index for index, _ in term_starts]
        self._start_terms = [term for _, term in term_starts]
        self._tail: list[Entry[Any]] = list(newest)
        self._tail_bytes = sum(len(entry.sealed) for entry in newest)
        # The pending batch: what the next write will carry.
        self._reset_to: Anchor | None = None
        self._truncate_from: int | None = None
        self._first_pending: int = tail.index + 1
        self._flight_last: int | None = None

    # -- reading ------------------------------------------------------------------------------------

    @property
    def last_index(self) -> int:
        return self.last.index

    @property
    def last_cursor(self) -> Cursor:
        return Cursor(self.last.term, self.last.index)

    def term_at(self, index: int) -> int | None:
        """The term of an entry or of the anchor; 0 for index 0; None for what is gone or not there."""
        if index == self.anchor.index:
            return self.anchor.term
        if index == 0:
            return 0
        if not self.anchor.index < index <= self.last.index:
            return None
        at = bisect_right(self._start_indices, index) - 1
        return self._start_terms[at] if at >= 0 else None

    def first_of_term_at(self, index: int) -> int:
        """The first index of the run of equal terms that ``index`` is in."""
        at = bisect_right(self._start_indices, index) - 1
        return self._start_indices[at] if at >= 0 else self.anchor.index + 1

    def last_of_terms_up_to(self, term: int) -> int:
        """The last index whose term is at most ``term``; where a conflict may end (thesis §3.5)."""
        at = bisect_right(self._start_terms, term)
        if at < len(self._start_indices):
            return self._start_indices[at] - 1
        return self.last.index

    def checksum_at(self, index: int) -> int | None:
        """The chain value at an index, where memory holds it."""
        if index == self.last.index:
            return self.last.checksum
        if index == self.anchor.index:
            return self.anchor.checksum
        entry = self.entry(index)
        return entry.checksum if entry is not None else None

    def entry(self, index: int) -> Entry[Any] | None:
        """One entry, if it is in the tail."""
        if not self._tail:
            return None
        at = index - self._tail[0].index
        return self._tail[at] if 0 <= at < len(self._tail) else None

    def entries(self, first: int, last: int) -> list[Entry[Any]] | None:
        """The entries from ``first`` to ``last``; None when not all of them are in the tail."""
        if last < first:
            return []
        if not self._tail or first < self._tail[0].index or last > self.last.index:
            return None
        start = first - self._tail[0].index
        return self._tail[start : start + last - first + 1]

    def run(self, first: int, limit: int) -> list[Entry[Any]] | None:
        """Entries from ``first`` on, at most ``limit`` bytes but at least one; None when it is not in
        the tail."""
        if not self._tail or first < self._tail[0].index:
            return None
        start = first - self._tail[0].index
        size, end = 0, start
        tail = self._tail
        while end < len(tail):
            size += len(tail[end].sealed)
            if size > limit and end > start:
                break
            end += 1
        return tail[start:end]

    # -- changing -----------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry[Any]]) -> None:
        """Adds entries that continue the last one."""
        if not entries:
            return
        first = entries[0]
        if first.index != self.last.index + 1 or first.previous != self.last.checksum:
            raise InternalError(f"{first} does not continue a log that ends at {self.last}")
        for entry in entries:
            if not self._start_terms or entry.term != self._start_terms[-1]:
                self._start_indices.append(entry.index)
                self._start_terms.append(entry.term)
        self._tail.extend(entries)
        self._tail_bytes += sum([len(entry.sealed) for entry in entries])
        end = entries[-1]
        self.last = Anchor(end.term, end.index, end.checksum)
        self.last_time_ms = max(self.last_time_ms, end.time_ms)

    def truncate(self, at: int, before: Anchor) -> None:
        """Removes every entry from ``at`` on; ``before`` is the entry that then ends the log."""
        if at > self.last.index:
            return
        if at <= self.anchor.index or before.index != at - 1:
            raise InternalError(f"cannot truncate at {at} a log that begins at {self.anchor}")
        while self._start_indices and self._start_indices[-1] >= at:
            self._start_indices.pop()
            self._start_terms.pop()
        if self._tail:
            keep = max(0, at - self._tail[0].index)
            self._tail_bytes -= sum(len(entry.sealed) for entry in self._tail[keep:])
            del self._tail[keep:]
        self.last = before
        self.last_time_ms = self._tail[-1].time_ms if self._tail else 0
        if at <= self.handed:
            self._truncate_from = min(at, self._truncate_from or at)
            self.handed = at - 1
        if self._flight_last is not None:
            self._flight_last = min(self._flight_last, at - 1)
        self.stable = min(self.stable, at - 1)
        self._first_pending = min(self._first_pending, at)

    def discard_damaged(self) -> None:
        """Asks the next write to remove whatever the disk holds beyond the last good entry."""
        at = self.last.index + 1
        self._truncate_from = min(at, self._truncate_from or at)

    def reset(self, anchor: Anchor) -> None:
        """Drops everything; the log continues after ``anchor``."""
        self.anchor = self.last = anchor
        self.stable = self.handed = anchor.index
        self.last_time_ms = 0
        self._start_indices.clear()
        self._start_terms.clear()
        self._tail.clear()
        self._tail_bytes = 0
        self._reset_to = anchor
        self._truncate_from = None
        self._first_pending = anchor.index + 1
        if self._flight_last is not None:
            self._flight_last = anchor.index

    # -- the disk -----------------------------------------------------------------------------------

    @property
    def has_pending(self) -> bool:
        """Whether a write would have anything to carry."""
        return (
            self._reset_to is not None
            or self._truncate_from is not None
            or self.last.index >= self._first_pending
        )

    def take(self, limit: int) -> tuple[Anchor | None, int | None, list[Entry[Any]]]:
        """What the next write carries: a reset, a truncation, and up to ``limit`` bytes of entries.

        The caller must report the write's completion to `settle` before it takes the next.
        """
        entries: list[Entry[Any]] = []
        if self.last.index >= self._first_pending:
            found = self.run(self._first_pending, limit)
            if found is None:
                raise InternalError(f"unwritten entry {self._first_pending} left memory")
            entries = found
        reset_to, truncate_from = self._reset_to, self._truncate_from
        self._reset_to = self._truncate_from = None
        if entries:
            self.handed = entries[-1].index
            self._first_pending = self.handed + 1
        self._flight_last = self.handed
        return reset_to, truncate_from, entries

    def settle(self) -> None:
        """The write that was taken is durable."""
        if self._flight_last is not None:
            self.stable = max(self.stable, self._flight_last)
            self._flight_last = None
        self._trim()

    def _trim(self) -> None:
        """Forgets old entries; in steps of a quarter, so that the cost is spread."""
        if len(self._tail) <= self._keep_entries and self._tail_bytes <= self._keep_bytes:
            return
        target_entries = self._keep_entries * 3 // 4
        target_bytes = self._keep_bytes * 3 // 4
        drop, size = 0, self._tail_bytes
        while drop < len(self._tail) - 1 and self._tail[drop].index <= self.stable:
            if len(self._tail) - drop <= target_entries and size <= target_bytes:
                break
            size -= len(self._tail[drop].sealed)
            drop += 1
        del self._tail[:drop]
        self._tail_bytes = size
