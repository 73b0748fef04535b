"""What a log looks like when it is opened: its last row is read, and the watermark's. Nothing is scanned.

The engine has recovered by its own lights by now. What is checked here is what it may not tell: that
the log reaches as far as was acknowledged, and holds there what was acknowledged. Up to the watermark
anything else is `CorruptEntry`. Beyond it a write that was under way when the power failed and rot look
alike, so a damaged end is *suspect*: kept, not served, and reported. Damage further down is found when
it is read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mosaik.primitives.cursor import IndexRange
from mosaik.primitives.durable import Anchor
from mosaik.primitives.entry import Damage, Entry
from mosaik.primitives.errors import CorruptEntry
from mosaik.storage.record import LogRecord
from mosaik.storage.rows import ReadRows, find, good_prefix
from mosaik.storage.state import LogState, starts_before

__all__ = ["recover", "unrecovered"]


class _End(NamedTuple):
    """Where the good part of a log ends, and the greatest index that the engine may have held."""

    last: Entry[Any] | None
    reach: int


def recover(
    record: LogRecord,
    rows: ReadRows,
    last_row: tuple[int, bytes] | None,
    mark: Anchor,
    *,
    url: str,
) -> LogState:
    """The state of a log from its record, its end and the watermark.

    Raises:
        CorruptEntry: an acknowledged entry is missing or is not what was acknowledged.
    """
    anchor = record.anchor
    end = _end(rows, last_row, anchor)
    tail = _anchor_of(end.last) if end.last else anchor
    # A term that the record knows has an entry with which it began.
    reach = max(end.reach, record.suspect, record.term_starts[-1][0] if record.term_starts else 0)
    _check_mark(mark, tail, anchor, rows, url)
    starts = starts_before(record.term_starts, tail.index + 1)
    if end.last and (not starts or starts[-1][1] != tail.term):
        raise CorruptEntry(tail.index, "the log's record knows no such term there", url=url)
    return LogState(
        hard_state=record.hard_state,
        anchor=anchor,
        tail=tail,
        tail_time=end.last.time_ms if end.last else 0,
        term_starts=starts,
        snapshot=record.snapshot,
        suspect=IndexRange(tail.index + 1, reach) if reach > tail.index else None,
        suspect_term=max(tail.term, record.suspect_term, _last_term(record)),
        damaged=max(end.reach, _last_start(record)) > tail.index,
    )


def unrecovered(record: LogRecord) -> LogState:
    """What a log's record alone says, when its end cannot be read: no entry counts as good."""
    return LogState(
        hard_state=record.hard_state,
        anchor=record.anchor,
        tail=record.anchor,
        snapshot=record.snapshot,
    )


def _last_start(record: LogRecord) -> int:
    return record.term_starts[-1][0] if record.term_starts else 0


def _last_term(record: LogRecord) -> int:
    """The term of the last entry that was acknowledged: the first of each term is written with the record."""
    return record.term_starts[-1][1] if record.term_starts else record.anchor.term


def _anchor_of(entry: Entry[Any]) -> Anchor:
    return Anchor(entry.term, entry.index, entry.checksum)


def _end(rows: ReadRows, last_row: tuple[int, bytes] | None, anchor: Anchor) -> _End:
    """Goes back from the last row to the first that has a good entry; nearly always that is the last."""
    row, reach = last_row, 0
    while row is not None:
        first, blob = row
        good, held = good_prefix(first, blob)
        reach = max(reach, held)
        if good is not None and good.index > anchor.index:
            return _End(good, reach)
        before = max(first - 1, 0)
        if before <= anchor.index:
            break
        row = next((r for r in rows(before, before, 1)[:1] if r[0] < first), None)
    return _End(None, reach)


def _check_mark(mark: Anchor, tail: Anchor, anchor: Anchor, rows: ReadRows, url: str) -> None:
    if mark.index < anchor.index or not mark.index:
        return
    if tail.index < mark.index:
        raise CorruptEntry(
            tail.index + 1,
            f"it is missing or damaged, and {mark.index} entries were acknowledged; restore the "
            f"store from a backup that has them, or remove it and let this node join as a new replica",
            url=url,
        )
    held = anchor if mark.index == anchor.index else tail
    if mark.index != held.index:
        try:
            held = _anchor_of(find(rows, mark.index).entry)
        except Damage as damage:
            raise CorruptEntry(damage.index, damage.reason, url=url) from damage
    if held != mark:
        raise CorruptEntry(mark.index, "it is not the entry that was acknowledged", url=url)
