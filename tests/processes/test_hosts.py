"""Three hosts on a switch, and a wire that is really pulled."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from mosaik.machines import Map
from mosaik.primitives.errors import ConfigError
from mosaik.storage import list_backends
from mosaik.testing import Cluster, Hosts, Recorder, RequestFailed, assert_nothing_lost

FAST = {
    "bootstrap_delay": 0.3,
    "heartbeat_interval": 0.1,
    "election_timeout": 0.5,
    "election_timeout_jitter": 0.2,
    "forward_timeout": 1.0,
    "query_timeout": 1.0,
}


@pytest.fixture
def hosts() -> Generator[Hosts]:
    row = next(each for each in list_backends() if each.scheme == "sqlite")
    if not row.importable:
        pytest.skip(row.problem)
    made = Hosts(3)
    try:
        made.__enter__()
    except ConfigError as error:
        pytest.skip(str(error))
    with made._made:
        yield made


async def test_a_leader_whose_wire_is_pulled_acknowledges_nothing(
    tmp_path: Path, hosts: Hosts
) -> None:
    recorder = Recorder()
    async with Cluster(tmp_path, storage="sqlite", consensus=FAST, hosts=hosts) as cluster:
        await cluster.online()
        leader = await cluster.leader()
        others = [node for node in cluster.nodes if node is not leader]
        await recorder.execute(leader, Map.Insert("a", "before"))
        seen = leader.seen
        hosts.unplug(leader)
        doomed = asyncio.ensure_future(recorder.execute(leader, Map.Insert("a", "lost?")))
        successor = await cluster.leader(among=others)
        await recorder.execute(successor, Map.Insert("a", "after"))
        await leader.until("offline", after=seen)
        with pytest.raises(RequestFailed) as error:
            await doomed
        assert error.value.kind == "OutcomeUnknown"
        hosts.plug(leader)
        await leader.until("online", after=seen)
        assert await recorder.query(leader, Map.Get("a")) == "after"
        for node in cluster.nodes:
            await node.reaches(recorder.acknowledged[-1].index)
    assert len(recorder.acknowledged) == 2
    assert_nothing_lost(recorder.acknowledged, await cluster.logs(Map(str, str).command_type))


def test_nothing_is_left_of_the_hosts(hosts: Hosts) -> None:
    def namespaces() -> str:
        return subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout

    assert all(host.namespace in namespaces() for host in hosts)
    hosts._made.close()
    assert not any(host.namespace in namespaces() for host in hosts)


def test_what_cannot_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="3 nodes need 3 hosts"):
        Cluster(tmp_path, hosts=Hosts(2))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="the command `ip`"):
        Hosts(1).__enter__()
