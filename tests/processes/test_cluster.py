"""Real nodes: killed, frozen, restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mosaik.machines import Map
from mosaik.testing import Cluster, ProcessEnded, read_log

FAST = {
    "bootstrap_delay": 0.3,
    "heartbeat_interval": 0.1,
    "election_timeout": 0.5,
    "election_timeout_jitter": 0.2,
}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path, nodes=3, storage="sqlite", consensus=FAST) as cluster:
        yield cluster


async def test_a_command_given_to_one_node_is_read_from_every_other(cluster: Cluster) -> None:
    await cluster.online()
    for number, node in enumerate(cluster.nodes):
        await node.execute(Map.Insert(f"key-{number}", node.name))
    expected = {f"key-{number}": node.name for number, node in enumerate(cluster.nodes)}
    for node in cluster.nodes:
        assert await node.query(Map.Items()) == expected


async def test_a_killed_leader_is_replaced_and_comes_back_with_everything(cluster: Cluster) -> None:
    leader = await cluster.leader()
    index, _ = await leader.execute(Map.Insert("colour", "red"))
    await leader.kill()
    successor = await cluster.leader()
    assert successor is not leader
    assert await successor.query(Map.Get("colour")) == "red"
    await leader.start()
    await leader.until("online")
    assert await leader.query(Map.Get("colour")) == "red"
    assert (await leader.status())["committed"] >= index


async def test_a_frozen_leader_is_replaced_and_follows_when_it_thaws(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await leader.execute(Map.Insert("colour", "red"))
    others = [node for node in cluster.nodes if node is not leader]
    leader.pause()
    successor = await cluster.leader(among=others)
    await successor.execute(Map.Insert("colour", "blue"))
    leader.resume()
    assert await leader.query(Map.Get("colour")) == "blue"


async def test_all_killed_at_once_come_back_with_equal_logs(cluster: Cluster) -> None:
    leader = await cluster.leader()
    for number in range(20):
        await leader.execute(Map.Insert(f"key-{number}", "x"))
    await cluster.kill()
    await cluster.start()
    await cluster.online()
    for node in cluster.nodes:
        assert len(await node.query(Map.Items())) == 20
    await cluster.kill()
    command = Map(str, str).command_type
    logs = [
        read_log("sqlite", data_dir=node.data_dir, command_type=command) for node in cluster.nodes
    ]
    assert logs[0] == logs[1] == logs[2]
    keys = [entry.command.key for entry in logs[0] if entry.kind.name == "COMMAND"]
    assert keys == [f"key-{number}" for number in range(20)]


async def test_a_clean_stop_has_exit_status_zero(cluster: Cluster) -> None:
    await cluster.online()
    assert [await node.process.stop() for node in cluster.nodes] == [0, 0, 0]


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    async with Cluster(tmp_path / "one", nodes=1, consensus=FAST) as first:
        second = Cluster(tmp_path / "two", nodes=1, consensus=FAST)
        second.nodes[0].settings["network"]["listen"] = first.nodes[0].address
        with pytest.raises(ProcessEnded, match=r"BindError|in use"):
            await second.start()


async def test_a_data_directory_in_use_is_named(tmp_path: Path) -> None:
    async with Cluster(tmp_path, nodes=1, consensus=FAST):
        second = Cluster(tmp_path, nodes=1, consensus=FAST)
        with pytest.raises(ProcessEnded, match="is in use by process"):
            await second.start()


async def test_nodes_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from mosaik.testing import Cluster\n"
        "async def main():\n"
        f"    async with Cluster({str(tmp_path)!r}, nodes=1) as cluster:\n"
        "        print(cluster.nodes[0].process.pid, flush=True)\n"
        "        cluster.nodes[0].pause()\n"
        "        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        fd = os.pidfd_open(pid)
        try:
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            died = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().add_reader(fd, died.set_result, None)
            async with asyncio.timeout(10):
                await died
            asyncio.get_running_loop().remove_reader(fd)
        finally:
            os.close(fd)


@pytest.mark.parametrize("storage", ["sqlite", "lmdb", "rocksdb"])
async def test_a_changed_parameter_over_an_existing_log_is_named(
    tmp_path: Path, storage: str
) -> None:
    async with Cluster(tmp_path, nodes=1, storage=storage, consensus=FAST) as cluster:
        await cluster.online()
        await cluster.nodes[0].execute(Map.Insert("colour", "red"))
        await cluster.stop()
    changed = Cluster(
        tmp_path, nodes=1, storage=storage, consensus={**FAST, "election_timeout": 0.7}
    )
    try:
        await changed.start()
        with pytest.raises(ProcessEnded, match=r"election_timeout.*0\.5.*0\.7"):
            await changed.nodes[0].until("online")
        assert changed.nodes[0].process.exit_status == 1
    finally:
        await changed.kill()
    async with Cluster(tmp_path, nodes=1, storage=storage, consensus=FAST) as cluster:
        await cluster.online()
        assert await cluster.nodes[0].query(Map.Get("colour")) == "red"
