"""Rule 1 with real engines and a real SIGKILL: what was acknowledged is there, whatever else is."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from mosaik.storage import open_storage
from tests.storage.stores import child, url_of
from tests.storage.support import PEER, entries, identity

#: Kills of one store; with every kill the next process finds what the one before left behind.
ROUNDS = 4


def last_acknowledged(lines: list[str]) -> int:
    """The last index of the last commit that was acknowledged."""
    return max([int(line.split()[1]) for line in lines if line.startswith("ack")], default=0)


def acknowledged_entries_survive(
    backend: str, directory: Path, *, sync: str, rounds: int, bug: str = ""
) -> None:
    rng = random.Random(f"{backend} {sync}")
    query, last = f"sync={sync}", 0
    for _ in range(rounds):
        size = str(rng.choice([1, 7, 64, 500]))
        arguments = ("append", backend, str(directory), "0", size, query)
        with child(*arguments, bug=bug) as writer:
            ready = int(writer.line().split()[1])
            assert ready >= last
            lines = [writer.line() for _ in range(rng.randrange(2, 200))]
            writer.kill()
            # What it said before it died counts, too, read or not.
            last = max(ready, last_acknowledged(lines + writer.rest()))
        with closing(open_storage(url_of(backend, directory, query), peer=PEER)) as environment:
            log = environment.log(identity())
            assert log.tail.index >= last
            assert log.suspect is None
            assert log.get_range(0, log.tail.index) == entries(log.tail.index)
    assert last > 0


@pytest.mark.parametrize("sync", ["full", "os"])
def test_every_acknowledged_entry_survives_a_kill(
    durable_backend: str, sync: str, tmp_path: Path
) -> None:
    acknowledged_entries_survive(durable_backend, tmp_path, sync=sync, rounds=ROUNDS)


def test_an_acknowledgement_from_memory_is_caught(durable_backend: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="assert 0 >= "):
        acknowledged_entries_survive(
            durable_backend, tmp_path, sync="full", rounds=1, bug="acknowledges from memory"
        )
