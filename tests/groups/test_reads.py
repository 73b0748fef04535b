"""Strong queries: answered by a state that has applied what the leader confirmed, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

from mosaik.groups.outcome import Pending
from mosaik.groups.reads import Reads
from mosaik.primitives.errors import GroupTerminated, QueryOffline


class Scene:
    def __init__(self, kind: type[Reads] = Reads) -> None:
        self.state = 0
        self.reads = kind(self.answer, timeout=2.0)

    def answer(self, query: Any) -> Any:
        if query == "bad":
            raise KeyError(query)
        return self.state

    def ask(self, query: str = "?") -> Pending[Any]:
        pending: Pending[Any] = Pending(loop=asyncio.get_running_loop())
        self.reads.ask(query, pending)
        return pending


async def test_an_answer_waits_for_the_confirmed_index() -> None:
    scene = Scene()
    one = scene.ask()
    scene.reads.gather(1, now=0.0)
    scene.reads.applied(100)
    assert not one.done()  # not confirmed yet
    scene.reads.ready(1, index=5, applied=4)
    assert not one.done()  # confirmed, and not applied yet
    scene.state = 42
    scene.reads.applied(5)
    assert one.result() == 42


async def test_the_planted_bug_that_answers_before_it_applied_is_stale() -> None:
    class Hasty(Reads):
        def ready(self, token: int, index: int, applied: int) -> None:
            super().ready(token, 0, applied)

    scene = Scene(Hasty)
    one = scene.ask()
    scene.reads.gather(1, now=0.0)
    scene.reads.ready(1, index=5, applied=4)
    assert one.result() == 0  # what was acknowledged at 5 is missing


async def test_batches_are_confirmed_each_for_itself() -> None:
    scene = Scene()
    one, two = scene.ask(), scene.ask()
    scene.reads.gather(1, now=0.0)
    three = scene.ask()
    scene.reads.gather(2, now=1.0)
    scene.reads.refused(1, "no leader")
    assert isinstance(one.exception(), QueryOffline)
    assert isinstance(two.exception(), QueryOffline)
    scene.reads.ready(2, index=0, applied=0)
    assert three.result() == 0


async def test_patience_ends() -> None:
    scene = Scene()
    one = scene.ask("what")
    scene.reads.gather(1, now=10.0)
    assert scene.reads.deadline == 12.0
    scene.reads.expire(11.9)
    assert not one.done()
    scene.reads.expire(12.0)
    error = one.exception()
    assert isinstance(error, QueryOffline)
    assert error.query == "what"
    scene.reads.ready(1, index=0, applied=0)  # too late, and harmless


async def test_a_query_that_raises_fails_its_caller_only() -> None:
    scene = Scene()
    bad, good = scene.ask("bad"), scene.ask()
    scene.reads.gather(1, now=0.0)
    scene.reads.ready(1, index=0, applied=0)
    assert isinstance(bad.exception(), KeyError)
    assert good.result() == 0


async def test_the_end_answers_everybody() -> None:
    scene = Scene()
    one = scene.ask()
    scene.reads.gather(1, now=0.0)
    two = scene.ask()
    scene.reads.raise_all(lambda: GroupTerminated("over"))
    assert isinstance(one.exception(), GroupTerminated)
    assert isinstance(two.exception(), GroupTerminated)
