"""Links inside one process, with partitions: for tests and simulations.

A `MemoryHub` stands for the wire. Given an event loop that is deterministic, so is everything here: no
thread, no clock, no randomness. A partition behaves as a real one: what was sent is held back and
arrives when it heals, a dial waits for its time limit, and nobody is told that anything ended.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.errors import BindError, DialError
from mosaik.primitives.peer import SecretKey
from mosaik.transport.contract import CloseReason, Link
from mosaik.transport.link import BaseLink

__all__ = ["MemoryHub", "MemoryLink", "MemoryTransport"]


class _Closing(NamedTuple):
    code: int
    reason: str
    died: bool


class MemoryHub:
    """Everything that can reach everything, until it is partitioned."""

    def __init__(self) -> None:
        self.listening: dict[str, MemoryTransport] = {}
        self._separated: set[frozenset[PeerId]] = set()
        self.links: dict[MemoryLink, None] = {}  # a dict for its order: sets of objects are random
        self._healed = asyncio.Event()
        self.serial = itertools.count()

    def bind(self, secret: SecretKey, network: Digest) -> MemoryTransport:
        """A transport on this hub: what ``Network(transport=hub.bind)`` asks for."""
        return MemoryTransport(self, secret.peer, network)

    def separate(self, one: PeerId, other: PeerId) -> None:
        """Holds back everything between two peers, in both directions."""
        self._separated.add(frozenset((one, other)))

    def partition(self, *sides: Iterable[PeerId]) -> None:
        """Separates every two peers that stand on different sides. Others reach everybody."""
        listed = [list(side) for side in sides]
        for left, right in itertools.combinations(listed, 2):
            for one, other in itertools.product(left, right):
                self.separate(one, other)

    def isolate(self, peer: PeerId) -> None:
        """Separates a peer from every other one that listens now."""
        for other in self.listening.values():
            if other.peer != peer:
                self.separate(peer, other.peer)

    def heal(self) -> None:
        """Ends every partition; what was held back arrives."""
        self._separated.clear()
        self._healed.set()
        self._healed = asyncio.Event()
        for link in list(self.links):
            link.schedule()

    def connected(self, one: PeerId, other: PeerId) -> bool:
        """Whether frames pass between two peers."""
        return not self._separated or frozenset((one, other)) not in self._separated

    def crash(self, peer: PeerId) -> None:
        """Kills a peer's transport: its links die without a word, nothing listens any more."""
        for transport in list(self.listening.values()):
            if transport.peer == peer:
                transport.abort()

    async def reach(self, dialler: MemoryTransport, address: str) -> MemoryTransport:
        while True:
            target = self.listening.get(address)
            if target is None:
                raise DialError(f"nobody listens at {address}")
            if self.connected(dialler.peer, target.peer):
                return target
            await self._healed.wait()


class MemoryLink(BaseLink):
    """One end of a pair. Made by `MemoryTransport.dial`."""

    def __init__(
        self, owner: MemoryTransport, remote: PeerId, protocol: str, initiator: bool, binding: bytes
    ) -> None:
        super().__init__(remote, protocol, initiator, binding)
        self._owner = owner
        self._hub = owner.hub
        self._other: MemoryLink | None = None
        self._outbox: deque[bytes | _Closing] = deque()
        self._backlog = 0
        self._scheduled = False

    def join(self, other: MemoryLink) -> None:
        """Makes this the other end of that one."""
        self._other = other
        self._hub.links[self] = None
        self._owner.links[self] = None

    @property
    def backlog(self) -> int:
        """Bytes handed to `send` that the other side has not got."""
        return self._backlog

    def send(self, frame: bytes) -> None:
        """Queues a frame. Does nothing on a closed link."""
        if self._end is not None:
            return
        self.check_size(frame)
        self._outbox.append(frame)
        self._backlog += len(frame)
        self.schedule()

    def close(self, code: int = CloseReason.SUCCESS, reason: str = "") -> None:
        """Tells the other side why, and ends the link."""
        self._finish(_Closing(code, reason, died=False))

    def abort(self) -> None:
        """Ends the link as the death of a process does: without a word."""
        self._finish(_Closing(CloseReason.UNEXPECTED_CLOSE, "the connection was lost", died=True))

    def _finish(self, last: _Closing) -> None:
        if self._end is not None:
            return
        self._stopped = True
        self._outbox.append(last)  # first: a link with something to deliver is not forgotten
        self._ended(last.code, last.reason, died=False)
        self.schedule()

    def schedule(self) -> None:
        """Delivers on the next turn of the loop what is queued, if nothing separates the two."""
        if self._outbox and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        other = self._other
        assert other is not None
        if not self._hub.connected(self._owner.peer, self.remote):
            return  # `heal` schedules it again
        while self._outbox:
            item = self._outbox.popleft()
            if isinstance(item, _Closing):
                other.peer_closed(item)
            else:
                self._backlog -= len(item)
                other.arrived(item)
        if self.closed:
            self._hub.links.pop(self, None)
            self._owner.links.pop(self, None)

    def arrived(self, frame: bytes) -> None:
        """Takes a frame from the other end."""
        if self._end is not None:
            return
        try:
            self._deliver(frame)
        except Exception as error:  # noqa: BLE001 - reported by `_handler_failed`, never swallowed
            self._handler_failed(error)

    def peer_closed(self, how: _Closing) -> None:
        """Takes the other end's last word."""
        self._ended(*how)

    def _ended(self, code: int, reason: str, died: bool) -> None:
        super()._ended(code, reason, died)
        if not self._outbox:
            self._hub.links.pop(self, None)
            self._owner.links.pop(self, None)


def _refuse(link: Link) -> None:
    link.close(CloseReason.CANCELLED, "not listening")


class MemoryTransport:
    """A `Transport` on a `MemoryHub`. Its address is ``memory:`` and the peer's id."""

    def __init__(self, hub: MemoryHub, peer: PeerId, network: Digest) -> None:
        self.hub = hub
        self.peer = peer
        self.network = network
        self.address = f"memory:{peer}"
        self.links: dict[MemoryLink, None] = {}
        self.accept: Callable[[Link], None] = _refuse

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node can be dialled."""
        return (self.address,)

    async def start(self, accept: Callable[[Link], None]) -> None:
        """Listens.

        Raises:
            BindError: this peer already listens on the hub.
        """
        if self.address in self.hub.listening:
            raise BindError(f"{self.address} is in use on this hub; close the other one first")
        self.accept = accept
        self.hub.listening[self.address] = self

    async def dial(
        self, address: str, protocol: str, *, expect: PeerId | None = None, timeout: float = 5.0
    ) -> Link:
        """Connects to whoever listens at an address.

        Raises:
            DialError: nobody, or somebody else, answered in time.
        """
        try:
            async with asyncio.timeout(timeout):
                target = await self.hub.reach(self, address)
        except TimeoutError:
            raise DialError(f"{address} did not answer within {timeout:g} s") from None
        if target.network != self.network:
            raise DialError(f"{address} belongs to another network")
        if expect is not None and target.peer != expect:
            raise DialError(f"{target.peer.short} answered at {address}, not {expect.short}")
        serial = next(self.hub.serial).to_bytes(8, "big")
        binding = Digest.hash(b"memory link", serial, self.peer, target.peer, protocol.encode())
        ours = MemoryLink(self, target.peer, protocol, True, binding)
        theirs = MemoryLink(target, self.peer, protocol, False, binding)
        ours.join(theirs)
        theirs.join(ours)
        target.accept(theirs)
        return ours

    def abort(self) -> None:
        """Stops as a killed process does."""
        self.hub.listening.pop(self.address, None)
        for link in list(self.links):
            link.abort()

    async def close(self) -> None:
        """Ends every link and stops listening."""
        self.hub.listening.pop(self.address, None)
        for link in list(self.links):
            link.close(CloseReason.GRACEFUL_SHUTDOWN, "the node shut down")
        await asyncio.sleep(0)  # one turn, so that the other side hears of it
