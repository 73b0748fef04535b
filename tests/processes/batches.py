"""A process that gives its group batches of ten thousand commands and has its own event loop watched.

``python -m tests.processes.batches SETTINGS`` takes `Settings` as JSON and reports ``done`` on standard
output as a node does.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from mosaik.cli.node import run
from mosaik.groups import Group, GroupKey
from mosaik.groups.config import ConsensusConfig, Normal, Observer
from mosaik.machines import Map
from mosaik.network import Network
from mosaik.testing import Process
from tests.processes.loopwatch import Stall, worst
from tests.processes.watched import Stalls, WatchedMap

__all__ = ["BATCH", "Outcome", "Settings", "give_batches"]

#: Commands in a batch, and batches one after the other.
BATCH: Final = 10_000
_BATCHES: Final = 5


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Which group it joins, and as what.

    Attributes:
        network: the network's name.
        key_file: the group's key.
        consensus: the group's parameters.
        bootstrap: nodes of the group that it observes; none to be the only member of its own.
        storage: where its log is kept.
        data_dir: its directory, for a log that is durable.
        behind: the group's log is so long already, and is applied here before the batches are given.
    """

    network: str
    key_file: str
    consensus: dict[str, int | float]
    bootstrap: list[str] = []
    storage: str = "memory"
    data_dir: str | None = None
    behind: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """What became of the batches.

    Attributes:
        last: the index of the last command.
        size: how many keys a query found.
        joining: the worst stall of this process's own loop before the first batch.
        giving: and from then on.
    """

    last: int
    size: int
    joining: Stall
    giving: Stall


async def give_batches(settings: Settings, log: Path) -> Outcome:
    """Runs such a process and awaits what it reports."""
    text = msgspec.json.encode(settings).decode()
    process = Process([sys.executable, "-m", __name__, text], log=log)
    await process.start()
    try:
        event = await process.until("done")
        return msgspec.convert(event["outcome"], Outcome)
    finally:
        await process.kill()


async def _main(settings: Settings) -> Outcome:
    leadership = Observer() if settings.bootstrap else Normal()
    config = ConsensusConfig.from_mapping(settings.consensus).with_leadership(leadership)
    machine = WatchedMap()
    # As `mosaik node` does: what is loaded by now stays, and no collection has to walk it again.
    gc.collect()
    gc.freeze()
    async with Network(
        settings.network, bootstrap=settings.bootstrap, data_dir=settings.data_dir
    ) as network:
        builder = network.groups().with_key(GroupKey.from_file(settings.key_file))
        stage = builder.with_state_machine(machine).with_log_storage(settings.storage)
        async with stage.with_consensus_config(config).join() as group:
            await group.when().online()
            await group.when().committed().reaches(settings.behind)
            return await _give(group, machine)


async def _give(group: Group[Any, Any, Any], machine: WatchedMap) -> Outcome:
    joining = worst(machine.stalls(Stalls()))
    batch = [Map.Insert(f"key-{number}", "value") for number in range(BATCH)]
    await group.query(Map.Size())
    # To make the commands was this program's own affair.
    machine.stalls(Stalls(forget=True))
    last = size = 0
    for _ in range(_BATCHES):
        applied = await group.execute_many(batch)
        assert len(applied.results) == BATCH
        last = applied.end
        size = await group.query(Map.Size())
    return Outcome(last, size, joining, worst(machine.stalls(Stalls())))


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=Settings)
    outcome = msgspec.to_builtins(run(_main(given)))
    print(json.dumps({"event": "done", "outcome": outcome}), flush=True)
