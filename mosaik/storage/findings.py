"""What is wrong with a log: every bad entry by name, not the first only.

`StorageEnvironment.verify` stops at the first damage, which is all that a node needs to know. Whoever has to
decide what to do about it wants to see all of it, so this goes on behind each bad entry, and looks at a log
that a node could not even open because it ends before what was acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from mosaik.primitives.durable import Anchor
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import CorruptEntry, StorageUnavailable
from mosaik.storage.contract import Storage
from mosaik.storage.log import Look

__all__ = ["Finding", "find_damage", "find_damage_in_look", "read_past_damage"]

_CHUNK: Final = 1 << 20
_MISSING: Final = "it is missing"
#: Called now and then with the index that was reached.
Report = Callable[[int], None]


class Finding(msgspec.Struct, frozen=True):
    """A run of bad entries, all for the same reason.

    Attributes:
        first, last: their indices; 0 where it is no entry that is damaged.
        reason: what is wrong with them.
        suspect: nobody can have been told that they were written: they lie beyond the watermark.
    """

    first: int
    last: int
    reason: str
    suspect: bool = False

    def __str__(self) -> str:
        if not self.first:
            return self.reason
        one = self.first == self.last
        which = f"entry {self.first}" if one else f"entries {self.first} to {self.last}"
        return f"{which}: {self.reason}"


def find_damage(log: Storage[Any], report: Report | None = None) -> Iterator[Finding]:
    """Reads every entry of an opened log; gives each run of bad ones, ascending."""
    last = log.tail.index
    yield from _joined(_walk(log, last, last, report))
    if (suspect := log.suspect) is not None:
        yield _suspect(suspect.start, suspect.end)


def find_damage_in_look(look: Look, report: Report | None = None) -> Iterator[Finding]:
    """Reads every entry of a log that was only looked at, as far as it was acknowledged."""
    log, mark = look.log, look.mark
    good, suspect = log.tail.index, log.suspect
    last = max(good, mark.index)
    if look.trouble is not None:
        yield Finding(0, 0, f"the end of the log cannot be read: {look.trouble.reason}")
    if last > good:
        # Each of these was acknowledged, so each is asked for by its name.
        log.slot.state = msgspec.structs.replace(log.slot.state, tail=mark)
    yield from _joined(_walk(log, last, good, report))
    if log.anchor.index < mark.index and _is_other(log, mark):
        yield Finding(mark.index, mark.index, "it is not the entry that was acknowledged")
    if suspect is not None and suspect.end > last:
        yield _suspect(last + 1, suspect.end)


def _suspect(first: int, last: int) -> Finding:
    reason = "damaged beyond what was certainly acknowledged: a torn write, or rot"
    return Finding(first, last, reason, suspect=True)


def _is_other(log: Storage[Any], mark: Anchor) -> bool:
    try:
        entry = log.get(mark.index)
    except (CorruptEntry, StorageUnavailable):
        return False  # damaged, and named as such
    return entry is not None and (entry.term, entry.checksum) != (mark.term, mark.checksum)


def _walk(log: Storage[Any], last: int, recorded: int, report: Report | None) -> Iterator[Finding]:
    """Every bad entry up to ``last``, one by one; up to ``recorded`` the log's record knows their terms."""
    # What the next entry must continue; None behind a bad one, where nobody can tell.
    before: Anchor | None = log.anchor
    for found in read_past_damage(log, log.anchor.index + 1, last):
        if isinstance(found, Finding):
            yield found
            reached, before = found.last, None
        else:
            first = found[0]
            if before is not None and (
                first.previous != before.checksum or first.term < before.term
            ):
                yield Finding(first.index, first.index, "it does not continue the entry before it")
            for entry in found:
                if entry.index <= recorded and (said := log.term_at(entry.index)) != entry.term:
                    reason = f"it has term {entry.term}, the log's record says {said}"
                    yield Finding(entry.index, entry.index, reason)
            reached, before = found[-1].index, _end_of(found[-1])
        if report is not None:
            report(reached)


def read_past_damage(
    log: Storage[Any], first: int, last: int
) -> Iterator[list[Entry[Any]] | Finding]:
    """The entries from ``first`` to ``last``, in runs of about a megabyte; in the place of each that
    cannot be read, what is wrong with it."""
    while first <= last:
        found = _good_run(log, first, last)
        yield found
        first = (found.last if isinstance(found, Finding) else found[-1].index) + 1


def _end_of(entry: Entry[Any]) -> Anchor:
    return Anchor(entry.term, entry.index, entry.checksum)


def _good_run(log: Storage[Any], first: int, last: int) -> list[Entry[Any]] | Finding:
    """Entries that begin with ``first``, or what is wrong with that one."""
    try:
        entries = log.get_range(first, last, limit=_CHUNK)
    except CorruptEntry as error:
        if first < error.index <= last:
            return _good_run(log, first, error.index - 1)
        return _named(log, first, last, error)
    except StorageUnavailable as error:
        return _named(log, first, last, error)
    if not entries or entries[0].index != first:
        return Finding(first, first, _MISSING)
    return entries


def _named(
    log: Storage[Any], first: int, last: int, error: CorruptEntry | StorageUnavailable
) -> list[Entry[Any]] | Finding:
    if isinstance(error, CorruptEntry) and error.index == first:
        return Finding(first, first, error.reason)
    if last > first:
        # The engine, or a row's damaged header, named another one or none: is it this one?
        return _good_run(log, first, first)
    if isinstance(error, CorruptEntry) and error.index:
        missing = error.reason == _MISSING  # as rows say it of the first of several
        reason = _MISSING if missing else "it cannot be reached behind the damage before it"
        return Finding(first, first, reason)
    reason = error.reason if isinstance(error, CorruptEntry) else str(error)
    return Finding(first, first, f"it cannot be read: {reason}")


def _joined(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Joins neighbours that are bad for the same reason."""
    held: Finding | None = None
    for each in findings:
        if held is not None and each.first == held.last + 1 and each.reason == held.reason:
            held = Finding(held.first, each.last, held.reason)
            continue
        if held is not None:
            yield held
        held = each
    if held is not None:
        yield held
