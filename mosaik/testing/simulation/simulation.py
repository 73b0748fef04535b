"""Whole groups of what ships, on virtual time, under faults, as one function of a seed.

Theory of operation
-------------------
Every node has an event loop of its own (`loop`) on which the shipped discovery, bonds, replica, consensus and
state machine run unchanged; wires (`network`), disks (`disk`) and the writer's thread (`worker`) are
simulated, and what else the code asks the system for is answered here (`surroundings`). All of it is
driven by one scheduler, and every choice comes from generators that are seeded once.

An observer looks at each step of each core, at each batch before and after it becomes durable, and at every
answer to a client, and asks the rules (`rules`). Faults (`faults`) come at rates that the seed draws, and
never destroy so much that an acknowledged command could be gone, unless the scenario says so. When the
time is up the world heals, and within a bounded virtual time the group must serve again, all machines must
be equal, and the clients' history must be linearizable (`settle`, `clients`).
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TextIO
from zlib import crc32

from mosaik.consensus import Consensus, Effects, Input, Notice, View
from mosaik.discovery import DiscoveryConfig
from mosaik.groups import ConsensusConfig, GroupKey
from mosaik.groups.config import Observer
from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import InternalError, MosaikError
from mosaik.storage import writer
from mosaik.storage.contract import StorageEnvironment
from mosaik.testing.simulation.beyond import Beyond
from mosaik.testing.simulation.clients import Clients
from mosaik.testing.simulation.faults import Faults
from mosaik.testing.simulation.loop import VirtualLoop
from mosaik.testing.simulation.network import Wires
from mosaik.testing.simulation.node import SimNode
from mosaik.testing.simulation.operator import Operator
from mosaik.testing.simulation.rules import Ledger, Property, Violation, watch
from mosaik.testing.simulation.scenario import Scenario, draw
from mosaik.testing.simulation.scheduler import Scheduler
from mosaik.testing.simulation.settle import settle
from mosaik.testing.simulation.surroundings import EPOCH_MS, surrounded

__all__ = ["Simulation"]

#: A storm that has not reached its goals after so many times its seconds never will.
_LONGEST: Final = 6
_LOOK_EVERY: Final = 1.0


class _ObservedCore(Consensus):
    """A replica's core, with somebody looking at it."""

    def __init__(self, parameters: Any, recovered: Any, rng: random.Random, now: float) -> None:
        super().__init__(parameters, recovered, rng, now)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        node: SimNode = loop.owner
        self._node: Final = node
        node.core = self
        node.incarnation += 1
        node.history, node.commit = node.store.hard_state.history, 0
        self._shown = self.view

    def step(self, inputs: Sequence[Input], now: float, wall_ms: int) -> Effects:
        node = self._node
        effects = super().step(inputs, now, wall_ms)
        if node.core is self:
            self._shown = node.simulation.stepped(node, effects, self._shown)
        return effects


class Simulation:
    """One run.

    Args:
        seed: decides everything.
        scenario: what to run, in the place of what the seed draws.
        trace: where to write what happens.
        ignored: rules that are not checked, to see what a planted bug leads to that they would notice early.

    Attributes:
        hash: of everything that happened.
        ledger: what the observer knows.
    """

    def __init__(
        self,
        seed: int,
        scenario: Scenario | None = None,
        *,
        trace: TextIO | None = None,
        ignored: frozenset[Property] = frozenset(),
    ) -> None:
        self.seed: Final = seed
        self.chance: Final = random.Random(seed)
        drawn = draw(self.chance)  # in any case, so that what follows draws the same
        self.scenario: Final = scenario or drawn
        #: What the shipped code draws does not move what the simulation draws.
        self.entropy: Final = random.Random(self.chance.random())
        self.scheduler: Final = Scheduler()
        self.hash = 0
        self.steps = 0
        self.ledger: Final = Ledger(ignored)
        self.network_id: Final = Digest("simulation")
        self.key: Final = GroupKey.from_secret("a simulated group")
        self.discovery: Final = DiscoveryConfig(max_backoff=2.0)
        self.wires: Final = Wires(self.scheduler, self.chance)
        self.nodes: list[SimNode] = []
        self.clients: Final = Clients(self)
        self.operator: Final = Operator(self)
        self.faults: Final = Faults(self)
        self.beyond: Final = Beyond(self)
        self.core: Final[Callable[..., Consensus]] = _ObservedCore
        self._trace = trace
        self._found: BaseException | None = None
        self._directory: Path | None = None

    # -- running ------------------------------------------------------------------------------------

    def run(self) -> Simulation:
        """Runs to the end.

        Raises:
            Violation: a rule was broken, or the group did not come back to life.
        """
        memory = Path("/dev/shm")  # noqa: S108  # a directory of its own is made in it
        home = memory if memory.is_dir() else None
        self._directory = Path(tempfile.mkdtemp(prefix="mosaik-simulation-", dir=home))
        try:
            with surrounded(self):
                try:
                    self._run()
                finally:
                    for node in self.nodes:
                        node.crash(lands=False)
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)
        return self

    def _run(self) -> None:
        scenario = self.scenario
        for _ in range(scenario.nodes):
            self.add().start()
        self.wires.quality = scenario.quality
        self.clients.begin(scenario.clients)
        self.faults.begin()
        if scenario.beyond:
            self.beyond.begin()
        self.run_for(scenario.seconds)
        while not self._enough():
            self.ledger.require(
                self.scheduler.now < _LONGEST * scenario.seconds,
                Property.LIVENESS,
                f"{self.clients.acknowledged} commands and {self.faults.count} faults "
                f"in {self.scheduler.now:.0f} s",
            )
            self.run_for(_LOOK_EVERY)
        settle(self)

    def _enough(self) -> bool:
        scenario = self.scenario
        return (
            scenario.beyond or self.clients.acknowledged >= scenario.commands
        ) and self.faults.count >= scenario.faults_at_least

    def run_for(self, seconds: float) -> None:
        """Lets virtual time pass.

        Raises:
            Violation: a rule was broken meanwhile.
        """
        until = self.scheduler.now + seconds
        while self.scheduler.now < until:
            self.scheduler.run_until(min(until, self.scheduler.now + 0.25))
            if self._found is not None:
                raise self._found

    def failed(self, error: BaseException | None, message: str) -> None:
        """Something was raised that nobody catches."""
        if self._found is not None:
            return
        if isinstance(error, Violation):
            self._found = error
        else:
            self._found = Violation(Property.NO_BUG_REPORTED, f"{message}: {error!r}")
            self._found.__cause__ = error

    def note(self, line: str) -> None:
        """Takes an event into the trace and its hash."""
        self.hash = crc32(line.encode(), self.hash)
        if self._trace is not None:
            print(f"{self.scheduler.now:9.4f} {line}", file=self._trace)  # what a trace is for

    # -- what nodes ask for -------------------------------------------------------------------------

    @property
    def calendar_ms(self) -> int:
        return EPOCH_MS

    def consensus(self, *, observer: bool) -> ConsensusConfig:
        """The group's parameters: the defaults, about three times as fast."""
        return ConsensusConfig(
            heartbeat_interval=0.2,
            election_timeout=0.7,
            election_timeout_jitter=0.3,
            bootstrap_delay=0.5,
            forward_timeout=1.0,
            query_timeout=1.0,
            bootstrap_expect=self.scenario.nodes,
            max_voters=self.scenario.max_voters,
            dead_voter_timeout=6.0,
            leadership=Observer() if observer else None,
        )

    def add(self) -> SimNode:
        """Makes a node; it does not run yet."""
        assert self._directory is not None
        node = SimNode(self, len(self.nodes) + 1, self._directory)
        self.nodes.append(node)
        return node

    def running(self) -> list[SimNode]:
        """The nodes whose process runs."""
        return [node for node in self.nodes if node.up]

    def any_node(self) -> SimNode | None:
        """One that runs, by chance."""
        running = self.running()
        return self.chance.choice(running) if running else None

    def any_leader(self) -> SimNode | None:
        """One that leads, or believes so."""
        leading = [node for node in self.running() if node.leading]
        return self.chance.choice(leading) if leading else None

    def open_storage(self, url: str, **_: Any) -> StorageEnvironment:
        """Opens a node's store, for the process that runs on it."""
        name = url.removeprefix("sim://")
        return next(node for node in self.nodes if node.name == name).open_store()

    def forget_worker(self, environment: StorageEnvironment) -> None:
        """The process of a worker is gone."""
        writer.workers.pop(id(environment), None)

    def stepped(self, node: SimNode, effects: Effects, before: View) -> View:
        """A core was stepped; answers what it shows now."""
        self.steps += 1
        try:
            view = watch.after_step(self.ledger, node, effects, before)
        except Violation as violation:
            self.failed(violation, "")
            raise
        self.note(
            f"{node.name} {view.role} t{view.term} i{view.last} c{view.commit} {len(effects.send)}"
        )
        for event in effects.events:
            self.note(f"{node.name} reports {event.notice}: {event.detail}")
            if event.notice is Notice.QUARANTINED:
                self.operator.quarantined(node)
        return view

    def terminated(self, node: SimNode, cause: BaseException | None) -> None:
        """The group ended on a node."""
        self.note(f"{node.name}: the group ended: {type(cause).__name__}")
        expected = cause is None or isinstance(cause, MosaikError)
        if isinstance(cause, InternalError) or not expected:  # a `Violation`, too
            self.failed(cause, f"{node.name}: the group ended")
            return
        self.operator.ended(node, cause)
