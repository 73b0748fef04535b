"""The demo's client: what it sends again, what it never sends again, and what it notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from mosaik.demo.load import Load
from mosaik.demo.records import Record, generations
from mosaik.groups import Pending
from mosaik.primitives.cursor import Applied
from mosaik.primitives.errors import ApplyError, MosaikError, Offline, OutcomeUnknown

Answer = Callable[[int, str], Applied[Any] | MosaikError]


class ScriptedGroup:
    """A group whose answers are scripted; counts how often each key was sent."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.sent: list[str] = []
        self.most = self._open = 0

    def execute(self, command: Any) -> Pending[Applied[Any]]:
        self.sent.append(command.key)
        self._open += 1
        self.most = max(self.most, self._open)
        pending: Pending[Applied[Any]] = Pending()
        asyncio.get_running_loop().call_soon(self._settle, pending, len(self.sent), command.key)
        return pending

    def _settle(self, pending: Pending[Applied[Any]], number: int, key: str) -> None:
        self._open -= 1
        answer = self._answer(number, key)
        if isinstance(answer, MosaikError):
            pending.set_exception(answer)
        else:
            pending.set_result(answer)

    def when(self) -> ScriptedGroup:
        return self

    def online(self) -> Pending[bool]:
        return self.changed()

    def log(self) -> ScriptedGroup:
        return self

    def changed(self) -> Pending[bool]:
        pending: Pending[bool] = Pending()
        pending.set_result(True)
        return pending


async def replicate(
    answer: Answer, *, rounds: int = 1, window: int = 4
) -> tuple[Load, ScriptedGroup]:
    group = ScriptedGroup(answer)
    records = [Record(f"k{number}", "v") for number in range(10)]
    acknowledged = 0

    def progress() -> None:
        nonlocal acknowledged
        acknowledged += 1
        if acknowledged > 10 * (rounds - 1):
            load.enough()

    load = Load(cast("Any", group), generations(records), window=window, on_progress=progress)
    await load.run()
    return load, group


async def test_each_record_is_sent_once_and_acknowledged() -> None:
    load, group = await replicate(lambda number, _: Applied(number, None))
    assert len(group.sent) == len(set(group.sent)) == 10
    assert load.ledger.acknowledged.keys() == load.ledger.sent.keys()
    assert group.most == 4
    assert load.in_flight == 0


async def test_a_begun_generation_is_finished() -> None:
    load, _ = await replicate(lambda number, _: Applied(number, None), rounds=3)
    assert len(load.ledger.acknowledged) == 30


async def test_what_is_certainly_not_done_is_sent_again() -> None:
    load, group = await replicate(
        lambda number, _: Offline("no leader") if number in {2, 3, 7} else Applied(number, None)
    )
    assert len(group.sent) == 13
    assert load.ledger.resent == 3
    assert len(load.ledger.acknowledged) == 10


async def test_what_is_unknown_is_never_sent_again() -> None:
    load, group = await replicate(
        lambda number, _: OutcomeUnknown("gone") if number == 5 else Applied(number, None)
    )
    assert len(group.sent) == 10
    assert load.ledger.unknown == {group.sent[4]}
    assert not load.ledger.unknown & load.ledger.acknowledged.keys()


async def test_a_command_that_was_done_before_is_noticed() -> None:
    load, group = await replicate(lambda number, _: Applied(number, "v" if number == 4 else None))
    assert load.ledger.twice == [group.sent[3]]


async def test_anything_else_ends_the_run() -> None:
    with pytest.raises(ApplyError):
        await replicate(lambda number, _: ApplyError("broken", index=number))
