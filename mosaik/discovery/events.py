"""News of peers, by callback or as an asynchronous iterator."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Generic, Self, TypeVar

import msgspec

from mosaik.primitives.digest import PeerId
from mosaik.primitives.peer import PeerEntry

__all__ = ["Event", "Events", "PeerDeparted", "PeerDiscovered", "PeerUpdated", "Subscribers"]

log = logging.getLogger("mosaik.discovery")


class PeerDiscovered(msgspec.Struct, frozen=True):
    """A peer that was not known."""

    entry: PeerEntry


class PeerUpdated(msgspec.Struct, frozen=True):
    """A known peer changed or renewed its entry."""

    entry: PeerEntry


class PeerDeparted(msgspec.Struct, frozen=True):
    """A peer said goodbye, or was not heard of for too long."""

    peer: PeerId


Event = PeerDiscovered | PeerUpdated | PeerDeparted

T = TypeVar("T")


class Subscribers(Generic[T]):
    """Callbacks that get every piece of news, in order of subscription."""

    def __init__(self) -> None:
        self._callbacks: dict[object, Callable[[T], None]] = {}

    def add(self, callback: Callable[[T], None]) -> Callable[[], None]:
        """Subscribes; returns what ends the subscription."""
        token = object()
        self._callbacks[token] = callback

        def cancel() -> None:
            self._callbacks.pop(token, None)

        return cancel

    def publish(self, news: T) -> None:
        """Tells everybody. A callback that raises is reported and keeps the news from nobody."""
        for callback in list(self._callbacks.values()):
            try:
                callback(news)
            except Exception as error:  # noqa: BLE001 - reported to the loop, as asyncio's own are
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a subscriber of discovery raised", "exception": error}
                )


class Events(AsyncIterator[Event]):
    """The events since this was made. Ends when discovery closes.

    A reader that is slower than the news loses the oldest; `lost` says how many.
    """

    def __init__(self, subscribers: Subscribers[Event], backlog: int) -> None:
        self.lost = 0
        self._backlog: Final = backlog
        self._queue: deque[Event] = deque()
        self._ready = asyncio.Event()
        self._closed = False
        self._cancel = subscribers.add(self._push)

    def _push(self, event: Event) -> None:
        if len(self._queue) >= self._backlog:
            self._queue.popleft()
            if not self.lost:
                log.warning("a reader of discovery events is too slow; events are lost")
            self.lost += 1
        self._queue.append(event)
        self._ready.set()

    def close(self) -> None:
        """Ends the iterator after what is still queued."""
        self._cancel()
        self._closed = True
        self._ready.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        return self._queue.popleft()
