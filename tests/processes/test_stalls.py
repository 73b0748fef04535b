"""No event loop stands still: not over a million entries, not over ten thousand commands at once."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

import pytest

from mosaik.groups import GroupKey
from mosaik.storage import list_backends
from mosaik.testing import Cluster
from tests.processes.batches import BATCH, Outcome, Settings, give_batches
from tests.processes.loopwatch import LoopWatch, Stall, worst
from tests.processes.replay import (
    KEYS,
    ROUNDS,
    STALL,
    Replay,
    best_replay,
    cluster_of_one,
    prepare,
    replay,
    stalls_of,
)
from tests.processes.watched import BLOCKING_KEY

MILLION = 1_000_000
#: A node that joins late is sent so many entries.
BEHIND = 200_000


@pytest.fixture(params=["sqlite", "lmdb", "rocksdb"])
def backend(request: pytest.FixtureRequest) -> str:
    row = next(each for each in list_backends() if each.scheme == request.param)
    if not row.importable:
        pytest.skip(row.problem)
    return row.scheme


# -- a long log -------------------------------------------------------------------------------------


async def test_a_million_entries_are_replayed_and_the_loop_turns(
    tmp_path: Path, backend: str
) -> None:
    async with cluster_of_one(tmp_path, backend) as cluster:
        (node,) = cluster.nodes
        await prepare(node, MILLION)
        found = await best_replay(node, MILLION)
    assert found.stall <= STALL, found


async def test_a_member_that_comes_late_is_sent_the_log_and_both_loops_turn(
    tmp_path: Path,
) -> None:
    async with cluster_of_one(tmp_path, "sqlite") as cluster:
        (node,) = cluster.nodes
        await prepare(node, BEHIND)
        await replay(node, BEHIND)

        async def catch_up() -> list[Stall]:
            await stalls_of(node, forget=True)
            outcome = await give_batches(observing(cluster, behind=BEHIND), tmp_path / "late.log")
            return [outcome.joining, outcome.giving, *await stalls_of(node)]

        await require_turning(catch_up)


# -- many commands at once --------------------------------------------------------------------------


async def test_ten_thousand_commands_at_once_in_a_group_of_three(
    tmp_path: Path, backend: str
) -> None:
    cluster = Cluster(
        tmp_path,
        storage=backend,
        consensus={"bootstrap_delay": 0.3},
        machine="tests.processes.watched:watched_map",
    )
    async with cluster:
        await cluster.online()

        async def give() -> list[Stall]:
            for node in cluster.nodes:
                await stalls_of(node, forget=True)
            outcome = await give_batches(observing(cluster), tmp_path / "giving.log")
            require_done(outcome)
            stalls = [outcome.giving]
            for node in cluster.nodes:
                await node.reaches(outcome.last)
                stalls += await stalls_of(node)
            return stalls

        await require_turning(give)


async def test_ten_thousand_commands_at_once_in_a_group_of_one(
    tmp_path: Path, backend: str
) -> None:
    key_file = tmp_path / "group.key"
    GroupKey.generate().write_file(key_file)
    settings = Settings(
        network="alone",
        key_file=str(key_file),
        consensus={"bootstrap_delay": 0.1},
        storage=backend,
        data_dir=str(tmp_path / "node"),
    )

    async def give() -> list[Stall]:
        outcome = await give_batches(settings, tmp_path / "giving.log")
        require_done(outcome)
        return [outcome.giving]

    await require_turning(give)


def observing(cluster: Cluster, behind: int = 0) -> Settings:
    """What a process is told that gives its commands to a cluster from outside."""
    return Settings(
        network=cluster.network,
        key_file=str(cluster.directory / "group.key"),
        consensus=dict(cluster.settings),
        bootstrap=list(cluster.addresses),
        behind=behind,
    )


def require_done(outcome: Outcome) -> None:
    assert outcome.size == BATCH
    assert outcome.last >= BATCH


async def require_turning(attempt: Callable[[], Awaitable[list[Stall]]]) -> None:
    """No loop stands still for too long, in the best of several rounds."""
    found = [worst(await attempt())]
    while found[-1].seconds > STALL and len(found) < ROUNDS:
        found.append(worst(await attempt()))
    assert min(found).seconds <= STALL, found


# -- the watch sees what it is there for ------------------------------------------------------------


async def test_one_command_that_blocks_a_replay_is_noticed(tmp_path: Path) -> None:
    found = await replayed(tmp_path, 3 * KEYS, "blocking_map", BLOCKING_KEY)
    assert found.applying.seconds > STALL
    assert found.applying.progress >= KEYS, "it stands in the middle of the log"


async def test_a_replay_in_one_go_is_noticed(tmp_path: Path) -> None:
    found = await replayed(tmp_path, 5 * KEYS, "unsliced_map")
    assert found.applying.seconds > 3 * STALL


async def replayed(directory: Path, length: int, machine: str, blocking: str = "") -> Replay:
    async with cluster_of_one(directory, "sqlite", machine) as cluster:
        (node,) = cluster.nodes
        await prepare(node, length, blocking=blocking)
        return await replay(node, length)


def sleep() -> None:
    time.sleep(0.02)


def collect() -> None:
    """A garbage collection that has much to walk."""
    kept = [[number] for number in range(1_000_000)]
    gc.collect()
    assert kept


def keep_the_interpreter() -> None:
    """Another thread that lets nobody else run: one call of a built-in function."""
    threading.Thread(target=lambda: sum(range(10_000_000))).start()


@pytest.mark.parametrize("blocks", [sleep, collect, keep_the_interpreter])
async def test_a_watch_sees_what_keeps_its_loop(blocks: Callable[[], None]) -> None:
    watch = LoopWatch()
    await asyncio.sleep(0)  # it has begun
    blocks()
    await asyncio.sleep(0.1)
    watch.close()
    assert worst(watch.stalls()).seconds > STALL


@pytest.mark.skipif(
    not Path("/proc/thread-self/schedstat").exists(), reason="this kernel keeps no accounts"
)
async def test_a_watch_takes_off_the_wait_for_a_core() -> None:
    """Four busy processes share the loop's only core: a callback of a few milliseconds takes long."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    rivals = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        watch = LoopWatch()
        for _ in range(50):
            spent = time.thread_time() + 0.004
            while time.thread_time() < spent:
                pass
            await asyncio.sleep(0)
        watch.close()
    finally:
        os.sched_setaffinity(0, allowed)
        for rival in rivals:
            rival.kill()
            rival.wait()
    stalls = watch.stalls()
    assert median(stall.elapsed for stall in stalls) > STALL, stalls
    assert median(stall.seconds for stall in stalls) <= STALL, stalls
