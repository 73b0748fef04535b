"""Any thread may read: while a batch is committed it waits, and then sees the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from threading import Thread
from typing import Any

import pytest

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.storage import Change
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.memory import MemoryEngine
from mosaik.storage.opening import engine_environment
from tests.storage.support import PEER, end_of, entries, identity


class Interrupted(MemoryEngine):
    """Lets somebody in when a commit is done, and has not returned."""

    def __init__(self) -> None:
        super().__init__()
        self.let_in: Callable[[], None] | None = None

    def commit(self, changes: Sequence[Change]) -> None:
        super().commit(changes)
        if self.let_in is not None:
            self.let_in()


def a_reader_sees_whole_batches(amend: Callable[[EngineEnvironment], None]) -> None:
    engine = Interrupted()
    environment = engine_environment(lambda: engine, key="here", url="here", peer=PEER)
    amend(environment)
    log = environment.log(identity())
    old = entries(5)
    log.append(old)
    new = [*old[:2], *entries(4, end_of(old[:2]), term=2)]
    found: list[list[Entry[Any]] | Exception] = []

    def read() -> None:
        try:
            found.append(log.get_range(1, 9))
        except Exception as error:
            found.append(error)

    reader = Thread(target=read)

    def let_in() -> None:
        reader.start()
        reader.join(0.1)  # in vain, unless it does not wait for the commit

    engine.let_in = let_in
    log.write(WriteBatch(truncate_from=3, entries=new[2:]))
    reader.join()
    assert found == [new]
    environment.close()


def test_a_reader_sees_whole_batches() -> None:
    a_reader_sees_whole_batches(lambda _: None)


def test_without_the_lock_it_would_not() -> None:
    # Planted bug: callers do not wait for each other.
    def unlocked(environment: Any) -> None:
        environment._lock = nullcontext()

    with pytest.raises(AssertionError):
        a_reader_sees_whole_batches(unlocked)
