"""Rule 1 with real engines and a real SIGKILL: what was acknowledged is there, whatever else is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mosaik.storage import open_storage
from tests.storage.stores import child, url_of
from tests.storage.support import PEER, entries, identity

ROUNDS = 4


def acknowledged(lines: list[str]) -> int:
    """The last index of the last commit that was acknowledged."""
    return max([int(line.split()[1]) for line in lines if line.startswith("ack")], default=0)


@pytest.mark.parametrize("sync", ["full", "os"])
def test_every_acknowledged_entry_survives_a_kill(
    durable_backend: str, sync: str, tmp_path: Path
) -> None:
    """A process is killed in the middle of its commits, again and again, over the same store."""
    rng = random.Random(f"{durable_backend} {sync}")
    query, last = f"sync={sync}", 0
    for _ in range(ROUNDS):
        size = str(rng.choice([1, 7, 64, 500]))
        with child("append", durable_backend, str(tmp_path), "0", size, query) as writer:
            ready = int(writer.line().split()[1])
            assert ready >= last
            lines = [writer.line() for _ in range(rng.randrange(1, 200))]
            writer.kill()
            # What it said before it died counts, too, read or not.
            last = max(ready, acknowledged(lines + writer.rest()))
        environment = open_storage(url_of(durable_backend, tmp_path, query), peer=PEER)
        try:
            log = environment.log(identity())
            assert log.tail.index >= last
            assert log.suspect is None
            assert log.get_range(0, log.tail.index) == entries(log.tail.index)
        finally:
            environment.close()
    assert last > 0
