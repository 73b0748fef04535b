"""Bugs between consensus and its callers: the driver, the pipeline, reads and the state machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mosaik.consensus.effects import Write
from mosaik.groups.applier import Applier, Source
from mosaik.groups.attachment import Attachment, Outcome
from mosaik.groups.call import Call
from mosaik.groups.group import Group
from mosaik.groups.outcome import Consistency, Pending
from mosaik.groups.pipeline import Pipeline
from mosaik.groups.reads import Reads
from mosaik.groups.sessions import Answer, Expired, Sessions
from mosaik.machines import Map
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import Offline
from mosaik.primitives.session import SessionHeader
from mosaik.testing.simulation import Property
from tests.simulation.bugs.registry import bug

__all__: list[str] = []


@bug(Property.DURABLE_ACK, Property.DURABLE_VOTE, Property.DURABLE_TERM, seeds=10)
def a_failed_write_is_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    """The index is used again: what should be there is not."""

    def write(opened: Attachment, write: Write) -> None:
        def done(error: Outcome) -> None:
            del error
            if not opened._over:
                opened._persisted(write.sequence)

        if not opened._over:
            opened._disk.write(write.batch, done)

    patch.setattr(Attachment, "write", write)


@bug(Property.ACKNOWLEDGED, seeds=20, faults={"isolate leader": 4.0})
def an_applied_index_is_taken_for_the_command(patch: pytest.MonkeyPatch) -> None:
    """Another leader's entry at the index counts as success."""

    def landed(pipeline: Pipeline, entries: Sequence[Entry[Any]], results: Sequence[Any]) -> None:
        pipeline._land(entries[0].index, results, 0, len(entries))

    patch.setattr(Pipeline, "landed", landed)


@bug(Property.LINEARIZABLE, seeds=10)
def an_unknown_outcome_is_called_not_done(patch: pytest.MonkeyPatch) -> None:
    """A caller who believes that may do it again, or something else instead."""

    def unknown(call: Call, why: str) -> None:
        call.ends(lambda: Offline(f"not done: {why}", call.commands))

    patch.setattr(Call, "unknown", unknown)


@bug(Property.LINEARIZABLE, seeds=10)
def a_strong_read_is_answered_at_once(patch: pytest.MonkeyPatch) -> None:
    """Nobody is asked whether there is a newer leader."""

    def ask(reads: Reads, query: Any, pending: Pending[Any]) -> None:
        reads._resolve(query, pending)

    patch.setattr(Reads, "ask", ask)


@bug(Property.WEAK_READ, seeds=10)
def a_weak_read_is_kept_and_given_again(patch: pytest.MonkeyPatch) -> None:
    """A cache that nobody empties: it misses more than the node itself has missed."""
    kept: dict[tuple[int, str], Any] = {}

    def query(group: Any, query: Any, consistency: Consistency) -> Pending[Any]:
        pending = before(group, query, consistency)
        if consistency is Consistency.WEAK and type(query) is get:
            remembered: Pending[Any] = Pending(loop=group._loop)
            remembered.set_result(kept.setdefault((id(group), query.key), pending.result()))
            return remembered
        return pending

    shipped: Any = Group
    get: Any = Map.Get
    before: Callable[..., Pending[Any]] = shipped.query
    patch.setattr(shipped, "query", query)


@bug(Property.MACHINES_EQUAL, Property.ACKNOWLEDGED, Property.WEAK_READ, seeds=10)
def what_is_not_committed_is_applied(patch: pytest.MonkeyPatch) -> None:
    def advance(applier: Applier, target: int, began: float | None = None) -> None:
        source: Any = applier._source
        before(applier, max(target, source.view.last) if source is not None else target, began)

    before = Applier.advance
    patch.setattr(Applier, "advance", advance)


@bug(
    Property.MACHINES_EQUAL,
    Property.WEAK_READ,
    Property.ACKNOWLEDGED,
    seeds=20,
    faults={"failed sync": 4.0},
)
def a_machine_goes_on_where_its_log_ends(patch: pytest.MonkeyPatch) -> None:
    """When a store is opened again, what was committed meanwhile is passed over."""

    def attach(applier: Applier, source: Source) -> None:
        view = getattr(source, "view", None)
        if applier.applied and view is not None:
            applier.applied = max(applier.applied, view.last)
        before(applier, source)

    before = Applier.attach
    patch.setattr(Applier, "attach", attach)


@bug(
    Property.MACHINES_EQUAL,
    Property.ACKNOWLEDGED,
    Property.LINEARIZABLE,
    Property.WEAK_READ,
    seeds=10,
)
def a_machine_asks_the_clock(patch: pytest.MonkeyPatch) -> None:
    """What it answers depends on when a node came to a command."""

    def apply(machine: Any, command: Any, context: Any) -> Any:
        if type(command) is insert and time.time_ns() // 1_000_000_000 % 4 == 0:
            command = insert(command.key, command.value + 1)
        return before(machine, command, context)

    shipped: Any = Map
    insert: Any = Map.Insert
    before: Callable[..., Any] = shipped.apply
    patch.setattr(shipped, "apply", apply)


@bug(Property.LIVENESS, seeds=10, faults={"failed sync": 4.0})
def a_store_that_failed_is_not_opened_again(patch: pytest.MonkeyPatch) -> None:
    """Nothing false is said, and nothing is done any more."""

    def write(opened: Attachment, write: Write) -> None:
        def done(error: Outcome) -> None:
            if error is None and not opened._over:
                opened._persisted(write.sequence)

        if not opened._over:
            opened._disk.write(write.batch, done)

    patch.setattr(Attachment, "write", write)


@bug(
    Property.MACHINES_EQUAL,
    Property.ACKNOWLEDGED,
    Property.LINEARIZABLE,
    Property.WEAK_READ,
    seeds=40,
    faults={"isolate leader": 4.0},
)
def a_command_that_is_given_again_is_applied_again(patch: pytest.MonkeyPatch) -> None:
    """A replica remembers what it answered in a session, and does not look."""

    def find(table: Sessions, header: SessionHeader, time_ms: int) -> Answer | Expired | None:
        known = before(table, header, time_ms)
        return known if isinstance(known, Expired) else None

    before = Sessions.find
    patch.setattr(Sessions, "find", find)
