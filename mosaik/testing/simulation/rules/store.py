"""A log as a plain list, with the validation that the storage contract asks of every store."""

from __future__ import annotations

from typing import Any

from mosaik.consensus import Recovered
from mosaik.primitives.durable import Anchor, HardState, WriteBatch
from mosaik.primitives.entry import Entry, EntryKind
from mosaik.primitives.membership import Configuration, configuration_codec
from mosaik.storage.contract import Storage
from mosaik.testing.simulation.rules.violation import Property, Violation

__all__ = ["PlainStore"]


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise Violation(Property.STORE_CONTRACT, detail)


class PlainStore:
    """What a disk holds. `apply` is atomic: a batch that does not fit changes nothing."""

    def __init__(self, store_id: bytes) -> None:
        self.hard_state = HardState(store=store_id)
        self.anchor = Anchor()
        self.entries: list[Entry[Any]] = []
        #: The last index of a damaged tail; 0 without one.
        self.suspect = 0
        self.suspect_term = 0

    @classmethod
    def read(cls, log: Storage[Any]) -> PlainStore:
        """All that a real log holds."""
        store = cls(log.hard_state.store)
        store.hard_state, store.anchor = log.hard_state, log.anchor
        first, last = log.anchor.index + 1, log.tail.index
        while first <= last:
            found = log.get_range(first, last)
            _require(bool(found) and found[0].index == first, f"no entry at {first} of {last}")
            store.entries.extend(found)
            first = found[-1].index + 1
        store.suspect = log.suspect.end if log.suspect is not None else 0
        store.suspect_term = log.suspect_term
        return store

    def configurations(self) -> list[Configuration]:
        """The ones that the hard state names."""
        named = [self.entry(index) for index in self.hard_state.configs]
        return [configuration_codec.decode(e.payload) for e in named if e is not None]

    def same_as(self, other: PlainStore) -> bool:
        """Whether both hold the same."""
        return (
            self.hard_state == other.hard_state
            and self.anchor == other.anchor
            and [entry.sealed for entry in self.entries]
            == [entry.sealed for entry in other.entries]
        )

    def __str__(self) -> str:
        hard = self.hard_state
        vote = f", vote {hard.voted_for.peer[:3].hex()}" if hard.voted_for is not None else ""
        suspect = f", suspect up to {self.suspect}" if self.suspect else ""
        return (
            f"{hard.store[:3].hex()}.{hard.life} {hard.history[:3].hex()} term {hard.term}{vote}, "
            f"{self.anchor.index}..{self.last} #{self.tail.checksum:08x}{suspect}"
        )

    def damage(self, from_index: int) -> None:
        """What stands from here on can be read no more, and its like was acknowledged perhaps."""
        self.suspect = max(self.suspect, self.last)
        self.suspect_term = max(self.suspect_term, self.tail.term)
        self.entries = self.entries[: from_index - self.anchor.index - 1]

    def copy(self) -> PlainStore:
        """The same disk, as it is now; for rolling it back later."""
        twin = PlainStore(self.hard_state.store)
        twin.hard_state, twin.anchor, twin.entries = self.hard_state, self.anchor, [*self.entries]
        return twin

    @property
    def tail(self) -> Anchor:
        if not self.entries:
            return self.anchor
        last = self.entries[-1]
        return Anchor(last.term, last.index, last.checksum)

    @property
    def last(self) -> int:
        return self.entries[-1].index if self.entries else self.anchor.index

    def entry(self, index: int) -> Entry[Any] | None:
        at = index - self.anchor.index - 1
        return self.entries[at] if 0 <= at < len(self.entries) else None

    def range(self, first: int, last: int) -> list[Entry[Any]]:
        """Entries from ``first`` to ``last``, clamped."""
        base = self.anchor.index + 1
        return self.entries[max(0, first - base) : max(0, last - base + 1)]

    def fetch(self, first: int, last: int, limit: int) -> list[Entry[Any]]:
        """Entries from exactly ``first`` on, at most ``limit`` bytes but at least one; none when they
        are gone."""
        if self.entry(first) is None:
            return []
        taken: list[Entry[Any]] = []
        size = 0
        for entry in self.range(first, last):
            size += len(entry.sealed)
            if taken and size > limit:
                break
            taken.append(entry)
        return taken

    def apply(self, batch: WriteBatch[Any]) -> None:
        """Commits one batch.

        Raises:
            Violation: it does not fit the log.
        """
        anchor, entries = self.anchor, self.entries
        if batch.reset_to is not None:
            anchor, entries = batch.reset_to, []
        if batch.truncate_from is not None:
            at = batch.truncate_from
            last = entries[-1].index if entries else anchor.index
            _require(anchor.index < at <= last + 1, f"truncates at {at} a log that ends at {last}")
            entries = entries[: at - anchor.index - 1]
        if batch.entries:
            entries = [*entries, *_fitting(anchor, entries, batch)]
        if batch.hard_state is not None:
            _check_successor(self.hard_state, batch.hard_state)
        hard = batch.hard_state or self.hard_state
        if batch.hard_state is not None or batch.truncate_from or batch.reset_to is not None:
            _check_names(hard, anchor, entries)
        _require(not entries or entries[-1].term <= hard.term, "an entry is of a term not reached")
        self.hard_state, self.anchor, self.entries = hard, anchor, entries
        if (
            batch.reset_to is not None
            or batch.truncate_from is not None
            or self.last >= self.suspect
        ):
            # Whatever is written lies where the damage was; a part of it leaves the rest suspect.
            self.suspect = 0

    def recovered(self, peer: bytes, newest: int) -> Recovered:
        """What a replica that opens this store is told.

        Args:
            newest: how many of the newest entries it is given.
        """
        starts: list[tuple[int, int]] = []
        for entry in self.entries:
            if not starts or starts[-1][1] != entry.term:
                starts.append((entry.index, entry.term))
        named = [self.entry(index) for index in self.hard_state.configs]
        return Recovered(
            peer=peer,
            hard_state=self.hard_state,
            anchor=self.anchor,
            tail=self.tail,
            term_starts=starts,
            configurations=[
                (entry.index, configuration_codec.decode(entry.payload))
                for entry in named
                if entry is not None
            ],
            newest=self.entries[-newest:],
            suspect=self.suspect,
            suspect_term=self.suspect_term,
        )


def _fitting(anchor: Anchor, entries: list[Entry[Any]], batch: WriteBatch[Any]) -> list[Entry[Any]]:
    term, index, checksum = anchor
    time_ms = 0
    if entries:
        last = entries[-1]
        term, index, checksum, time_ms = last.term, last.index, last.checksum, last.time_ms
    for entry in batch.entries:
        if entry.index != index + 1:
            _require(False, f"{entry} after index {index}")
        if entry.previous != checksum:
            _require(False, f"{entry} does not continue {checksum:08x}")
        if entry.term < term or entry.time_ms < time_ms:
            _require(False, f"the term or the time of {entry} goes back")
        term, index, checksum, time_ms = entry.term, entry.index, entry.checksum, entry.time_ms
    return list(batch.entries)


def _check_successor(old: HardState, new: HardState) -> None:
    if old.store != new.store:
        return
    _require(new.life >= old.life, f"life {new.life} after {old.life}")
    if (old.life, old.history) != (new.life, new.history):
        return
    _require(new.term >= old.term, f"term {new.term} after {old.term}")
    if new.term == old.term and old.voted_for is not None:
        _require(new.voted_for == old.voted_for, f"a second vote in term {new.term}")


def _check_names(hard: HardState, anchor: Anchor, entries: list[Entry[Any]]) -> None:
    """The indices in the hard state name entries of the kind that they claim."""
    named = [(index, EntryKind.CONFIG) for index in hard.configs]
    named += [
        (hard.founded, EntryKind.FOUNDED),
        (hard.first_command, EntryKind.COMMAND),
        (hard.dissolve, EntryKind.DISSOLVE),
    ]
    for index, kind in named:
        if index <= anchor.index:
            continue
        at = index - anchor.index - 1
        _require(at < len(entries), f"the hard state names a {kind.name} at {index}, past the end")
        _require(entries[at].kind is kind, f"{entries[at]} is named as a {kind.name}")
