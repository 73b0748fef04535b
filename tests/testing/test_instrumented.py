"""Real nodes whose wires are cut and whose disks fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mosaik.machines import Counter, Map
from mosaik.primitives.errors import ConfigError
from mosaik.storage import list_backends
from mosaik.testing import (
    Cluster,
    ClusterNode,
    ProcessEnded,
    Recorder,
    ReplicasDiffer,
    RequestFailed,
    assert_nothing_lost,
    assert_replicas_agree,
)
from mosaik.testing import instruments as instruments_module

FAST: dict[str, Any] = {
    "bootstrap_delay": 0.3,
    "heartbeat_interval": 0.1,
    "election_timeout": 0.5,
    "election_timeout_jitter": 0.2,
    "forward_timeout": 1.0,
    "query_timeout": 1.0,
}
COMMANDS = Map(str, str).command_type


@pytest.fixture(autouse=True)
def sqlite() -> None:
    row = next(each for each in list_backends() if each.scheme == "sqlite")
    if not row.importable:
        pytest.skip(row.problem)


def made(directory: Path, **options: Any) -> Cluster:
    return Cluster(directory, consensus=FAST, instrumented=True, **options)


async def require_all_there(cluster: Cluster, recorder: Recorder) -> None:
    for node in cluster.nodes:
        await node.reaches(recorder.acknowledged[-1].index)
    assert await assert_replicas_agree(cluster) >= len(recorder.acknowledged)
    assert await assert_replicas_agree(cluster.nodes[:2]) >= len(recorder.acknowledged)
    await cluster.kill()
    assert_nothing_lost(recorder.acknowledged, await cluster.logs(COMMANDS))


async def led_by_another(cluster: Cluster, others: Sequence[ClusterNode]) -> ClusterNode:
    leader = await cluster.leader(among=others)
    assert leader in others
    return leader


async def test_a_leader_that_is_cut_off_acknowledges_nothing(tmp_path: Path) -> None:
    recorder = Recorder()
    async with made(tmp_path) as cluster:
        await cluster.online()
        leader = await cluster.leader()
        others = [node for node in cluster.nodes if node is not leader]
        await recorder.execute(leader, Map.Insert("a", "before"))
        seen = leader.seen
        cluster.partition([leader], others)
        doomed = asyncio.ensure_future(recorder.execute(leader, Map.Insert("a", "lost?")))
        successor = await led_by_another(cluster, others)
        await recorder.execute(successor, Map.Insert("a", "after"))
        await leader.until("offline", after=seen)
        with pytest.raises(RequestFailed) as error:
            await doomed
        assert error.value.kind == "OutcomeUnknown"
        cluster.heal()
        await leader.until("online", after=seen)
        assert await recorder.query(leader, Map.Get("a")) == "after"
        await require_all_there(cluster, recorder)


async def test_what_one_node_says_to_another_may_be_cut_alone(tmp_path: Path) -> None:
    """A follower that hears the leader and is not heard does not count; the third one does."""
    recorder = Recorder()
    async with made(tmp_path) as cluster:
        await cluster.online()
        leader = await cluster.leader()
        follower, third = [node for node in cluster.nodes if node is not leader]
        cluster.cut(follower, leader)
        await recorder.execute(leader, Map.Insert("a", "1"))
        await third.kill()
        with contextlib.suppress(RequestFailed):
            await recorder.execute(leader, Map.Insert("a", "2"), client="nobody hears")
        assert len(recorder.acknowledged) == 1, "one of three is no majority"
        cluster.heal()
        await third.start()
        await cluster.leader()
        await cluster.online()
        await recorder.execute(third, Map.Insert("a", "3"))
        await require_all_there(cluster, recorder)


async def test_a_sync_that_fails_takes_nothing_with_it(tmp_path: Path) -> None:
    recorder = Recorder()
    async with made(tmp_path) as cluster:
        await cluster.online()
        for node in cluster.nodes:
            await recorder.execute(node, Map.Insert(node.name, "before"))
            seen = node.seen
            cluster.disk(node).fail_sync()
            with contextlib.suppress(RequestFailed):
                await recorder.execute(node, Map.Insert(node.name, "during"))
            await node.until("offline", after=seen)
            await node.until("online", after=seen)
            await recorder.execute(node, Map.Insert(node.name, "after"))
        await require_all_there(cluster, recorder)


async def test_a_disk_that_keeps_failing_ends_the_node_which_goes_on_from_it(
    tmp_path: Path,
) -> None:
    recorder = Recorder()
    async with made(tmp_path, nodes=1) as cluster:
        (node,) = cluster.nodes
        await cluster.leader()
        await recorder.execute(node, Map.Insert("a", "before"))
        cluster.disk(node).fail_sync(3)
        with pytest.raises((RequestFailed, ProcessEnded)):
            await recorder.execute(node, Map.Insert("a", "during"))
        assert await node.process.wait() == 1
        assert cluster.disk(node).failed == 3
        await node.start()
        await cluster.leader()
        await recorder.execute(node, Map.Insert("a", "after"))
        with pytest.raises(ValueError, match="no two nodes"):
            await assert_replicas_agree(cluster)
        await cluster.kill()
        assert_nothing_lost(recorder.acknowledged, await cluster.logs(COMMANDS))


async def test_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    recorder = Recorder()
    async with made(tmp_path, nodes=1) as cluster:
        (node,) = cluster.nodes
        await cluster.leader()
        await recorder.execute(node, Map.Insert("a", "1"))
        cluster.disk(node).fill()
        with pytest.raises(RequestFailed):
            await recorder.execute(node, Map.Insert("a", "2"))
        cluster.disk(node).heal()
        await node.until("online")
        while True:
            with contextlib.suppress(RequestFailed):
                await recorder.execute(node, Map.Insert("a", "3"))
                break
        await node.reaches(recorder.acknowledged[-1].index)
        await cluster.kill()
        assert_nothing_lost(recorder.acknowledged, await cluster.logs(COMMANDS))


async def test_a_slow_disk_is_slow(tmp_path: Path) -> None:
    async with made(tmp_path, nodes=1) as cluster:
        (node,) = cluster.nodes
        await cluster.leader()
        cluster.disk(node).slow(0.3)
        began = asyncio.get_running_loop().time()
        await node.execute(Map.Insert("a", "1"))
        assert asyncio.get_running_loop().time() - began >= 0.3


async def test_a_cluster_that_does_not_start_leaves_nothing_open(tmp_path: Path) -> None:
    cluster = made(tmp_path, nodes=1, machine="nowhere:Nothing")
    with pytest.raises(ProcessEnded, match="'nowhere:Nothing' cannot be made"):
        await cluster.__aenter__()
    host, _, port = cluster.addresses[0].rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_replicas_part_by_the_order_of_a_set_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    (tmp_path / "shuffled.py").write_text(
        "from mosaik.machines import Counter\n"
        "class Shuffled(Counter):\n"
        "    def apply(self, command, context):\n"
        "        if command.by == 7:\n"
        "            self.order = list({str(n) for n in range(20)})\n"
        "        return super().apply(command, context)\n"
    )
    async with made(tmp_path, nodes=3, machine="shuffled:Shuffled", path=[tmp_path]) as cluster:
        leader = await cluster.leader()
        await cluster.online()
        await leader.execute(Counter.Increment(1))
        assert await assert_replicas_agree(cluster) == 1
        index, _ = await leader.execute(Counter.Increment(7))
        await leader.execute(Counter.Increment(2))
        await leader.restart()  # and replays what it applied
        with pytest.raises(ReplicasDiffer) as error:
            await assert_replicas_agree(cluster)
    assert (error.value.index, error.value.parts) == (index, ["order"])
    assert f"the replicas part at entry {index}, _Increment(by=7): " in str(error.value)


def test_a_cluster_without_instruments_says_what_to_do(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    for asked in (cluster.heal, lambda: cluster.disk(cluster.nodes[0])):
        with pytest.raises(ConfigError, match="instrumented=True"):
            asked()


async def test_a_system_without_the_addresses_is_told_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(number: int) -> str:
        return f"192.0.2.{number}"

    monkeypatch.setattr(instruments_module, "source_of", elsewhere)
    with pytest.raises(ConfigError, match=r"needs the address 192\.0\.2\.1.*add it"):
        await made(tmp_path).start()
