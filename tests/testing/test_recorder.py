"""The recorder keeps what was done, leaves open what nobody knows, and drops what was not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mosaik.machines import Map
from mosaik.primitives.errors import MosaikError, Offline, OutcomeUnknown
from mosaik.testing import Acknowledged, Cluster, ClusterNode, NotRunning, Recorder, RequestFailed
from mosaik.testing.linearizability import UNKNOWN, MapEntry, assert_linearizable

SET = Map.Insert("colour", "red")
GET = Map.Get("colour")


class Node(ClusterNode):
    """Answers what it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def execute(self, command: Any, *, timeout: float = 0) -> tuple[int, Any]:
        answer: tuple[int, Any] = await self._answer()
        return answer

    async def query(self, query: Any, *, strong: bool = True, timeout: float = 0) -> Any:
        return await self._answer()

    async def _answer(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


async def test_what_was_done_is_kept_with_where() -> None:
    recorder = Recorder()
    assert await recorder.execute(Node((7, None)), SET, client="anna") is None
    assert await recorder.query(Node("red"), GET) == "red"
    write, read = recorder.history.operations()
    assert (write.key, write.input, write.output, write.client) == ("colour", SET, None, "anna")
    assert (read.input, read.output) == (GET, "red")
    assert recorder.acknowledged == [Acknowledged(7, SET)]
    assert_linearizable([write, read], MapEntry())


@pytest.mark.parametrize(
    "error",
    [
        OutcomeUnknown("the leader is gone"),
        RequestFailed("OutcomeUnknown: the leader is gone"),
        RequestFailed("GroupTerminated: it ended"),
        asyncio.CancelledError(),
    ],
)
async def test_what_nobody_knows_stays_open(error: BaseException) -> None:
    recorder = Recorder()
    with pytest.raises(type(error)):
        await recorder.execute(Node(error), SET)
    (operation,) = recorder.history.operations()
    assert operation.output is UNKNOWN
    assert operation.ended is None
    assert recorder.acknowledged == []


@pytest.mark.parametrize(
    "error",
    [Offline("no leader", []), RequestFailed("Offline: no leader"), NotRunning("there is none")],
)
async def test_what_was_certainly_not_done_is_dropped(error: MosaikError) -> None:
    recorder = Recorder()
    with pytest.raises(type(error)):
        await recorder.execute(Node(error), SET)
    assert recorder.history.operations() == []


async def test_a_read_that_failed_is_dropped() -> None:
    recorder = Recorder()
    with pytest.raises(OutcomeUnknown):
        await recorder.query(Node(OutcomeUnknown("?")), GET)
    assert recorder.history.operations() == []


async def test_keys_may_be_told() -> None:
    recorder = Recorder(key_of=lambda asked: asked.key[0])
    await recorder.execute(Node((1, None)), SET)
    assert recorder.history.operations()[0].key == "c"
    recorder = Recorder()
    await recorder.execute(Node((1, 0)), Map.Clear())
    assert recorder.history.operations()[0].key is None


async def test_a_node_that_does_not_run_was_asked_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, nodes=1)
    recorder = Recorder()
    with pytest.raises(NotRunning, match="not there to be asked for 'execute'"):
        await recorder.execute(cluster.nodes[0], SET)
    assert recorder.history.operations() == []
