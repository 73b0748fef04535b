"""The wires between simulated processes: slow, cut, and broken off.

Links are what the transport promises: ordered, and all or nothing until they break. A cut holds back what was
sent, as TCP does, and hands it over when it heals. Messages of consensus are the exception: its protocol
is meant to stand networks that lose, double and overtake, so they are, at the rates of `Quality`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from mosaik.groups.wire import PROTOCOL as BONDS
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.errors import DialError
from mosaik.testing.simulation.loop import VirtualLoop
from mosaik.testing.simulation.scheduler import Scheduler
from mosaik.transport.contract import CloseReason, Link
from mosaik.transport.link import BaseLink

__all__ = ["PERFECT", "Quality", "SimTransport", "Wires"]

#: What a message of consensus begins with on a bond: an array, whose first element is its number.
_RAFT: Final = 6
#: Virtual seconds between attempts to reach somebody who does not answer.
_KNOCK_EVERY: Final = 0.25


@dataclass(frozen=True)
class Quality:
    """How bad the wires are.

    Attributes:
        seconds: range of the ordinary delay.
        loss, duplicate: shares of consensus messages that vanish, or come twice.
        overtaken: share of them that take up to ``late`` seconds longer than what was sent after them.
    """

    seconds: tuple[float, float] = (0.0005, 0.005)
    loss: float = 0.0
    duplicate: float = 0.0
    overtaken: float = 0.0
    late: float = 0.5


PERFECT: Final = Quality()


class _Closing(NamedTuple):
    code: int
    reason: str
    died: bool


class Wires:
    """Who can reach whom, and how.

    Attributes:
        listening: by address.
        cut: ``(from, to)``: nothing passes in this direction.
        slow: seconds that a peer's every frame takes longer.
    """

    def __init__(self, scheduler: Scheduler, chance: random.Random) -> None:
        self.scheduler: Final = scheduler
        self.chance: Final = chance
        self.quality = PERFECT
        self.listening: dict[str, SimTransport] = {}
        self.cut: set[tuple[bytes, bytes]] = set()
        self.slow: dict[bytes, float] = {}
        self.links: dict[SimLink, None] = {}
        self.serial = 0

    def sever(self, inside: Iterable[bytes], outside: Iterable[bytes], *, one_way: bool) -> None:
        """Cuts between two sets of peers; one way: what the inside says is not heard."""
        outside = list(outside)
        for one in inside:
            for other in outside:
                self.cut.add((one, other))
                if not one_way:
                    self.cut.add((other, one))

    def heal(self) -> None:
        """Everything passes again; what was held back arrives."""
        self.cut.clear()
        for link in list(self.links):
            link.flush()

    def delay(self, sender: bytes, receiver: bytes) -> float:
        """Seconds that a frame takes."""
        low, high = self.quality.seconds
        more = self.slow.get(sender, 0.0) + self.slow.get(receiver, 0.0)
        return low + (high - low) * self.chance.random() + more

    def drop(self, link: SimLink) -> None:
        """A link that has nothing to deliver any more."""
        self.links.pop(link, None)


class SimLink(BaseLink):
    """One end of a link."""

    def __init__(
        self, transport: SimTransport, remote: PeerId, protocol: str, initiator: bool, serial: int
    ) -> None:
        pair = sorted((transport.peer, remote))
        binding = Digest.hash(b"simulated link", serial.to_bytes(8, "big"), *pair)
        super().__init__(remote, protocol, initiator, binding)
        self._transport = transport
        self._wires = transport.wires
        self._end_of_pair: SimLink | None = None
        self._held: deque[bytes | _Closing] = deque()
        #: When the last ordered frame arrives: the next one does not overtake it.
        self._last = 0.0
        self._wires.links[self] = None
        transport.links[self] = None

    def join(self, other: SimLink) -> None:
        """Makes this the other end of that one."""
        self._end_of_pair = other

    @property
    def backlog(self) -> int:
        """Bytes that a cut holds back."""
        return sum(len(item) for item in self._held if isinstance(item, bytes))

    def send(self, frame: bytes) -> None:
        """Queues a frame. Does nothing on a closed link."""
        if self._end is not None:
            return
        self.check_size(frame)
        wires = self._wires
        if self.protocol == BONDS and len(frame) > 1 and frame[1] == _RAFT:
            quality, chance = wires.quality, wires.chance
            if chance.random() < quality.loss:
                return
            if chance.random() < quality.duplicate:
                self._late(frame)
            if chance.random() < quality.overtaken:
                self._late(frame)
                return
        self._held.append(frame)
        self.flush()

    def _late(self, frame: bytes) -> None:
        """Sends a frame outside of the order, unless the wire is cut."""
        wires = self._wires
        if (self._transport.peer, self.remote) not in wires.cut:
            delay = wires.delay(self._transport.peer, self.remote)
            delay += wires.quality.late * wires.chance.random()
            wires.scheduler.after(delay, partial(self._arrive, frame))

    def close(self, code: int = CloseReason.SUCCESS, reason: str = "") -> None:
        """Tells the other side why, and ends the link."""
        if self._end is None:
            self._stopped = True
            self._held.append(_Closing(code, reason, died=False))
            self._ended(code, reason, died=False)
            self.flush()
            self._transport.links.pop(self, None)

    def broken(self, *, died: bool) -> None:
        """This end notices that the link is gone, or that the process at the other end is."""
        if self._end is None:
            self._ended(CloseReason.UNEXPECTED_CLOSE, "the connection was lost", died)
        self._transport.links.pop(self, None)
        self._wires.drop(self)

    def flush(self) -> None:
        """Puts on the wire what was held back, unless it still is."""
        wires = self._wires
        if (self._transport.peer, self.remote) in wires.cut:
            return
        while self._held:
            item = self._held.popleft()
            arrival = wires.scheduler.now + wires.delay(self._transport.peer, self.remote)
            self._last = max(arrival, self._last)
            wires.scheduler.at(self._last, partial(self._arrive, item))
        if self._end is not None:
            wires.drop(self)

    def _arrive(self, item: bytes | _Closing) -> None:
        other = self._end_of_pair
        if other is not None:
            other.deliver(item)

    def deliver(self, item: bytes | _Closing) -> None:
        """Something arrives from the other end."""
        self._transport.loop.deliver(partial(self._take, item))

    def reset(self, *, died: bool) -> None:
        """The kernel tells this end's process that the link is gone."""
        self._transport.loop.deliver(partial(self.broken, died=died))

    def _take(self, item: bytes | _Closing) -> None:
        if self._end is not None:
            return
        if isinstance(item, _Closing):
            self._ended(item.code, item.reason, item.died)
            self._transport.links.pop(self, None)
            self._wires.drop(self)
            return
        try:
            self._deliver(item)
        except Exception as error:  # noqa: BLE001 - reported by `_handler_failed`, never swallowed
            self._handler_failed(error)

    def vanish(self) -> None:
        """The process at this end is gone, and its kernel says nothing."""
        self._end_of_pair, self._held = None, deque()
        self._wires.drop(self)

    @property
    def other(self) -> SimLink | None:
        return self._end_of_pair


def _refuse(link: Link) -> None:
    link.close(CloseReason.CANCELLED, "not listening")


class SimTransport:
    """Implements `Transport` for one process."""

    def __init__(self, wires: Wires, loop: VirtualLoop, peer: PeerId) -> None:
        self.wires: Final = wires
        self.loop: Final = loop
        self.peer: Final = peer
        self.address: Final = address_of(peer)
        self.links: dict[SimLink, None] = {}
        self._accept: Callable[[Link], None] = _refuse

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address,)

    async def start(self, accept: Callable[[Link], None]) -> None:
        self._accept = accept
        self.wires.listening[self.address] = self

    async def dial(
        self, address: str, protocol: str, *, expect: PeerId | None = None, timeout: float = 5.0
    ) -> Link:
        try:
            async with asyncio.timeout(timeout):
                target = await self._reach(address)
        except TimeoutError:
            raise DialError(f"{address} did not answer within {timeout:g} s") from None
        if expect is not None and target.peer != expect:
            raise DialError(f"{target.peer.short} answered at {address}, not {expect.short}")
        self.wires.serial += 1
        serial = self.wires.serial
        ours = SimLink(self, target.peer, protocol, True, serial)
        with target.loop.running():
            theirs = SimLink(target, self.peer, protocol, False, serial)
            ours.join(theirs)
            theirs.join(ours)
            target._accept(theirs)
        return ours

    async def _reach(self, address: str) -> SimTransport:
        while True:
            target = self.wires.listening.get(address)
            other = target.peer if target is not None else b""
            ways = (self.peer, other), (other, self.peer)
            await asyncio.sleep(2 * self.wires.delay(self.peer, other))
            if target is None or self.wires.listening.get(address) is not target:
                raise DialError(f"nobody listens at {address}")
            if not target.loop.frozen and not any(way in self.wires.cut for way in ways):
                return target
            await asyncio.sleep(_KNOCK_EVERY)

    def crash(self, *, silent: bool) -> list[SimLink]:
        """The process is gone.

        Args:
            silent: with its machine: nobody hears of it.

        Returns:
            the other ends of its links, which do not know yet.
        """
        self.wires.listening.pop(self.address, None)
        left: list[SimLink] = []
        for link in list(self.links):
            if (other := link.other) is not None and not silent:
                delay, peer = self.wires.delay(self.peer, link.remote), link.remote
                self.wires.scheduler.after(delay, partial(self._reset, peer, other))
            elif other is not None:
                left.append(other)
            link.vanish()
        self.links.clear()
        return left

    def _reset(self, peer: PeerId, other: SimLink) -> None:
        """The kernel of a process that died closes its sockets, which a cut keeps from being heard."""
        if (self.peer, peer) in self.wires.cut:
            self.wires.scheduler.after(_KNOCK_EVERY, partial(self._reset, peer, other))
        else:
            other.reset(died=True)

    async def close(self) -> None:
        self.wires.listening.pop(self.address, None)
        for link in list(self.links):
            link.close(CloseReason.GRACEFUL_SHUTDOWN, "the node shut down")
        await asyncio.sleep(0)


def address_of(peer: PeerId) -> str:
    """Where a peer listens."""
    return f"sim:{peer}"
