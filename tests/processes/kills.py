"""Three real nodes under load, one of them killed again and again, and what clients saw meanwhile.

``python -m tests.processes.kills BACKEND`` prints what came of it as JSON, and ``make soak
PART=kills-BACKEND`` does a thousand kills.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mosaik.machines import Map
from mosaik.primitives.errors import MosaikError
from mosaik.testing import Cluster, ClusterNode, Recorder, assert_nothing_lost
from mosaik.testing.linearizability import (
    MapEntry,
    assert_linearizable,
    check_linearizable,
    require_telling,
    with_stale_read,
)
from tests.linearizability.kinds import inserted, is_exchange, is_read

__all__ = ["Kills", "run"]

#: The machine that the nodes run: the one of ``mosaik node``, whose values are text.
MACHINE: Final = Map(str, str)
FAST: Final[Mapping[str, Any]] = {
    "bootstrap_delay": 0.3,
    "heartbeat_interval": 0.1,
    "election_timeout": 0.5,
    "election_timeout_jitter": 0.2,
    "forward_timeout": 1.0,
    "query_timeout": 1.0,
}
CLIENTS: Final = 6
#: Keys that are in use at a time. New ones come with each kill: what nobody knows the end of stays open
#: under its key for ever, and the checker has to try it at every later moment.
KEYS: Final = 4
#: A kill comes at a random moment within so many seconds after the group serves again.
SPREAD: Final = 0.3
#: A client that was refused asks again after so many seconds.
PAUSE: Final = 0.02


class Kills:
    """A cluster, its clients, and whoever kills.

    Args:
        cluster: of which every node is online.
        seed: decides what clients ask, and who is killed when.

    Attributes:
        recorder: what clients asked and were told.
        changes: on the history's clock, from a leader's death to its successor.
        kills: so far.
    """

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster: Final = cluster
        self.recorder: Final = Recorder()
        self.changes: Final[list[tuple[float, float]]] = []
        self.kills = 0
        self._chance: Final = random.Random(seed)
        # How many questions clients ask meanwhile is up to the machine; who is killed is up to the seed.
        self._moments: Final = random.Random(seed)
        self._known: dict[str, str | None] = {}
        self._number = 0
        self._enough = asyncio.Event()

    async def run(self, kills: int) -> None:
        """Kills so often, under load."""
        async with asyncio.TaskGroup() as clients:
            for client in range(CLIENTS):
                clients.create_task(self._client(client))
            while self.kills < kills:
                await self._kill_one()
            self._enough.set()

    async def _kill_one(self) -> None:
        leader = await self.cluster.leader()
        await self._answers(20)
        await asyncio.sleep(self._moments.uniform(0, SPREAD))  # the moment is what is tried here
        # Every other time the leader: the others' deaths interrupt less.
        victim = self._moments.choice(self.cluster.nodes) if self.kills % 2 else leader
        began = self.recorder.history.mark()
        await victim.kill()
        self.kills += 1
        others = [node for node in self.cluster.nodes if node is not victim]
        await self.cluster.leader(among=others)
        if victim is leader:
            self.changes.append((began, self.recorder.history.mark()))
        await victim.start()
        await victim.until("online")

    async def _answers(self, count: int) -> None:
        """Waits until so many more commands were acknowledged: a kill that meets no load shows nothing."""
        target = len(self.recorder.acknowledged) + count
        async with asyncio.timeout(30):
            while len(self.recorder.acknowledged) < target:
                await asyncio.sleep(PAUSE)

    async def _client(self, client: int) -> None:
        while not self._enough.is_set():
            node = self._chance.choice(self.cluster.nodes)
            key = f"{self.kills}-{self._chance.randrange(KEYS)}"
            asked = self._about(key)
            try:
                if isinstance(asked, Map.Get):
                    self._known[key] = await self.recorder.query(node, asked, client=client)
                else:
                    await self.recorder.execute(node, asked, client=client)
            except MosaikError:
                await asyncio.sleep(PAUSE)

    def _about(self, key: str) -> Any:
        self._number += 1
        chance = self._chance.random()
        if chance < 0.4:
            return Map.Get(key)
        if chance < 0.7:
            return Map.Exchange(key, self._known.get(key), str(self._number))
        return Map.Insert(key, str(self._number))


async def run(backend: str, kills: int, seed: int, directory: Path) -> dict[str, int]:
    """One round: load and kills, then everything is read again.

    Returns:
        What was counted.

    Raises:
        AcknowledgedLost: an acknowledged command is not there. NotLinearizable: clients were told what cannot
            be. Vacuous: too little happened to show anything.
    """
    async with Cluster(directory, storage=backend, consensus=FAST) as cluster:
        await cluster.online()
        killing = Kills(cluster, seed)
        await killing.run(kills)
        recorder = killing.recorder
        last = max(each.index for each in recorder.acknowledged)
        await cluster.kill()
        await cluster.start()  # cold: what they hold is what their disks hold
        for node in cluster.nodes:
            await node.reaches(last)
        await _reads_all(recorder, cluster.nodes)
    assert_nothing_lost(recorder.acknowledged, await cluster.logs(MACHINE.command_type))
    operations = recorder.history.operations()
    require_telling(operations, killing.changes, reads=is_read, exchanges=is_exchange)
    assert_linearizable(operations, MapEntry())
    stale = with_stale_read(operations, reads=is_read, written=inserted)
    if not check_linearizable(stale, MapEntry()):
        raise AssertionError("the checker let a read pass that was made stale")
    return {
        "kills": killing.kills,
        "leaders killed": len(killing.changes),
        "acknowledged": len(recorder.acknowledged),
        "operations": len(operations),
        "unknown": sum(each.ended is None for each in operations),
    }


async def _reads_all(recorder: Recorder, nodes: tuple[ClusterNode, ...]) -> None:
    """Reads every key once more through each node: the history ends with what is there now."""
    keys = sorted({str(each.key) for each in recorder.history.operations()})
    for node in nodes:
        for key in keys:
            await recorder.query(node, Map.Get(key), client=node.name)


def main(arguments: list[str] | None = None) -> int:
    """Runs one round and prints what was counted."""
    parser = argparse.ArgumentParser(prog="python -m tests.processes.kills")
    parser.add_argument("backend")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mosaik-kills-") as directory:
        found = asyncio.run(run(options.backend, options.kills, options.seed, Path(directory)))
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
