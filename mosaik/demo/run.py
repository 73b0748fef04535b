"""One run: a cluster of real processes, a client beside it, and a killer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from mosaik.demo.load import Load
from mosaik.demo.records import Record, generations
from mosaik.demo.report import Report
from mosaik.demo.verify import verify
from mosaik.groups import Group
from mosaik.groups.config import Observer
from mosaik.machines import Map
from mosaik.network import Network
from mosaik.primitives.entry import Entry, EntryKind
from mosaik.primitives.errors import ConfigError, MosaikError
from mosaik.testing.cluster import Cluster, ClusterNode

__all__ = ["DemoStalled", "Options", "Progress", "run_demo", "store_of_each_node"]

#: A leader is killed when so many commands were acknowledged since the last kill,
ACKNOWLEDGED: Final = 500
#: and so many are in flight.
IN_FLIGHT: Final = 16
#: How many the client keeps in flight.
WINDOW: Final = 64
#: A kill comes at a random moment within so many seconds: several round trips of a command.
SPREAD: Final = 0.02
#: Progress is shown each time so many more were acknowledged.
SHOWN_EVERY: Final = 50
#: Nothing that is awaited takes longer, in seconds, unless something is wrong.
PATIENCE: Final = 10.0


_random: Final = random.SystemRandom()


class DemoStalled(MosaikError):
    """The group did not go on."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to run.

    Attributes:
        backend: a backend's name or a storage URL, made into one for each node.
        nodes: how many processes.
        kills: how often a leader is killed.
        records: what is replicated, over and over.
    """

    backend: str = "sqlite"
    nodes: int = 3
    kills: int = 10
    records: Sequence[Record] = ()


class Progress(Protocol):
    """Shows how far a run is."""

    def say(self, text: str) -> None:
        """Tells of a new stage."""
        ...

    def show(self, *, acknowledged: int, leader: str, term: int, kills: int) -> None:
        """Called often."""
        ...


async def run_demo(options: Options, directory: Path, progress: Progress) -> Report:
    """Runs the demo in a directory, which holds all that the nodes wrote when it returns.

    Raises:
        ConfigError: the backend does not survive a kill.
        MosaikError: the group could not be started, or did not recover from a kill in time.
    """
    started = time.monotonic()
    report = Report(backend=options.backend, nodes=options.nodes)
    cluster = Cluster(
        directory,
        nodes=options.nodes,
        storage=store_of_each_node(options.backend),
        network="mosaik-demo",
    )
    progress.say(f"starting {options.nodes} nodes on {options.backend} in {directory}")
    async with cluster:
        progress.say("waiting for a leader")
        await cluster.online(timeout=PATIENCE)
        load = await _replicate(options, cluster, report, progress)
        progress.say("stopping all nodes")
        await cluster.stop()
        progress.say("starting them cold, and comparing")
        findings, log = await verify(cluster, load.ledger)
    ledger = load.ledger
    report.acknowledged, report.unknown = len(ledger.acknowledged), len(ledger.unknown)
    report.unknown_found = _found(ledger.unknown, log)
    report.resent, report.lost = ledger.resent, len(findings.lost)
    report.entries, report.term = len(log), log[-1].term if log else 0
    report.findings = findings.messages
    report.seconds = time.monotonic() - started
    return report


async def _replicate(
    options: Options, cluster: Cluster, report: Report, progress: Progress
) -> Load:
    async with Network(cluster.network, bootstrap=cluster.addresses) as network:
        consensus = cluster.consensus.with_leadership(Observer())
        builder = network.groups().with_key(cluster.key).with_state_machine(Map(str, str))
        async with builder.with_consensus_config(consensus).join() as group:
            try:
                async with asyncio.timeout(PATIENCE):
                    await group.when().online()
            except TimeoutError as error:
                raise DemoStalled(
                    f"the demo could not join its own group within {PATIENCE:.0f} s; what the nodes said "
                    f"is in {cluster.directory}"
                ) from error
            killer = _Killer(options, cluster, group, report, progress)
            load = Load(
                group,
                _counted(generations(options.records), report),
                window=WINDOW,
                on_progress=killer.acknowledged,
            )
            await _together(load.run(), killer.run(load))
    return load


async def _together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Runs all of them; the first failure ends the others, and is raised as it is."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _counted(source: Iterator[list[Record]], report: Report) -> Iterator[list[Record]]:
    for generation in source:
        report.generations += 1
        yield generation


class _Killer:
    """Kills whoever leads, again and again, always with commands in flight."""

    def __init__(
        self,
        options: Options,
        cluster: Cluster,
        group: Group[Any, Any, Any],
        report: Report,
        progress: Progress,
    ) -> None:
        self._options = options
        self._cluster = cluster
        self._group = group
        self._report = report
        self._progress = progress
        self._acknowledged = 0
        self._arrived = asyncio.Event()

    def acknowledged(self) -> None:
        """One more command was."""
        self._acknowledged += 1
        self._arrived.set()
        if self._acknowledged % SHOWN_EVERY == 0:
            self._show()

    async def run(self, load: Load) -> None:
        """Does all the kills, then tells the load that it is enough."""
        for _ in range(self._options.kills):
            goal = self._acknowledged + ACKNOWLEDGED
            await self._ripe(partial(self._may_kill, load, goal))
            await self._kill_leader()
        load.enough()

    async def _ripe(self, may_kill: Callable[[], bool]) -> None:
        """Waits for a moment to kill that has nothing to do with the client's own rhythm.

        An acknowledgement wakes us, and at that moment the next commands have only just left: a leader
        killed then has seen none of them. A random delay lands in every phase of a command's way.
        """
        while True:
            await self._until("enough commands to kill again", may_kill)
            await asyncio.sleep(_random.uniform(0, SPREAD))
            if may_kill():
                return

    def _may_kill(self, load: Load, goal: int) -> bool:
        busy = self._acknowledged >= goal and load.in_flight >= IN_FLIGHT
        return busy and self._leader() is not None

    def _leader(self) -> ClusterNode | None:
        leader = self._group.leader
        node = self._cluster.node_of(leader) if leader is not None else None
        return node if node is not None and node.running else None

    async def _kill_leader(self) -> None:
        node = self._leader()
        assert node is not None, "checked in the same turn of the loop"
        killed, before = time.monotonic(), self._acknowledged
        await node.kill()
        self._report.kills += 1
        # Fewer than three cannot go on without the one that was killed.
        if self._options.nodes >= 3:
            await self._until("a command after the kill", lambda: self._acknowledged > before)
            self._report.failover.append(time.monotonic() - killed)
        await node.start()
        await node.until("online", timeout=PATIENCE)

    async def _until(self, what: str, fulfilled: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not fulfilled():
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError as error:
            running = [node.name for node in self._cluster.nodes if node.running]
            raise DemoStalled(
                f"the group did not acknowledge {what} within {PATIENCE:.0f} s; after "
                f"{self._report.kills} kills and {self._acknowledged} commands {running} run, the "
                f"leader is {self._leader()}; what the nodes said is in {self._cluster.directory}"
            ) from error

    def _show(self) -> None:
        leader = self._leader()
        self._progress.show(
            acknowledged=self._acknowledged,
            leader=leader.name if leader else "none",
            term=self._group.log_position.term,
            kills=self._report.kills,
        )


def _found(unknown: set[str], log: Sequence[Entry[Any]]) -> int:
    present = {entry.command.key for entry in log if entry.kind is EntryKind.COMMAND}
    return len(unknown & present)


def store_of_each_node(backend: str) -> str:
    """A storage URL with ``{node}`` where each node's own name goes.

    A name is in each node's own data directory anyway.

    Raises:
        ConfigError: the store would not survive a kill.
    """
    if backend.partition(":")[0] == "memory":
        raise ConfigError(
            "the demo kills its nodes; choose a store that survives that, such as sqlite"
        )
    if "{node}" in backend or "://" not in backend:
        return backend
    place, question, options = backend.partition("?")
    path = place.rpartition("/")[2]
    stem, dot, suffix = path.rpartition(".")
    named = f"{stem}-{{node}}.{suffix}" if dot and stem else f"{path}-{{node}}"
    return place.removesuffix(path) + named + question + options
