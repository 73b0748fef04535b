"""PySyncObj: three members with a journal; the client is a read-only node, which forwards.

``member ADDRESS PARTNERS... --journal PATH`` runs a member, ``client ...`` the load.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from bench.contestant import NotRun, run_client
from bench.load import KEYS, VALUE, Loop, Sample
from mosaik.testing import Process, free_ports

__all__ = ["PySyncObj"]


class PySyncObj:
    """Three members as they come, with a journal on disk."""

    payload = "16 B key, 112 B value"
    client = "4th process, read-only node"
    sync = "never (journal, not synced)"

    def __init__(self) -> None:
        try:
            self.name = f"PySyncObj {version('pysyncobj')}"
        except PackageNotFoundError:
            self.name = "PySyncObj"
        self._members: list[Process] = []
        self._addresses: list[str] = []

    async def start(self, directory: Path) -> None:
        if self.name == "PySyncObj":
            raise NotRun("pysyncobj is not installed")
        directory.mkdir(parents=True, exist_ok=True)
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        self._members = []
        for number, address in enumerate(self._addresses):
            partners = [other for other in self._addresses if other != address]
            command = [sys.executable, "-m", __name__, "member", address, *partners]
            journal = str(directory / f"journal-{number}")
            self._members.append(Process([*command, "--journal", journal], log=directory / "log"))
            await self._members[-1].start()
        await asyncio.gather(*(member.until("ready") for member in self._members))

    async def measure(self, outstanding: int, seconds: float, warm_up: float) -> Sample:
        numbers = (str(outstanding), str(seconds), str(warm_up))
        return await run_client(__name__, "client", *self._addresses, "--load", *numbers)

    async def stop(self) -> None:
        await asyncio.gather(*(member.kill() for member in self._members))


def _node(own: str | None, partners: list[str], journal: str | None) -> tuple[Any, Any]:
    from pysyncobj import SyncObj, SyncObjConf
    from pysyncobj.batteries import ReplDict

    values = ReplDict()
    ready = threading.Event()
    node = SyncObj(
        own,
        partners,
        conf=SyncObjConf(journalFile=journal, onReady=ready.set),
        consumers=[values],
    )
    if not ready.wait(30):
        raise RuntimeError("PySyncObj did not become ready")
    return node, values


def _member(own: str, partners: list[str], journal: str) -> None:
    _node(own, partners, journal)
    print('{"event": "ready"}', flush=True)
    sys.stdin.read()


def _client(addresses: list[str], outstanding: int, seconds: float, warm_up: float) -> Sample:
    _, values = _node(None, addresses, None)
    over = threading.Event()

    def send(number: int) -> None:
        started = time.perf_counter()

        def callback(_: object, failure: int) -> None:
            ended(started, failure == 0)

        values.set(f"key-{number % KEYS:012}", VALUE, callback=callback)

    def ended(started: float, succeeded: bool) -> None:
        loop.done(started, succeeded)
        if loop.over:
            over.set()

    loop = Loop(send, seconds, warm_up)
    loop.start(outstanding)
    if not over.wait(seconds + warm_up + 30):
        raise RuntimeError("PySyncObj lost commands: their callbacks never came")
    return loop.sample()


def main(arguments: list[str]) -> None:
    """A member's or the client's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["member", "client"])
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--journal")
    parser.add_argument("--load", nargs=3, type=float)
    given = parser.parse_args(arguments)
    if given.role == "member":
        _member(given.addresses[0], given.addresses[1:], given.journal)
    else:
        outstanding, seconds, warm_up = given.load
        sample = _client(given.addresses, int(outstanding), seconds, warm_up)
        print(msgspec.json.encode(sample).decode(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
