"""Bugs in stores, and in what is believed of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from mosaik.primitives import entry as entry_module
from mosaik.primitives.durable import HardState
from mosaik.primitives.entry import HEADER_SIZE, Damage, Entry, EntryKind, unseal
from mosaik.storage import environment, recover, rows
from mosaik.storage.contract import LogIdentity
from mosaik.storage.engine import Change
from mosaik.storage.record import LogRecord
from mosaik.storage.state import LogState
from mosaik.testing.simulation import Property
from mosaik.testing.simulation.disk import Rows, SimEngine, SimEnvironment, groups_on
from tests.simulation.bugs.registry import bug

__all__: list[str] = []


@bug(Property.STORE_CONTRACT, seeds=10)
def the_last_commit_is_gone_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    """An engine that answers first, and syncs when there is nothing else to do."""

    def commit(engine: SimEngine, changes: Sequence[Change]) -> None:
        if groups_on(engine._alive()):
            engine.__dict__["synced"] = engine._alive().copy()
        committed(engine, changes)

    def kill(engine: SimEngine) -> None:
        synced: Rows | None = engine.__dict__.get("synced")
        if synced is not None and engine._rows is engine._disk.rows:
            engine._disk.rows = synced
        died(engine)

    def idle(store: SimEnvironment) -> None:
        store._sim_engine.__dict__.pop("synced", None)
        rested(store)

    committed, died, rested = SimEngine.commit, SimEngine.kill, SimEnvironment.idle
    patch.setattr(SimEngine, "commit", commit)
    patch.setattr(SimEngine, "kill", kill)
    patch.setattr(SimEnvironment, "idle", idle)


@bug(
    Property.ONE_VOTE,
    Property.DURABLE_ACCEPT,
    Property.ONE_HISTORY,
    Property.LEADER_COMPLETENESS,
    Property.LIFE_FORWARD,
    seeds=20,
    faults={"wipe": 4.0},
)
def a_wiped_disk_votes_under_its_old_name(patch: pytest.MonkeyPatch) -> None:
    """A new store is given the id of the one that was lost."""

    def fresh_record(identity: LogIdentity, store: bytes) -> LogRecord:
        hard_state = HardState(store=identity.peer[:16])
        return LogRecord(store=store, identity=identity, hard_state=hard_state)

    patch.setattr(environment, "fresh_record", fresh_record)


@bug(
    Property.LEADER_COMPLETENESS,
    Property.STATE_MACHINE_SAFETY,
    Property.DURABLE_ACK,
    seeds=30,
    faults={"rotten tail": 1.0, "crash": 5.0},
)
def a_shorter_log_is_believed(patch: pytest.MonkeyPatch) -> None:
    """What cannot be read at the end of a log is taken for never written, whatever the watermark says."""

    def recovered(*arguments: Any, url: str) -> LogState:
        state = found(*arguments, url=url)
        return msgspec.structs.replace(state, suspect=None, damaged=False)

    def unchecked(*_: Any) -> None:
        """As if there were no watermark."""

    found = recover.recover
    patch.setattr(recover, "_check_mark", unchecked)
    patch.setattr(environment, "recover", recovered)


@bug(
    Property.LOG_MATCHING,
    Property.STATE_MACHINE_SAFETY,
    Property.MACHINES_EQUAL,
    Property.ACKNOWLEDGED,
    Property.NO_BUG_REPORTED,
    seeds=40,
    faults={"flipped bit": 3.0, "rotten tail": 5.0},
)
def damage_is_not_looked_for(patch: pytest.MonkeyPatch) -> None:
    """An entry is handed out although its checksum is not that of its content."""

    def trust(blob: bytes, offset: int = 0, **options: Any) -> Entry[Any]:
        try:
            return unseal(blob, offset, **options)
        except Damage:
            _, kind, _, size, index, term, time, previous, checksum = (
                entry_module._HEADER.unpack_from(blob, offset)
            )
            sealed = blob[offset : offset + HEADER_SIZE + size]
            return Entry(index, term, EntryKind(kind), time, previous, checksum, sealed)

    patch.setattr(rows, "unseal", trust)
