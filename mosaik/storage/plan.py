"""From a batch to an engine's change: everything about a write that can be decided before it begins.

Theory of operation
-------------------
`plan` takes a log's state and a batch and gives a `Change` for the engine and the state that holds once
it is committed. It only reads. Whatever is wrong with a batch is therefore found while nothing has been
written, and a group's bad batch cannot disturb another's (rule 2).

The batch that matters is the one that only appends: one pass over its entries that checks that they
continue the log, one join, and no record unless a term begins. Checksums are not computed again, since
the entries were verified when they arrived or have just been sealed; that each names its
predecessor's checksum is compared.

Truncation and pruning happen inside rows. Truncation puts the shortened row anew in the same
transaction. Pruning moves the anchor, which is what readers go by, and removes the rows that lie
wholly below it.

A damaged tail beyond the watermark is *suspect* (rule 5). The first batch that touches the log removes
the damaged bytes, but forgets the suspicion only when the batch truncates or resets, or once the log is
as long again: until then the record carries it, since this replica may have acknowledged what is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from mosaik.primitives.cursor import IndexRange
from mosaik.primitives.durable import Anchor, HardState, WriteBatch
from mosaik.primitives.entry import Damage, Entry
from mosaik.primitives.errors import CorruptEntry, InvalidBatch
from mosaik.storage.contract import LogIdentity
from mosaik.storage.engine import Change
from mosaik.storage.record import log_record
from mosaik.storage.rows import Found, ReadRows, Row, find, pack
from mosaik.storage.state import LogState, starts_before, starts_from

__all__ = ["STORE_ID_SIZE", "Plan", "plan"]

STORE_ID_SIZE: Final = 16
_MAX_INDEX: Final = (1 << 63) - 1


class Plan(NamedTuple):
    """A batch that fits.

    Attributes:
        change: what the engine is to do.
        after: the state once that is committed.
        cut: the last entry of the old log that remains after some were removed from its end; None when
            none were.
    """

    change: Change
    after: LogState
    cut: Anchor | None


def plan(
    batch: WriteBatch[Any],
    state: LogState,
    rows: ReadRows,
    *,
    store: bytes,
    identity: LogIdentity,
    url: str = "",
) -> Plan:
    """Checks a batch and says what it does.

    Raises:
        InvalidBatch: it does not fit the log.
        CorruptEntry: an entry that must be read to cut the log there is damaged.
    """
    try:
        draft = _Draft(state, rows)
        if batch.hard_state is not None:
            draft.replace(batch.hard_state, emptied=batch.reset_to is not None)
        if batch.reset_to is not None:
            draft.reset(batch.reset_to)
        if batch.truncate_from is not None:
            draft.truncate(batch.truncate_from)
        if batch.entries:
            draft.append(batch.entries)
        if batch.prune_to is not None:
            draft.prune(batch.prune_to)
        if batch.snapshot is not None and batch.snapshot != state.snapshot:
            draft.snapshot = batch.snapshot
            draft.recorded = False
    except _Misfit as misfit:
        raise InvalidBatch(
            f"a batch for group {identity.group[:5].hex()} does not fit its log, nothing was written: "
            f"{misfit}",
            url=url,
        ) from None
    except Damage as damage:
        raise CorruptEntry(damage.index, damage.reason, url=url) from damage
    after = draft.state()
    meta = None if draft.recorded else log_record.encode(after.record(store, identity))
    return Plan(draft.change(identity.group, meta), after, draft.cut)


class _Misfit(Exception):
    """Why a batch does not fit."""


class _Draft:
    """A log as it will be, part by part of the batch."""

    __slots__ = (
        "_below",
        "_drop",
        "_entries",
        "_from",
        "_read",
        "_rows",
        "anchor",
        "cut",
        "damaged",
        "hard_state",
        "recorded",
        "snapshot",
        "starts",
        "suspect",
        "suspect_term",
        "tail",
        "time",
    )

    def __init__(self, state: LogState, rows: ReadRows) -> None:
        self.hard_state = state.hard_state
        self.anchor = state.anchor
        self.tail = state.tail
        self.time = state.tail_time
        self.starts = state.term_starts
        self.snapshot = state.snapshot
        self.suspect = state.suspect
        self.suspect_term = state.suspect_term
        self.damaged = state.damaged
        self.recorded = True
        self.cut: Anchor | None = None
        self._read = rows
        self._drop = False
        self._from: int | None = None
        self._below: int | None = None
        self._rows: list[Row] = []
        self._entries: Sequence[Entry[Any]] = ()

    # -- the parts, in the order of a batch ---------------------------------------------------------

    def replace(self, new: HardState, *, emptied: bool) -> None:
        """The hard state, by the rules that a replica must never break."""
        old = self.hard_state
        if new == old:
            return
        if len(new.store) != STORE_ID_SIZE:
            raise _Misfit(
                "its hard state has no store id; derive it from the log's, as with "
                "msgspec.structs.replace(log.hard_state, term=...)"
            )
        if new.store == old.store:
            _check_life(old, new)
        reborn = (new.store, new.life) != (old.store, old.life)
        if reborn and not emptied and (self.tail.index or self.suspect):
            raise _Misfit("a new life begins with an empty log: reset_to is missing")
        self.hard_state = new
        self.recorded = False

    def reset(self, anchor: Anchor) -> None:
        """Forgets every entry."""
        if not 0 <= anchor.index < _MAX_INDEX or anchor.term < 0:
            raise _Misfit(f"reset_to {anchor} is not a position")
        self._drop = True
        self.anchor = self.tail = anchor
        # Not `anchor`: until the transaction is done the log holds another entry at its index.
        self.cut = Anchor()
        self.time = 0
        self.starts = ()
        self.suspect = None
        self.damaged = False
        self.recorded = False

    def truncate(self, at: int) -> None:
        """Removes the entries from ``at`` on; at or below the anchor, all there are."""
        if at < 0:
            raise _Misfit(f"truncate_from {at} is not an index")
        beyond = at > self.tail.index
        if beyond and not (self.suspect and at == self.suspect.start):
            return
        self._cut_rows(at)
        if self.suspect is not None:
            self.suspect = None
            self.recorded = False

    def append(self, entries: Sequence[Entry[Any]]) -> None:
        """Adds entries that continue the log."""
        if self.damaged:
            self._cut_rows(self.tail.index + 1)
        sealed, starts = self._follow(entries)
        self._rows.extend(pack(entries, sealed))
        self._entries = entries
        last = entries[-1]
        self.tail = Anchor(last.term, last.index, last.checksum)
        self.time = last.time_ms
        if starts:
            self.starts = (*self.starts, *starts)
            self.recorded = False
        if self.suspect is not None:
            end = self.suspect.end
            self.suspect = IndexRange(last.index + 1, end) if last.index < end else None
            self.recorded = False

    def prune(self, up_to: int) -> None:
        """Removes the entries up to ``up_to``; beyond the end, all there are."""
        if up_to < 0:
            raise _Misfit(f"prune_to {up_to} is not an index")
        if up_to <= self.anchor.index:
            return
        if self.damaged:
            self._cut_rows(self.tail.index + 1)
        self.recorded = False
        if up_to >= self.tail.index:
            self.anchor = self.tail
            self._below = self.tail.index + 1
            self.starts = ()
            self._rows.clear()
            return
        term, checksum = self._boundary(up_to)
        self.anchor = Anchor(term, up_to, checksum)
        self.starts = starts_from(self.starts, up_to + 1)
        self._rows = [row for row in self._rows if row.last > up_to]

    # -- the outcome --------------------------------------------------------------------------------

    def state(self) -> LogState:
        return LogState(
            hard_state=self.hard_state,
            anchor=self.anchor,
            tail=self.tail,
            tail_time=self.time,
            term_starts=self.starts,
            snapshot=self.snapshot,
            suspect=self.suspect,
            suspect_term=self.suspect_term if self.suspect is not None else 0,
            damaged=self.damaged,
        )

    def change(self, log: bytes, meta: bytes | None) -> Change:
        return Change(
            log=log,
            drop=self._drop,
            delete_from=self._from,
            delete_below=self._below,
            rows=[(row.first, row.blob) for row in self._rows],
            meta=meta,
        )

    # -- how ----------------------------------------------------------------------------------------

    def _cut_rows(self, at: int) -> None:
        """Removes rows and the end of a row, damaged bytes included."""
        if at <= self.anchor.index + 1:
            self._from = 0
            self.tail = self.anchor
            self.time = 0
        else:
            found = find(self._read, at - 1)
            # The row that is cut is deleted and put anew, so that no engine need order the two.
            self._from = found.first
            self._rows.append(found.row())
            entry = found.entry
            self.tail = Anchor(entry.term, entry.index, entry.checksum)
            self.time = entry.time_ms
        if not self._drop:
            self.cut = self.tail
        self.damaged = False
        starts = starts_before(self.starts, self.tail.index + 1)
        if starts != self.starts:
            self.starts = starts
            self.recorded = False

    def _follow(self, entries: Sequence[Entry[Any]]) -> tuple[list[bytes], list[tuple[int, int]]]:
        """Checks that the entries continue the log; gives their bytes and the terms that start.

        Column by column: in a large batch that costs a third of what a loop over the entries would,
        and the loop is left for the batch that does not fit.
        """
        last = self.tail
        after = last.index + 1
        indices = [entry.index for entry in entries]
        checksums = [entry.checksum for entry in entries]
        previous = [entry.previous for entry in entries]
        terms = [entry.term for entry in entries]
        times = [entry.time_ms for entry in entries]
        if (
            indices != list(range(after, after + len(indices)))
            or previous != [last.checksum, *checksums[:-1]]
            or _falls(last.term, terms)
            or _falls(self.time, times)
        ):
            raise _Misfit(_why(entries, last, self.time))
        # An empty log has no entry whose term could run on, even if the anchor has the same.
        term = last.term if self.starts else None
        starts: list[tuple[int, int]] = []
        if terms[0] != term or terms[-1] != term:
            for index, entry_term in zip(indices, terms, strict=True):
                if entry_term != term:
                    term = entry_term
                    starts.append((index, term))
        return [entry.sealed for entry in entries], starts

    def _boundary(self, up_to: int) -> tuple[int, int]:
        """Term and checksum of the last pruned entry; also says which rows lie wholly below."""
        entries = self._entries
        if entries and up_to >= entries[0].index:
            self._below = entries[0].index
            entry = entries[up_to - entries[0].index]
            return entry.term, entry.checksum
        found: Found = find(self._read, up_to)
        entry = found.entry
        wholly = found.end == len(found.blob) or any(row.last == up_to for row in self._rows)
        self._below = up_to + 1 if wholly else found.first
        return entry.term, entry.checksum


def _check_life(old: HardState, new: HardState) -> None:
    """One store: its life never goes back, and what a life has said it does not take back."""
    if new.life < old.life:
        raise _Misfit(f"life goes back from {old.life} to {new.life}")
    if new.life > old.life:
        return
    if old.history and new.history != old.history:
        raise _Misfit(f"life {old.life} is bound to history {old.history[:5].hex()} already")
    if new.history != old.history:
        return  # binding a pristine life; terms are counted within a history
    if new.term < old.term:
        raise _Misfit(f"the term goes back from {old.term} to {new.term}")
    if new.term == old.term and old.voted_for not in (None, new.voted_for):
        raise _Misfit(f"a second vote in term {old.term}: {new.voted_for} after {old.voted_for}")


def _falls(before: int, column: list[int]) -> bool:
    """Whether a column goes back anywhere; sorting what is in order costs one pass."""
    return column[0] < before or sorted(column) != column


def _why(entries: Sequence[Entry[Any]], tail: Anchor, time: int) -> str:
    """What is wrong with the first entry that does not continue the log."""
    term, index, checksum = tail
    for entry in entries:
        index += 1
        if entry.index != index:
            return f"entry {entry.index} cannot follow {index - 1}"
        if entry.previous != checksum:
            return (
                f"entry {index} continues an entry with checksum {entry.previous:08x}; "
                f"the log's has {checksum:08x}"
            )
        if entry.term < term:
            return f"entry {index} has term {entry.term}, after term {term}"
        if entry.time_ms < time:
            return f"entry {index} is of {entry.time_ms} ms, after {time} ms"
        term, time, checksum = entry.term, entry.time_ms, entry.checksum
    return "it does not continue the log"
