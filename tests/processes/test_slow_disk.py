"""A disk whose every sync takes 200 ms slows commands down, and stalls no event loop."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from mosaik.groups.config import Observer
from mosaik.machines import Map
from mosaik.network import Network
from mosaik.storage import list_backends
from mosaik.testing import Cluster

#: Seconds that each fdatasync takes, and that an event loop may stand still.
SYNC = 0.2
STALL = 0.010
WINDOWS = 10

SLOW = [
    *("strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"),
    *("-e", "trace=fdatasync,fsync"),
    *("-e", f"inject=fdatasync,fsync:delay_enter={SYNC * 1000:.0f}ms"),
]


def can_trace() -> bool:
    """Whether strace is there and allowed to do this."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run([*SLOW, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_trace(), reason="strace is missing, or may not trace here")
@pytest.mark.parametrize("backend", ["sqlite", "lmdb", "rocksdb"])
async def test_no_event_loop_waits_for_the_disk(tmp_path: Path, backend: str) -> None:
    row = next(each for each in list_backends() if each.scheme == backend)
    if not row.importable:
        pytest.skip(row.problem)
    consensus = {"bootstrap_delay": 0.3}
    async with Cluster(tmp_path, storage=backend, consensus=consensus, wrapper=SLOW) as cluster:
        await cluster.online()
        stalls: list[float] = []
        # Another program on this machine may keep a node off its core for longer than that, now and
        # then; a loop that waits for the disk waits in every window.
        for _ in range(WINDOWS):
            worst, latency = await under_load(cluster, seconds=2.0)
            assert latency >= SYNC, "the syncs were not slowed down, so this shows nothing"
            stalls.append(worst)
            if worst <= STALL:
                break
    assert min(stalls) <= STALL, stalls


async def under_load(cluster: Cluster, seconds: float) -> tuple[float, float]:
    """The longest stall of any node while commands come in, and the quickest command."""
    async with Network(cluster.network, bootstrap=cluster.addresses) as network:
        builder = network.groups().with_key(cluster.key).with_state_machine(Map(str, str))
        config = cluster.consensus.with_leadership(Observer())
        async with builder.with_consensus_config(config).join() as group:
            await group.when().online()
            loop = asyncio.get_running_loop()
            quickest = float("inf")

            async def client(number: int) -> None:
                nonlocal quickest
                while not watching.done():
                    started = loop.time()
                    await group.execute(Map.Insert(f"key-{number}", "x" * 100))
                    quickest = min(quickest, loop.time() - started)

            watching = asyncio.gather(*(node.longest_stall(seconds) for node in cluster.nodes))
            async with asyncio.TaskGroup() as clients:
                for number in range(64):
                    clients.create_task(client(number))
            return max(await watching), quickest


async def test_a_loop_that_is_blocked_is_noticed(tmp_path: Path) -> None:
    machine = "tests.processes.blocking:blocking_map"
    consensus = {"bootstrap_delay": 0.3}
    async with Cluster(
        tmp_path, nodes=1, storage="memory", consensus=consensus, machine=machine
    ) as cluster:
        await cluster.online()
        node = cluster.nodes[0]
        watching = asyncio.create_task(node.longest_stall(1.0))
        await asyncio.sleep(0)  # its request goes first
        await node.execute(Map.Insert("key", "value"))
        assert await watching > STALL
