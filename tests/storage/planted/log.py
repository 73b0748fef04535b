"""What can be wrong with entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from mosaik.primitives.durable import Anchor, HardState, WriteBatch
from mosaik.primitives.errors import InvalidBatch
from mosaik.storage import LogIdentity, environment
from mosaik.storage import plan as planning
from mosaik.storage.engine import ROW_SIZE
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.log import EngineLog
from mosaik.storage.plan import _Draft
from mosaik.storage.record import LogRecord, RecordCodec
from mosaik.storage.rows import Row

from .bug import Original, forgiven, found_by

__all__: list[str] = []

GET_RANGE = (EngineLog, "get_range")
FOLLOW = (_Draft, "_follow")
RECORDS = (RecordCodec, "encode")


@found_by("LOG-01", "not 16 random bytes", (environment, "fresh_record"))
def store_ids_are_zeros(of: Original, *given: Any) -> Any:
    return replace(of(*given), hard_state=HardState(store=bytes(16)))


@found_by("LOG-01", "the same store id", (environment, "fresh_record"))
def logs_have_one_store_id(of: Original, _: LogIdentity, store: bytes) -> Any:
    return replace(of(_, store), hard_state=HardState(store=store))


@found_by("LOG-02", "a log from 0 to 1 gives []", GET_RANGE)
def the_last_entry_is_seen_late(of: Original, *given: Any, **named: Any) -> Any:
    return of(*given, **named)[:-1]


@found_by("LOG-03", "get_range(1, 7)", GET_RANGE)
def ends_are_exclusive(
    of: Original, log: EngineLog[Any], first: int, last: int, **named: Any
) -> Any:
    return of(log, first, last - (last < log.tail.index), **named)


@found_by("LOG-03", "get_range(0, 99)", GET_RANGE)
def what_begins_too_early_is_nothing(
    of: Original, log: EngineLog[Any], first: int, last: int, **named: Any
) -> Any:
    return of(log, first, last, **named) if first > log.anchor.index else []


@found_by("LOG-04", "with limit=0 the pages end at entry 0", GET_RANGE)
def a_page_may_be_empty(of: Original, *given: Any, limit: int | None = None) -> Any:
    return of(*given, limit=limit) if limit != 0 else []


@found_by("LOG-04", "a page of 1 entries", GET_RANGE)
def a_page_is_one_entry(of: Original, *given: Any, limit: int | None = None) -> Any:
    return of(*given, limit=limit and 1)


@found_by("LOG-05", "it is missing", (planning, "pack"))
def large_rows_are_dropped(of: Original, *run: Any) -> list[Row]:
    return [row for row in of(*run) if len(row.blob) <= ROW_SIZE + 200]


@found_by("LOG-05", "it is too large", (planning, "pack"))
def the_largest_entry_is_too_large(
    of: Original, entries: Sequence[Any], sealed: Sequence[bytes]
) -> Any:
    if max(map(len, sealed)) > 1 << 20:
        raise planning._Misfit("it is too large")
    return of(entries, sealed)


@found_by("LOG-06", "the terms begin at", (planning, "starts_before"))
def cut_terms_stay_in_the_table(_: Original, starts: Any, _index: int) -> Any:
    return starts


@found_by("LOG-06", "the terms begin at", (planning, "starts_from"))
def pruned_terms_stay_in_the_table(_: Original, starts: Any, _index: int) -> Any:
    return starts


@found_by("LOG-07", "after truncate(200)", (_Draft, "truncate"))
def the_entry_at_the_cut_stays(of: Original, draft: _Draft, at: int) -> None:
    of(draft, at + (at == draft.tail.index))


@found_by("LOG-08", "in a batch that cuts", (_Draft, "append"))
def nothing_follows_a_cut(of: Original, draft: _Draft, entries: Sequence[Any]) -> None:
    if draft.cut is not None:
        raise planning._Misfit("entries in a batch that cuts")
    of(draft, entries)


@found_by("LOG-09", "after prune_prefix(1)", (_Draft, "prune"))
def one_more_is_pruned(of: Original, draft: _Draft, up_to: int) -> None:
    of(draft, up_to + bool(up_to))


@found_by("LOG-09", "after all was pruned", (_Draft, "prune"))
def pruning_all_forgets_the_end(of: Original, draft: _Draft, up_to: int) -> None:
    of(draft, up_to)
    if draft.anchor == draft.tail:
        draft.anchor = draft.tail = Anchor()


@found_by("LOG-10", "after reset_to(1099511627776)", (_Draft, "reset"))
def indices_have_32_bits(of: Original, draft: _Draft, anchor: Anchor) -> None:
    of(draft, anchor._replace(index=anchor.index & 0xFFFFFFFF))


@found_by("LOG-10", "after reset_to(100)", (_Draft, "reset"))
def a_reset_keeps_the_terms(of: Original, draft: _Draft, anchor: Anchor) -> None:
    starts = draft.starts
    of(draft, anchor)
    draft.starts = starts


def _anyway(_: _Draft, entries: Sequence[Any]) -> Any:
    return [entry.sealed for entry in entries], [(entries[0].index, entries[0].term)]


def _nothing(*_: object) -> None:
    """What is asked for is not done, and not refused."""


forgiven("LOG-11", "a batch with a gap ", FOLLOW, "cannot follow", _anyway)
forgiven("LOG-11", "a batch with an earlier term", FOLLOW, "after term", _anyway)
forgiven("LOG-11", "a batch with another predecessor", FOLLOW, "continues an entry", _anyway)
forgiven("LOG-11", "a batch with an earlier time", FOLLOW, "ms, after", _anyway)
for part, verb in {"truncate": "truncation", "prune": "pruning", "reset": "reset"}.items():
    forgiven("LOG-11", f"a batch with a negative {verb}", (_Draft, part), "is not a", _nothing)


@found_by("LOG-11", "a batch with a gap within", FOLLOW)
def only_the_first_entry_is_checked(of: Original, draft: _Draft, entries: Sequence[Any]) -> Any:
    of(draft, entries[:1])
    return _anyway(draft, entries)


@found_by("LOG-11", "and yet changed the log", (EngineEnvironment, "commit"))
def the_good_part_of_a_bad_batch_is_written(
    of: Original, store: EngineEnvironment, batches: Sequence[tuple[Any, WriteBatch[Any]]]
) -> None:
    try:
        of(store, batches)
    except InvalidBatch:
        of(store, [(log, WriteBatch(hard_state=batch.hard_state)) for log, batch in batches])
        raise


@found_by("LOG-12", "snapshot-7", (environment, "plan"))
def the_first_snapshot_stays(
    of: Original, batch: WriteBatch[Any], state: Any, *given: Any, **named: Any
) -> Any:
    newer = None if state.snapshot is not None else batch.snapshot
    return of(replace(batch, snapshot=newer), state, *given, **named)


@found_by("LOG-13", "opened again once", RECORDS)
def snapshots_are_not_kept(of: Original, codec: Any, record: Any) -> Any:
    return of(codec, replace(record, snapshot=None) if isinstance(record, LogRecord) else record)


@found_by("LOG-13", "has term 1, and term_at says 4", RECORDS)
def the_terms_of_old_entries_are_not_kept(of: Original, codec: Any, record: Any) -> Any:
    if isinstance(record, LogRecord):
        record = replace(record, term_starts=record.term_starts[-1:])
    return of(codec, record)
