"""The simulated disk refuses what the storage contract refuses; else a broken core would pass."""

from __future__ import annotations

from typing import Any

import pytest

from mosaik.primitives.durable import Anchor, HardState, WriteBatch
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.primitives.membership import Replica
from mosaik.testing.simulation.rules.store import PlainStore
from tests.consensus.simulation import Property, Violation

STORE = b"s" * 16
HISTORY = b"h" * 32
ONE, TWO = (Replica(bytes([n]) * 32, STORE, 0) for n in (1, 2))


def run_of(*terms: int, first: int = 1, previous: int = 0) -> list[Entry[Any]]:
    entries: list[Entry[Any]] = []
    for offset, term in enumerate(terms):
        entry = seal(EntryKind.NOOP, first + offset, term, 0, b"", previous)
        previous = entry.checksum
        entries.append(entry)
    return entries


def filled() -> PlainStore:
    store = PlainStore(STORE)
    hard = HardState(term=3, voted_for=ONE, store=STORE, history=HISTORY)
    store.apply(WriteBatch(hard_state=hard, entries=run_of(1, 1, 2, 3)))
    return store


def hard(**changes: Any) -> HardState:
    values: dict[str, Any] = {"term": 3, "voted_for": ONE, "store": STORE, "history": HISTORY}
    return HardState(**{**values, **changes})


END = filled().tail.checksum

REFUSED: dict[str, WriteBatch[Any]] = {
    "a gap": WriteBatch(entries=run_of(3, first=6, previous=END)),
    "an overlap": WriteBatch(entries=run_of(3, first=4, previous=END)),
    "a broken chain": WriteBatch(entries=run_of(3, first=5, previous=END ^ 1)),
    "a term that goes back": WriteBatch(entries=run_of(2, first=5, previous=END)),
    "a term not reached": WriteBatch(entries=run_of(4, first=5, previous=END)),
    "a truncation beyond the end": WriteBatch(truncate_from=6),
    "a second vote": WriteBatch(hard_state=hard(voted_for=TWO)),
    "a vote withdrawn": WriteBatch(hard_state=hard(voted_for=None)),
    "the hard state's term going back": WriteBatch(hard_state=hard(term=2)),
    "a configuration that is none": WriteBatch(hard_state=hard(configs=(2,))),
    "a founding that is not there": WriteBatch(hard_state=hard(founded=9)),
    "a command named and truncated": WriteBatch(hard_state=hard(first_command=4), truncate_from=4),
}


@pytest.mark.parametrize("batch", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(batch: WriteBatch[Any]) -> None:
    store = filled()
    before = store.hard_state, store.anchor, list(store.entries)
    with pytest.raises(Violation) as caught:
        store.apply(batch)
    assert caught.value.property is Property.STORE_CONTRACT
    assert (store.hard_state, store.anchor, store.entries) == before


def test_a_life_never_goes_back() -> None:
    store = filled()
    store.apply(WriteBatch(hard_state=HardState(store=STORE, life=1), reset_to=Anchor()))
    with pytest.raises(Violation, match="life 0 after 1"):
        store.apply(WriteBatch(hard_state=hard()))


def test_the_parts_apply_in_order() -> None:
    store = filled()
    before = store.entries[1].checksum
    replacement = run_of(3, 3, first=3, previous=before)
    store.apply(WriteBatch(hard_state=hard(), truncate_from=3, entries=replacement))
    assert [entry.term for entry in store.entries] == [1, 1, 3, 3]
    recovered = store.recovered(bytes(32), 2)
    assert recovered.tail == store.tail
    assert list(recovered.term_starts) == [(1, 1), (3, 3)]
    assert [entry.index for entry in recovered.newest] == [3, 4]
