"""One simulated node: its disk, and the process on it that runs what ships."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mosaik.discovery import Discovery
from mosaik.discovery.wire import PROTOCOL as DISCOVERY
from mosaik.groups import Group, Groups
from mosaik.groups.wire import PROTOCOL as BONDS
from mosaik.machines import Map
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import MosaikError
from mosaik.primitives.peer import SecretKey, SignedPeerEntry
from mosaik.storage.log import EngineLog
from mosaik.testing.simulation.disk import SimDisk, SimEnvironment
from mosaik.testing.simulation.loop import VirtualLoop
from mosaik.testing.simulation.network import SimTransport, address_of
from mosaik.testing.simulation.rules import PlainStore, Property, Watched, watch
from mosaik.testing.simulation.scheduler import Scheduler
from mosaik.transport.contract import CloseReason, Link

if TYPE_CHECKING:
    from mosaik.testing.simulation.simulation import Simulation
    from mosaik.testing.simulation.worker import SimWorker

__all__ = ["ORDINARY_DISK", "SimNode"]

#: Range of the seconds that a commit takes.
ORDINARY_DISK: Final = (0.001, 0.008)


class _Here:
    """The node, as its groups see it (`mosaik.groups.node.Node`)."""

    def __init__(self, node: SimNode, transport: SimTransport, discovery: Discovery) -> None:
        self.peer: Final = node.peer_id
        self.network_id: Final = node.simulation.network_id
        self.durable: Final = True
        self.data_dir: Final[Path | None] = None
        self.storage_url: Final[str | None] = None
        self.consensus: Final[dict[str, Any]] = {}
        self.handlers: Final[dict[str, Callable[[Link], Any]]] = {}
        self._transport = transport
        self._discovery = discovery

    def entry(self) -> SignedPeerEntry:
        return self._discovery.catalog().local()

    def members(self, group: Digest) -> Iterable[SignedPeerEntry]:
        return self._discovery.catalog().members(group)

    def feed(self, entry: SignedPeerEntry) -> None:
        self._discovery.feed(entry)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        return self._discovery.watch(lambda _: changed())

    def add_group(self, group: Digest) -> None:
        self._discovery.add_groups(group)

    def remove_group(self, group: Digest) -> None:
        self._discovery.remove_groups(group)

    async def dial(self, address: str, peer: PeerId, timeout: float) -> Link:
        return await self._transport.dial(address, BONDS, expect=peer, timeout=timeout)

    def accept(self, protocol: str, handler: Callable[[Link], Any]) -> None:
        self.handlers[protocol] = handler


class SimNode(Watched):
    """A node, up or down.

    Attributes:
        disk: outlives the process.
        loop: the process's event loop, while it is up.
        group: the process's handle of the group.
        machine: the process's copy of what is replicated.
        worker: who writes on the disk.
        left: it left the group for good.
        terminated: the group ended on it by itself, and nobody has looked at it yet.
        disk_seconds: range of the seconds that a commit takes.
    """

    def __init__(self, simulation: Simulation, number: int, directory: Path) -> None:
        chance = simulation.chance
        self.secret: Final = SecretKey.from_bytes(chance.randbytes(32))
        self.peer_id: Final = self.secret.peer
        self.disk: Final = SimDisk(f"n{number}", directory)
        super().__init__(f"n{number}", bytes(self.peer_id), PlainStore(b""))
        self.simulation: Final = simulation
        self.scheduler: Final[Scheduler] = simulation.scheduler
        self.loop: VirtualLoop | None = None
        self.transport: SimTransport | None = None
        self.group: Group[Any, Any, Any] | None = None
        self.machine: Map[str, int] | None = None
        self.worker: SimWorker | None = None
        self.environment: SimEnvironment | None = None
        self.left = False
        self.terminated = False
        self.disk_seconds = ORDINARY_DISK
        self.observer = False
        self.starts = 0
        self._calendar_error_ms = chance.randrange(-2000, 2000)

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        return self.loop is not None

    @property
    def serving(self) -> bool:
        """Its process runs, is not frozen, and its group has not ended."""
        loop, group = self.loop, self.group
        return loop is not None and group is not None and not loop.frozen and not self.terminated

    @property
    def leading(self) -> bool:
        core = self.core
        return self.up and core is not None and core.view.leading

    def disk_delay(self) -> float:
        """Seconds that the next commit takes."""
        low, high = self.disk_seconds
        return low + (high - low) * self.simulation.chance.random()

    # -- its process --------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the process on whatever the disk holds."""
        if self.up or self.left:
            return
        simulation = self.simulation
        self.starts += 1
        if self.starts > 1:
            simulation.ledger.counts["restarts"] += 1
        self.terminated = False
        simulation.note(f"{self.name} starts")
        loop = self.loop = VirtualLoop(  # type: ignore[abstract]  # it has no sockets and no processes
            self.scheduler,
            self,
            wall_ms=simulation.calendar_ms + self._calendar_error_ms,
            failed=simulation.failed,
        )
        loop.call_soon(lambda: loop.create_task(self._main(loop)))

    async def _main(self, loop: VirtualLoop) -> None:
        simulation = self.simulation
        transport = self.transport = SimTransport(simulation.wires, loop, self.peer_id)
        discovery = Discovery(
            self.secret,
            simulation.network_id,
            transport,
            bootstrap=[
                address_of(node.peer_id) for node in simulation.nodes[:3] if node is not self
            ],
            config=simulation.discovery,
        )
        here = _Here(self, transport, discovery)

        def dispatch(link: Link) -> None:
            handler = here.handlers.get(link.protocol)
            if handler is None:
                link.close(CloseReason.INVALID_PROTOCOL, "nobody here speaks it")
            else:
                handler(link)

        here.accept(DISCOVERY, discovery.accept)
        await transport.start(dispatch)
        await discovery.start()
        groups = Groups(here)
        machine = self.machine = Map(str, int)
        stage = groups.with_key(simulation.key).with_state_machine(machine)
        config = simulation.consensus(observer=self.observer)
        group = stage.with_log_storage(f"sim://{self.name}").with_consensus_config(config).join()
        self.group = group
        group._running.task.add_done_callback(partial(self._ended, loop))  # pyright: ignore[reportPrivateUsage]

    def _ended(self, loop: VirtualLoop, _: object) -> None:
        """The group ended on this node: it was told to, or it cannot go on."""
        if self.loop is loop and not self.terminated:
            self.terminated = True
            assert self.group is not None
            error = self.group._running.terminated()  # pyright: ignore[reportPrivateUsage]
            self.simulation.terminated(self, error.__cause__)

    def crash(self, *, lands: bool | None = None, silent: bool = False) -> None:
        """Ends the process: what was not written is gone, and the write in flight lands or not.

        Args:
            lands: whether it does; decided by chance when not given.
            silent: the machine goes with it, so that nobody sees its links close.
        """
        loop, transport = self.loop, self.transport
        if loop is None:
            return
        simulation = self.simulation
        worker, self.worker = self.worker, None
        writing = worker.writing if worker is not None and not worker.dead else None
        landed = lands if lands is not None else simulation.chance.random() < 0.5
        simulation.note(f"{self.name} crashes{', its write lands' if writing and landed else ''}")
        self.loop = self.transport = None
        if worker is not None:
            worker.dead = True
            if writing and landed and worker.store.poisoned is None:
                try:
                    worker.store.commit([(write.log, write.batch) for write in writing])
                except MosaikError as error:
                    simulation.note(f"{self.name}'s last write: {error}")
                except Exception as error:  # noqa: BLE001  # reported as a violation
                    simulation.failed(error, f"{self.name}'s last write")
        left = transport.crash(silent=silent) if transport is not None else []
        if self.environment is not None:
            self.environment.kill()
            simulation.forget_worker(self.environment)
            self.environment = None
        self.core = None
        loop.die()
        group, self.group, self.machine = self.group, None, None
        if group is not None:
            group._open = False  # pyright: ignore[reportPrivateUsage]  # a process that is gone forgets nothing
        simulation.clients.crashed(self)
        for link in left:
            # Whoever still holds an end of it hears when the machine is back, or by missed heartbeats.
            simulation.scheduler.after(
                simulation.chance.uniform(1.0, 3.0), partial(link.reset, died=False)
            )

    # -- what its disk does -------------------------------------------------------------------------

    def open_store(self) -> SimEnvironment:
        """A process opens the store."""
        environment = self.environment = SimEnvironment(self.disk, self)
        return environment

    def opened(self, environment: SimEnvironment, log: EngineLog[Any]) -> None:
        del environment
        found, known = PlainStore.read(log), self.disk.contents
        if found.suspect:
            self.simulation.ledger.counts["suspect tails"] += 1
        if known is not None and not self.disk.tampered:
            self.simulation.ledger.require(
                found.same_as(known),
                Property.STORE_CONTRACT,
                f"{self.name} opens a store that holds {found}; {known} was written",
            )
        self.simulation.note(f"{self.name} opens {found}")
        self.disk.tampered = False
        self.disk.contents = self.store = found

    def writing(self, batch: WriteBatch[Any]) -> None:
        watch.before_write(self.simulation.ledger, self, batch)

    def written(self, batch: WriteBatch[Any]) -> None:
        self.store.apply(batch)
        watch.after_write(self.simulation.ledger, self, batch)

    def __repr__(self) -> str:
        return f"SimNode({self.name}, {'up' if self.up else 'down'})"
