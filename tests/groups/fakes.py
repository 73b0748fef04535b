"""A node and a store small enough to be wrong only where a test wants them to be."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mosaik.groups import ConsensusConfig, GroupKey, Groups
from mosaik.primitives.cursor import Cursor, IndexRange
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.durable import Anchor, HardState, SnapshotRef, WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import DialError
from mosaik.primitives.peer import PeerEntry, PeerVersion, SecretKey, SignedPeerEntry
from mosaik.storage.contract import Capability, Description, LogIdentity, SyncMode
from mosaik.transport import Link, MemoryHub, MemoryTransport


def fast(**changes: Any) -> ConsensusConfig:
    """Parameters for tests: everything happens within fractions of a second."""
    settings: dict[str, Any] = {
        "heartbeat_interval": 0.05,
        "election_timeout": 0.15,
        "election_timeout_jitter": 0.15,
        "bootstrap_delay": 0.1,
        "forward_timeout": 1.0,
        "query_timeout": 1.0,
    }
    return ConsensusConfig(**{**settings, **changes})


FAST = fast()
KEY = GroupKey.from_secret("a key for tests that nobody else uses")


class World:
    """What all nodes of a test share: the wire, and one catalog that everybody sees at once."""

    def __init__(self) -> None:
        self.hub = MemoryHub()
        self.network = Digest("test")
        self.entries: dict[PeerId, SignedPeerEntry] = {}
        self.watchers: list[Callable[[], None]] = []
        self.nodes: list[FakeNode] = []

    async def node(self, *, durable: bool = True) -> FakeNode:
        node = FakeNode(self, durable=durable)
        await node.start()
        self.nodes.append(node)
        return node

    def put(self, entry: SignedPeerEntry) -> None:
        known = self.entries.get(entry.entry.peer)
        if known is None or entry.entry.is_newer_than(known.entry):
            self.entries[entry.entry.peer] = entry
            for watcher in list(self.watchers):
                asyncio.get_running_loop().call_soon(watcher)

    async def close(self) -> None:
        await asyncio.gather(*(node.groups.close() for node in self.nodes))
        for node in self.nodes:
            await node.transport.close()


class FakeNode:
    """A node on a `MemoryHub`."""

    def __init__(self, world: World, *, durable: bool) -> None:
        self.world = world
        self.secret = SecretKey.generate()
        self.peer = self.secret.peer
        self.network_id = world.network
        self.durable = durable
        self.crashed = False
        self.data_dir: Path | None = None
        self.storage_url: str | None = None
        self.consensus: dict[str, Any] = {}
        self.transport: MemoryTransport = world.hub.bind(self.secret, world.network)
        now = int(time.time() * 1000)
        self._entry = PeerEntry(
            network=world.network,
            version=PeerVersion(now, now),
            peer=self.peer,
            addresses=self.transport.addresses,
        )
        self._handlers: dict[str, Callable[[Link], Any]] = {}
        self.groups = Groups(self)

    async def start(self) -> None:
        await self.transport.start(lambda link: self._handlers[link.protocol](link))
        self.world.put(self.entry())

    def accept(self, protocol: str, handler: Callable[[Link], Any]) -> None:
        self._handlers[protocol] = handler

    def entry(self) -> SignedPeerEntry:
        return self._entry.sign(self.secret)

    def members(self, group: Digest) -> Iterable[SignedPeerEntry]:
        return [
            entry
            for entry in self.world.entries.values()
            if group in entry.entry.groups and entry.entry.peer != self.peer
        ]

    def feed(self, entry: SignedPeerEntry) -> None:
        self.world.put(entry)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        self.world.watchers.append(changed)
        return lambda: self.world.watchers.remove(changed)

    def add_group(self, group: Digest) -> None:
        self._revise(groups=self._entry.groups | {group})

    def remove_group(self, group: Digest) -> None:
        self._revise(groups=self._entry.groups - {group})

    def _revise(self, **changes: Any) -> None:
        self._entry = self._entry.revised(int(time.time() * 1000), **changes)
        self.world.put(self.entry())

    async def dial(self, address: str, peer: PeerId, timeout: float) -> Link:
        if self.crashed:
            raise DialError("the dead do not dial")
        return await self.transport.dial(address, "mosaik/groups/1", expect=peer, timeout=timeout)

    def crash(self) -> None:
        """Dies, for all others, as a killed process does: its links break, and nothing is said."""
        self.crashed = True
        self.world.hub.crash(self.peer)


class FakeLog:
    """A log in a list. What `fail` returns for a batch is raised instead of writing it."""

    def __init__(self, environment: FakeStore) -> None:
        self.environment: Any = environment
        self.hard_state = HardState(store=os.urandom(16))
        self.anchor = Anchor()
        self.rows: list[Entry[Any]] = []
        self.snapshot: SnapshotRef | None = None
        self.suspect: IndexRange | None = None
        self.suspect_term = 0

    @property
    def tail(self) -> Anchor:
        if not self.rows:
            return self.anchor
        last = self.rows[-1]
        return Anchor(last.term, last.index, last.checksum)

    @property
    def term_starts(self) -> Sequence[tuple[int, int]]:
        starts: list[tuple[int, int]] = []
        for entry in self.rows:
            if not starts or starts[-1][1] != entry.term:
                starts.append((entry.index, entry.term))
        return starts

    def available(self) -> IndexRange:
        return IndexRange(self.anchor.index, self.tail.index)

    def last(self) -> Cursor:
        return self.tail.cursor

    def term_at(self, index: int) -> int | None:
        entry = self.get(index)
        return entry.term if entry else (0 if index == 0 else None)

    def get(self, index: int) -> Entry[Any] | None:
        at = index - self.anchor.index - 1
        return self.rows[at] if 0 <= at < len(self.rows) else None

    def get_range(self, first: int, last: int, *, limit: int | None = None) -> list[Entry[Any]]:
        found: list[Entry[Any]] = []
        size = 0
        for entry in self.rows[max(0, first - 1) : last]:
            size += len(entry.sealed)
            if limit is not None and size > limit and found:
                break
            found.append(entry)
        return found

    def write(self, batch: WriteBatch[Any]) -> None:
        self.environment.commit([(self, batch)])

    def append(self, entries: Sequence[Entry[Any]]) -> None:
        self.write(WriteBatch(entries=entries))

    def truncate(self, at: int) -> None:
        self.write(WriteBatch(truncate_from=at))

    def prune_prefix(self, up_to: int) -> None:
        raise AssertionError("nothing prunes here")

    def reset_to(self, anchor: Anchor) -> None:
        self.write(WriteBatch(reset_to=anchor))

    def retire(self) -> None:
        self.rows.clear()
        self.hard_state = HardState(store=os.urandom(16))
        self.environment.retired += 1

    def take(self, batch: WriteBatch[Any]) -> None:
        if batch.reset_to is not None:
            self.rows.clear()
            self.anchor = batch.reset_to
        if batch.truncate_from is not None:
            del self.rows[batch.truncate_from - 1 :]
        for entry in batch.entries:
            assert entry.index == self.tail.index + 1
            self.rows.append(entry)
        if batch.hard_state is not None:
            self.hard_state = batch.hard_state


class FakeStore:
    """An environment that outlives its node, as a disk outlives a process."""

    def __init__(self, *, durable: bool = True) -> None:
        self.durable = durable
        self.key = f"fake-{id(self)}"
        self.opened: dict[bytes, FakeLog] = {}
        self.poisoned: BaseException | None = None
        self.fail: Callable[[WriteBatch[Any]], Exception | None] = lambda batch: None
        self.gate = threading.Event()
        self.gate.set()
        self.openings = 0
        self.retired = 0
        self.refuse_open: Exception | None = None

    def log(self, identity: LogIdentity, decode: Any = None) -> FakeLog:
        self.openings += 1
        if self.refuse_open is not None:
            raise self.refuse_open
        self.poisoned = None
        return self.opened.setdefault(identity.group, FakeLog(self))

    def logs(self) -> list[LogIdentity]:
        return []

    def commit(self, batches: Sequence[tuple[Any, WriteBatch[Any]]]) -> None:
        self.gate.wait()
        for log, batch in batches:
            error = self.fail(batch)
            if error is not None:
                raise error
            log.take(batch)

    def verify(self, log: Any, report: Callable[[int], None] | None = None) -> None:
        """Nothing here can rot."""

    def describe(self) -> Description:
        survives = {Capability.KILL_SAFE} if self.durable else set[Capability]()
        settings: Mapping[str, str] = {}
        return Description(
            url="fake://" if self.durable else "memory://fake",
            engine="fake",
            sync=SyncMode.FULL,
            capabilities=frozenset(survives),
            settings=settings,
        )

    def idle(self) -> None:
        """There is nothing to do late."""

    def close(self) -> None:
        """The test owns it."""
