"""A live, proven connection with another member of the group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mosaik.groups.config import ConsensusConfig
from mosaik.groups.heartbeat import Heartbeat
from mosaik.groups.outcome import Pending
from mosaik.groups.watch import Watch
from mosaik.groups.wire import BondMessage, Departure, Ping, Pong, bond_codec
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.errors import GroupTerminated
from mosaik.primitives.peer import SignedPeerEntry
from mosaik.transport.contract import CloseReason, Link

__all__ = ["Bond", "BondTable", "Bonds", "Ending"]


class Ending(NamedTuple):
    """How a bond ended.

    Attributes:
        code: the close reason's number.
        reason: in words.
        died: the other side's socket closed, or it said that it goes: it will not speak again soon.
    """

    code: int
    reason: str
    died: bool


class Bond:
    """One bond. `send` queues; what arrives goes to ``on_message``; ``on_end`` is called once."""

    __slots__ = (
        "__weakref__",
        "_ended",
        "_entry",
        "_heartbeat",
        "_link",
        "_loop",
        "_on_message",
        "_waiting",
        "formed_at",
        "remote",
    )

    def __init__(
        self,
        link: Link,
        entry: SignedPeerEntry,
        config: ConsensusConfig,
        on_message: Callable[[Bond, BondMessage], None],
        on_end: Callable[[Bond, Ending], None],
    ) -> None:
        self._link = link
        self._entry = entry
        self._on_message = on_message
        self._ended: Ending | None = None
        self._waiting: list[Pending[Ending]] = []
        self._loop = asyncio.get_running_loop()
        self.remote: PeerId = link.remote
        self.formed_at = self._loop.time()
        self._heartbeat = Heartbeat(config, self._ping, self._silent)

        def closed(code: int, reason: str, died: bool) -> None:
            self._finish(Ending(code, reason, died or code == CloseReason.GRACEFUL_SHUTDOWN))
            on_end(self, self._ended or Ending(code, reason, died))

        link.on_close = closed
        link.on_frame = self._arrived

    @property
    def id(self) -> Digest:
        """Names this bond; equal at both ends."""
        return Digest.hash(b"mosaik group bond id 1", self._link.binding)

    def peer(self) -> SignedPeerEntry:
        """The newest signed entry of the peer at the other end."""
        return self._entry

    def update(self, entry: SignedPeerEntry) -> bool:
        """Takes a newer entry of the same peer; False when it is not one."""
        if entry.entry.peer != self.remote or not entry.entry.is_newer_than(self._entry.entry):
            return False
        self._entry = entry
        return True

    @property
    def backlog(self) -> int:
        """Bytes that were sent and have not reached the kernel yet."""
        return self._link.backlog

    def send(self, message: BondMessage) -> None:
        """Queues a message. Does nothing on a bond that has ended."""
        self._heartbeat.said = True
        self._link.send(bond_codec.encode(message))

    def _arrived(self, frame: bytes) -> None:
        self._heartbeat.heard = True
        message = bond_codec.decode(frame)
        if isinstance(message, Ping):
            self.send(Pong())
        elif isinstance(message, Departure):
            self._finish(Ending(CloseReason.GRACEFUL_SHUTDOWN, message.reason, died=True))
            self._link.close(CloseReason.SUCCESS, "goodbye")
        elif not isinstance(message, Pong):
            self._on_message(self, message)

    def _ping(self) -> None:
        self.send(Ping())

    def _silent(self) -> None:
        self.end(CloseReason.TIMEOUT, "the peer fell silent")

    @property
    def is_terminated(self) -> bool:
        """Whether it has ended."""
        return self._ended is not None or self._link.closed

    def terminated(self) -> Pending[Ending]:
        """Resolves to how it ended."""
        pending: Pending[Ending] = Pending(loop=self._loop)
        if self._ended is not None:
            pending.set_result(self._ended)
        else:
            self._waiting.append(pending)
        return pending

    def end(self, code: CloseReason, reason: str) -> None:
        """Closes the link; the rest follows when it has closed."""
        self._heartbeat.stop()
        self._link.close(code, reason)

    def depart(self, reason: str) -> None:
        """Says goodbye and closes."""
        self.send(Departure(reason))
        self.end(CloseReason.GRACEFUL_SHUTDOWN, reason)

    def close(self, reason: str = "closed by the application") -> Pending[Ending]:
        """Ends the bond; resolves when it has ended. The two may bond again."""
        ended = self.terminated()
        self.end(CloseReason.SUCCESS, reason)
        return ended

    def _finish(self, ending: Ending) -> None:
        self._heartbeat.stop()
        if self._ended is not None:
            return
        self._ended = ending
        waiting, self._waiting = self._waiting, []
        for pending in waiting:
            if not pending.done():
                pending.set_result(ending)

    def __repr__(self) -> str:
        state = f"ended {self._ended.code}" if self._ended else "open"
        return f"<Bond {self.remote.short} {state}>"


class Bonds:
    """This node's own bonds in one group; changes while you look at it."""

    __slots__ = ("_by_peer", "_count")

    def __init__(self) -> None:
        self._by_peer: dict[bytes, Bond] = {}
        self._count = Watch(0)

    def __len__(self) -> int:
        return len(self._by_peer)

    @property
    def is_empty(self) -> bool:
        return not self._by_peer

    def contains_peer(self, peer: bytes) -> bool:
        return peer in self._by_peer

    def get(self, peer: bytes) -> Bond | None:
        """The bond with a peer, if there is one."""
        return self._by_peer.get(peer)

    def __iter__(self) -> Iterator[Bond]:
        """The bonds of this moment, ordered by peer id."""
        return iter([self._by_peer[peer] for peer in sorted(self._by_peer)])

    def changed(self) -> Pending[int]:
        """Resolves to the number of bonds when it next changes."""
        before = self._count.value
        return self._count.until(lambda count: count != before)


class BondTable(Bonds):
    """The same, for the one who keeps them."""

    __slots__ = ()

    def add(self, bond: Bond) -> None:
        """There is a bond with this peer now."""
        self._by_peer[bond.remote] = bond
        self._count.set(len(self._by_peer))

    def remove(self, bond: Bond) -> bool:
        """This bond is gone; False when another one has taken its place."""
        if self._by_peer.get(bond.remote) is not bond:
            return False
        del self._by_peer[bond.remote]
        self._count.set(len(self._by_peer))
        return True

    def end(self, error: Callable[[], GroupTerminated]) -> None:
        """There will be no more bonds."""
        self._count.end(error)
