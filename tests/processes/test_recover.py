"""Two of three disks are lost: one node goes on with what it has, and an old voter is not heard."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from mosaik.machines import Map
from mosaik.storage import list_backends
from mosaik.storage.recovery import apply_plan, make_plan
from mosaik.testing import Cluster, ProcessEnded, RequestFailed

FAST = {
    "bootstrap_delay": 0.3,
    "heartbeat_interval": 0.1,
    "election_timeout": 0.5,
    "election_timeout_jitter": 0.2,
}


async def test_one_of_three_goes_on_and_the_others_join_it(tmp_path: Path) -> None:
    row = next(each for each in list_backends() if each.scheme == "sqlite")
    if not row.importable:
        pytest.skip(row.problem)
    cluster = Cluster(tmp_path / "cluster", storage="sqlite", consensus=FAST)
    left, second, third = cluster.nodes
    async with cluster:
        await cluster.online()
        last = 0
        for number in range(20):
            last, _ = await left.execute(Map.Insert(f"key-{number}", str(number)))
        for node in cluster.nodes:
            await node.reaches(last)
        await cluster.kill()
    kept = tmp_path / "kept"
    no_socket = shutil.ignore_patterns("*.sock")
    shutil.copytree(third.data_dir, kept, ignore=no_socket)  # it will turn up again
    for node in (second, third):
        for file in node.data_dir.glob("sqlite.db*"):
            file.unlink()

    url = f"sqlite://{left.data_dir}/sqlite.db"
    plan = await asyncio.to_thread(make_plan, [url])
    assert len(plan.lost) == 2
    assert await asyncio.to_thread(apply_plan, plan, url)

    async with cluster:  # the disks of the others are new and empty
        leader = await cluster.leader()
        assert leader is left
        assert await left.query(Map.Get("key-19")) == "19"
        last, _ = await left.execute(Map.Insert("after", "all"))
        for node in (second, third):
            await node.reaches(last)
            assert await node.query(Map.Get("key-7")) == "7"

        # A voter of the old history comes back with its disk.
        await third.kill()
        shutil.rmtree(third.data_dir)
        shutil.copytree(kept, third.data_dir)
        await third.start()
        last, _ = await left.execute(Map.Insert("still", "there"))
        with pytest.raises((RequestFailed, ProcessEnded)):
            await third.execute(Map.Insert("from", "the past"), timeout=4.0)
        assert await left.query(Map.Get("from")) is None
        await told(cluster.directory / f"{third.name}.log", "given up by `mosaik recover`")


async def told(log: Path, text: str) -> None:
    """Waits until a node has told its people something; there is no event of it."""
    async with asyncio.timeout(20):
        while text not in log.read_text():
            await asyncio.sleep(0.05)
