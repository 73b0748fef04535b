"""A node that finds a million committed commands in its log, and how long its event loop stands still.

``python -m tests.processes.replay BACKEND`` says what it saw; ``make soak PART=stalls`` does so with more.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from mosaik.machines import Map
from mosaik.testing import Cluster, ClusterNode
from tests.processes.long_log import lengthen
from tests.processes.loopwatch import Stall, worst
from tests.processes.watched import Stalls

__all__ = [
    "KEYS",
    "ROUNDS",
    "STALL",
    "Replay",
    "best_replay",
    "cluster_of_one",
    "prepare",
    "replay",
    "stalls_of",
]

#: Seconds for which an event loop may stand still.
STALL: Final = 0.010
#: The host of a virtual machine may stop all of it for a while, now and then. What the code does to its
#: loop it does every time, so that the best of several rounds tells; there is a second if the first was bad.
ROUNDS: Final = 8
#: Commands put a value under so many keys, over and over. (A dictionary of some hundred thousand keys
#: takes longer than `STALL` each time that it grows, which is Python's affair and the machine's.)
KEYS: Final = 10_000
#: The driver of RocksDB keeps the interpreter to itself while it opens a database, and with it waits the
#: loop. What comes after the opening counts there as everywhere.
_HELD_WHILE_OPENING: Final = "rocksdb"


class Replay(NamedTuple):
    """What one start of a node came to.

    Attributes:
        backend: what kept its log.
        seconds: how long it took until everything was applied.
        opening: the worst stall before the first command was applied.
        applying: the worst stall from then on.
    """

    backend: str
    seconds: float
    opening: Stall
    applying: Stall

    @property
    def stall(self) -> float:
        """The longest stall that is not the driver's, in seconds."""
        if self.backend == _HELD_WHILE_OPENING:
            return self.applying.seconds
        return max(self.opening, self.applying).seconds


def cluster_of_one(directory: Path, backend: str, machine: str = "watched_map") -> Cluster:
    """A node whose state machine is one of ``tests.processes.watched``."""
    return Cluster(
        directory,
        nodes=1,
        storage=backend,
        consensus={"bootstrap_delay": 0.1},
        machine=f"tests.processes.watched:{machine}",
    )


async def prepare(node: ClusterNode, length: int, *, blocking: str = "") -> None:
    """Founds the group of a node that runs alone, stops it, and makes its log so long.

    Args:
        blocking: a key that the command in the middle puts a value under.
    """
    await node.until("online")
    await node.execute(Map.Insert("key-0", "value"))
    await node.stop()
    insertions = [_encoded(f"key-{number}") for number in range(KEYS)]
    parts = [(length, insertions)]
    if blocking:
        middle = length // 2
        parts = [(middle, insertions), (middle + 1, [_encoded(blocking)]), *parts]
    for until, payloads in parts:
        await asyncio.to_thread(lengthen, node.storage, node.data_dir, until, payloads)


def _encoded(key: str) -> bytes:
    return msgspec.msgpack.encode(Map.Insert(key, "value"))


async def replay(node: ClusterNode, length: int) -> Replay:
    """Starts a prepared node and waits until it has applied its log."""
    began = time.monotonic()
    await node.start()
    await node.reaches(length, timeout=30 + length / 50_000)
    seconds = time.monotonic() - began
    stalls = await stalls_of(node)
    assert await node.query(Map.Size()) >= KEYS, "everything was applied"
    opening = worst(stall for stall in stalls if not stall.progress)
    applying = worst(stall for stall in stalls if stall.progress)
    return Replay(node.storage, seconds, opening, applying)


async def best_replay(node: ClusterNode, length: int) -> Replay:
    """Starts a prepared node until a replay goes well; the best of at most `ROUNDS`."""
    found = [await replay(node, length)]
    while found[-1].stall > STALL and len(found) < ROUNDS:
        await node.stop()
        found.append(await replay(node, length))
    return min(found, key=lambda each: each.stall)


async def stalls_of(node: ClusterNode, *, forget: bool = False) -> list[Stall]:
    """The longest stalls of a node's event loop so far."""
    answer: Any = await node.query(Stalls(forget), strong=False)
    return msgspec.convert(answer, list[Stall])


async def _once(backend: str, length: int) -> Replay:
    with tempfile.TemporaryDirectory(prefix="mosaik-replay-") as directory:
        async with cluster_of_one(Path(directory), backend) as cluster:
            (node,) = cluster.nodes
            await prepare(node, length)
            return await best_replay(node, length)


def main(arguments: list[str]) -> int:
    """Replays; the exit status tells whether the loop turned in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend")
    parser.add_argument("--length", type=int, default=1_000_000)
    given = parser.parse_args(arguments)
    found = asyncio.run(_once(given.backend, given.length))
    print(f"{found.backend}: {given.length} entries applied {found.seconds:.1f} s after the start")
    print(f"  worst while opening:  {found.opening}")
    print(f"  worst while applying: {found.applying}")
    return int(found.stall > STALL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
