"""One discovery link, and what the peer on its other side may cost us."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from mosaik.discovery.config import DiscoveryConfig
from mosaik.discovery.wire import CatalogEnd, codec, packed
from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import LinkClosed, ProtocolViolation
from mosaik.transport.contract import CloseReason, Link

__all__ = ["Neighbour"]

#: Unsent bytes above which a neighbour counts as too slow. Above two whole catalogs.
_MAX_BACKLOG: Final = 40 * 1024 * 1024
#: Entries a second that a neighbour may send in the long run.
_RATE: Final = 200.0


class Neighbour:
    """A peer with which news is exchanged.

    Attributes:
        link: the link to it.
        since: when the link was made, in the loop's time.
        heard: when it last sent something.
        banned: it broke the protocol; what it sent and was not looked at yet is void.
    """

    def __init__(self, link: Link, config: DiscoveryConfig) -> None:
        self._loop = asyncio.get_running_loop()
        self.link: Final = link
        self.since: Final = self._loop.time()
        self.heard = self.since
        self.banned = False
        self._synced: asyncio.Future[None] | None = None
        self._lost: tuple[int, str] | None = None
        # Room for two catalogs at once; a long message of honest news never fills it.
        self._capacity: Final = 2.0 * config.max_peers
        self._credit = self._capacity

    @property
    def peer(self) -> PeerId:
        """Who it is."""
        return self.link.remote

    def age(self) -> float:
        """Seconds since the link was made."""
        return self._loop.time() - self.since

    def charge(self, entries: int) -> None:
        """Counts what it sends against what it may.

        Raises:
            ProtocolViolation: it is too much.
        """
        now = self._loop.time()
        earned = (now - self.heard) * _RATE
        self.heard = now
        self._credit = min(self._capacity, self._credit + earned) - entries
        if self._credit < 0:
            raise ProtocolViolation("sends more entries than any honest node has news")

    def send(self, frames: Iterable[bytes]) -> None:
        """Sends, unless it has left too much unread; then the link ends."""
        for frame in frames:
            if self.link.backlog > _MAX_BACKLOG:
                self.link.close(CloseReason.TOO_MANY, "too slow")
                return
            self.link.send(frame)

    def send_catalog(self, raws: Iterable[bytes]) -> None:
        """Sends a whole catalog, and that it is whole."""
        self.send(packed(raws))
        self.send([codec.encode(CatalogEnd())])

    async def synced(self) -> None:
        """Waits for the end of the next catalog that it sends.

        Raises:
            LinkClosed: it went away instead.
        """
        if self._lost is not None:
            raise LinkClosed(*self._lost)
        if self._synced is None:
            self._synced = self._loop.create_future()
        await asyncio.shield(self._synced)

    def catalog_ended(self) -> None:
        """Its catalog is whole here."""
        future, self._synced = self._synced, None
        if future is not None and not future.done():
            future.set_result(None)

    def lost(self, code: int, reason: str) -> None:
        """The link ended."""
        self._lost = self._lost or (code, reason)
        future, self._synced = self._synced, None
        if future is not None and not future.done():
            future.set_exception(LinkClosed(code, reason))
            future.exception()  # whoever waits hears of it; that nobody does is no fault
