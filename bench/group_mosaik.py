"""mosaik: three ``mosaik node`` processes; the client is an observer that forwards to the leader."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

import mosaik
from bench.contestant import run_client
from bench.load import KEYS, VALUE, Loop, Sample
from mosaik.cli.node import run
from mosaik.groups import Group, GroupKey
from mosaik.groups.config import ConsensusConfig, Observer
from mosaik.machines import Map
from mosaik.network import Network
from mosaik.primitives.errors import QueryOffline
from mosaik.testing import Cluster

__all__ = ["Mosaik"]

NETWORK = "mosaik-bench"


class Mosaik:
    """Three nodes on one of our stores."""

    payload = "16 B key, 112 B value"
    client = "4th process, observer"

    def __init__(self, storage: str) -> None:
        self.name = f"mosaik {mosaik.__version__}, {storage}"
        self.sync = "every batch" if storage != "memory" else "none (memory)"
        self._storage = storage
        self._cluster: Cluster | None = None

    async def start(self, directory: Path) -> None:
        self._cluster = Cluster(directory, storage=self._storage, network=NETWORK)
        await self._cluster.start()
        await self._cluster.online()

    async def measure(self, outstanding: int, seconds: float, warm_up: float) -> Sample:
        assert self._cluster is not None
        key = self._cluster.directory / "group.key"
        numbers = (str(outstanding), str(seconds), str(warm_up))
        return await run_client(__name__, str(key), *numbers, *self._cluster.addresses)

    async def stop(self) -> None:
        if self._cluster is not None:
            await self._cluster.kill()


async def _client(
    key: GroupKey, addresses: list[str], outstanding: int, seconds: float, warm_up: float
) -> Sample:
    config = ConsensusConfig(bootstrap_expect=3, leadership=Observer())
    async with Network(NETWORK, bootstrap=addresses) as network:
        builder = network.groups().with_key(key).with_state_machine(Map(str, str))
        async with builder.with_consensus_config(config).join() as group:
            await group.when().online()
            await _caught_up(group)
            over = asyncio.Event()

            def send(number: int) -> None:
                started = time.perf_counter()
                pending = group.execute(Map.Insert(f"key-{number % KEYS:012}", VALUE))
                pending.add_done_callback(lambda future: ended(started, future))

            def ended(started: float, future: asyncio.Future[Any]) -> None:
                loop.done(started, future.exception() is None)
                if loop.over:
                    over.set()

            loop = Loop(send, seconds, warm_up)
            loop.start(outstanding)
            await over.wait()
            return loop.sample()


async def _caught_up(group: Group[Any, Any, Any]) -> None:
    """Waits until this new observer has replayed what clients before it wrote: that is not measured."""
    while True:
        try:
            await group.query(Map.Size())
        except QueryOffline:
            continue  # it takes longer than one query may
        return


def main(arguments: list[str]) -> None:
    """The client's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("key")
    parser.add_argument("outstanding", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("warm_up", type=float)
    parser.add_argument("addresses", nargs="+")
    given = parser.parse_args(arguments)
    key = GroupKey.from_file(given.key)
    sample = run(_client(key, given.addresses, given.outstanding, given.seconds, given.warm_up))
    print(msgspec.json.encode(sample).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
