"""What can be wrong with several batches, and with several logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from mosaik.primitives.durable import HardState, WriteBatch
from mosaik.primitives.errors import InvalidBatch
from mosaik.storage import Change, LogIdentity, environment
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.log import LogSlot
from mosaik.storage.memory import MemoryEngine

from .bug import Original, found_by

__all__: list[str] = []

Batches = Sequence[tuple[Any, WriteBatch[Any]]]
COMMIT = (EngineEnvironment, "commit")
RETIRE = (EngineEnvironment, "retire")


@found_by("BATCH-01", "pruned into the same batch", COMMIT)
def pruning_comes_first(of: Original, store: EngineEnvironment, batches: Batches) -> None:
    for log, batch in batches:
        prune = None if batch.prune_to is None else min(batch.prune_to, log.tail.index)
        of(store, [(log, WriteBatch(prune_to=prune))])
        of(store, [(log, replace(batch, prune_to=None))])


@found_by("BATCH-02", "and yet changed a log", COMMIT)
@found_by("BATCH-03", "two batches of one log", COMMIT)
def batches_are_committed_one_by_one(
    of: Original, store: EngineEnvironment, batches: Batches
) -> None:
    for batch in batches:
        of(store, [batch])


@found_by("BATCH-03", "another store's log", (EngineEnvironment, "_slot_of"))
def any_log_is_taken(_: Original, _store: EngineEnvironment, log: Any) -> LogSlot:
    slot: LogSlot = log.slot
    return slot


@found_by("BATCH-04", "there is nothing to write", COMMIT)
def an_empty_batch_is_refused(of: Original, store: EngineEnvironment, batches: Batches) -> None:
    if any(batch.is_empty for _, batch in batches):
        raise InvalidBatch("there is nothing to write")
    of(store, batches)


@found_by("GROUP-01", "it is missing", (MemoryEngine, "commit"))
def a_cut_goes_through_all_logs(
    of: Original, engine: MemoryEngine, changes: Sequence[Change]
) -> None:
    cuts = [each.delete_from for each in changes if each.delete_from is not None]
    of(engine, [Change(log=log, delete_from=at) for log in engine.logs() for at in cuts])
    of(engine, changes)


@found_by("GROUP-01", "one log's term has become another's", (EngineEnvironment, "_apply"))
def terms_are_the_stores(of: Original, store: EngineEnvironment, *given: Any) -> None:
    of(store, *given)
    slots = store._slots.values()
    term = max(slot.state.hard_state.term for slot in slots)
    for slot in slots:
        slot.state = replace(slot.state, hard_state=replace(slot.state.hard_state, term=term))


@found_by("GROUP-02", "it names", (environment, "_plain"))
@found_by("GROUP-04", "the store names", (environment, "_plain"))
def parts_are_forgotten(of: Original, asked: LogIdentity) -> Any:
    return replace(of(asked), parts={})


@found_by("GROUP-03", "an append to a retired log", RETIRE)
def a_retired_log_goes_on(*_: object) -> None:
    """Nothing is retired."""


def _retire(store: EngineEnvironment, slot: LogSlot, *changes: Change) -> None:
    assert store._engine is not None
    store._transact(store._engine, list(changes))
    slot.retired = True
    del store._slots[slot.identity.group]


@found_by("GROUP-03", "the store names", RETIRE)
def a_retired_log_keeps_its_record(_: Original, store: EngineEnvironment, slot: LogSlot) -> None:
    _retire(store, slot, Change(log=slot.identity.group, drop=True))


@found_by("GROUP-03", "it is missing", RETIRE)
def the_neighbours_are_emptied(_: Original, store: EngineEnvironment, slot: LogSlot) -> None:
    emptied = [Change(log=key, drop=True) for key in store._slots]
    _retire(store, slot, *emptied, Change(log=slot.identity.group, meta=b""))


@found_by("GROUP-03", "the same store id", (environment, "fresh_record"))
def a_retired_log_comes_back_as_itself(of: Original, asked: LogIdentity, store: bytes) -> Any:
    return replace(of(asked, store), hard_state=HardState(store=asked.group[:16]))
