"""What can be wrong with the hard state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from mosaik.primitives.durable import HardState
from mosaik.storage import Change
from mosaik.storage import plan as planning
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.plan import _Draft
from mosaik.storage.record import LogRecord, RecordCodec

from .bug import Original, forgiven, found_by

__all__: list[str] = []

REPLACE = (_Draft, "replace")


@found_by("HARD-01", "HardState", REPLACE)
def a_quarantine_never_ends(of: Original, draft: _Draft, new: HardState, **named: Any) -> None:
    of(draft, replace(new, quarantine=draft.hard_state.quarantine or new.quarantine), **named)


@found_by("HARD-02", "after other batches", (_Draft, "truncate"))
def a_truncation_forgets_the_vote(of: Original, draft: _Draft, at: int) -> None:
    of(draft, at)
    draft.hard_state = replace(draft.hard_state, voted_for=None)


def _anyway(draft: _Draft, new: HardState) -> None:
    draft.hard_state = new
    draft.recorded = False


forgiven("HARD-03", "a batch with a second vote", REPLACE, "a second vote", _anyway)
forgiven("HARD-03", "a batch with a vote taken back", REPLACE, ": None after", _anyway)
forgiven("HARD-04", "a batch with an earlier term", REPLACE, "the term goes back", _anyway)
forgiven("HARD-04", "a batch with an earlier life", REPLACE, "life goes back", _anyway)
forgiven(
    "HARD-04", "a batch with a new life over old entries", REPLACE, "a new life begins", _anyway
)
forgiven(
    "HARD-04", "a batch with a second history in a life", REPLACE, "is bound to history", _anyway
)
forgiven("HARD-04", "a batch with no store id", REPLACE, "has no store id", _anyway)
forgiven("HARD-05", "a batch with a new store id over old entries", REPLACE, "a new life", _anyway)


@found_by("HARD-03", "it has voted already", REPLACE)
def the_same_vote_again_is_refused(
    of: Original, draft: _Draft, new: HardState, **named: Any
) -> None:
    old = draft.hard_state
    if old.voted_for is not None and (new.term, new.voted_for) == (old.term, old.voted_for):
        raise planning._Misfit("it has voted already")
    of(draft, new, **named)


@found_by("HARD-05", "the term goes back", (planning, "_check_life"))
def terms_go_on_in_a_new_life(of: Original, old: HardState, new: HardState) -> None:
    of(old, new)
    if new.term < old.term:
        raise planning._Misfit("the term goes back")


@found_by("HARD-06", "opened again the log says", (RecordCodec, "encode"))
def floors_are_not_kept(of: Original, codec: Any, record: Any) -> Any:
    if isinstance(record, LogRecord):
        record = replace(record, hard_state=replace(record.hard_state, floors=()))
    return of(codec, record)


@found_by("HARD-06", "has another store id", (EngineEnvironment, "_transact"))
def a_log_is_made_with_its_first_batch(
    of: Original, store: EngineEnvironment, engine: Any, changes: Sequence[Change]
) -> None:
    if changes[0].rows or changes[0].drop:
        of(store, engine, changes)
