"""The kit's processes: what they said counts, however they end, and what is done to them is seen."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import pairwise

import pytest

from mosaik.testing.storage import Broken, Subject
from mosaik.testing.storage.ground import Ground
from mosaik.testing.storage.history import LOGS, History
from mosaik.testing.storage.rule import NotAttested
from mosaik.testing.storage.trace import needs_tracer, traced
from mosaik.testing.storage.workers import Ended, Silent

SUBJECT = Subject("memory://")


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground(SUBJECT) as ground:
        yield ground


def test_what_it_said_before_it_was_killed_can_be_read(ground: Ground) -> None:
    worker = ground.fork()
    worker.do("open", "memory://", str(ground.place))
    worker.tell("run", 0, 1, 3)
    assert worker.line() == "begin 1"
    worker.until("ran")
    worker.tell("run", 0, 4, 2)
    worker.listen(10)
    worker.kill()
    assert worker.status == -signal.SIGKILL
    assert worker.rest()[0] == "begin 4"
    assert worker.line() == ""


def test_one_that_dies_by_itself_has_ended(ground: Ground) -> None:
    worker = ground.fork()
    worker.tell("open")  # without its arguments it refuses, and lives
    assert worker.until("untyped")[-1].startswith("untyped TypeError")
    worker.do("file_size", 0)
    with pytest.raises(Broken, match="untyped"):
        worker.do("idle")
    worker.kill()
    with pytest.raises(Ended, match="SIGKILL") as caught:
        worker.ask("idle")
    assert caught.value.status == -signal.SIGKILL


def test_one_that_says_nothing_is_killed(ground: Ground) -> None:
    worker = ground.fork()
    with pytest.raises(Silent):
        worker.line(0.01)
    assert worker.status == -signal.SIGKILL


def test_an_injected_failure_is_seen_and_told_from_others(ground: Ground) -> None:
    try:
        needs_tracer()
    except NotAttested as why:
        pytest.skip(str(why))
    with Ground(Subject("sqlite://{place}/store.db")) as files:
        worker, place = files.fork(), files.quick("traced")
        worker.do("open", files.subject.url(place), str(place))
        with traced(worker, "fdatasync:error=EIO:when=1") as calls:
            worker.tell("run", 0, 1, 1)
            assert worker.until("ran")[-2].startswith("failed 1 StoragePoisoned")
        syncs = [call for call in calls if call.name == "fdatasync"]
        assert (syncs[0].injected, syncs[0].result) == (True, -1)
        assert all(not call.injected for call in syncs[1:])
        assert "failed 1 StoragePoisoned" in " ".join(call.said for call in calls)


def test_a_history_is_the_same_for_everybody() -> None:
    one, other = History(7), History(7)
    assert [one.state(step) for step in range(40)] == [other.state(step) for step in range(40)]
    assert one.state(40) != History(8).state(40)


def test_twelve_steps_hold_every_kind_of_batch() -> None:
    history = History(0)
    steps = [history.step(number) for number in range(1, 13)]
    parts = [part for step in steps for part in step.values()]
    assert any(part.vote and not part.entries for part in parts)
    assert any(part.vote and part.truncate_from and part.entries for part in parts)
    assert any(part.truncate_from and not part.entries for part in parts)
    assert any(part.prune_to for part in parts)
    assert any(len(step) == len(LOGS) for step in steps)
    states = [history.state(number) for number in range(13)]
    assert all(before != after for before, after in pairwise(states))


def test_a_long_history_has_a_thousand_entries() -> None:
    assert sum(len(view.entries) for view in History("long 0").state(32)) > 1000
