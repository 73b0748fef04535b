"""Whom to connect to: bootstrap addresses always, known peers until there are enough neighbours.

Bootstrap addresses are tried even when there are enough: they are what mends a network whose parts have
forgotten each other. Whatever fails is tried again after a pause that doubles and is never twice the
same, so that a thousand nodes do not come back in step.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Final

from mosaik.discovery.config import DiscoveryConfig
from mosaik.discovery.neighbour import Neighbour
from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import DialError
from mosaik.primitives.peer import SignedPeerEntry

__all__ = ["Seeker"]

#: A link that lasted so many seconds wipes out the failures before it.
_LASTING: Final = 10.0

log = logging.getLogger("mosaik.discovery")

_Key = PeerId | str
Connect = Callable[[str, PeerId | None], Awaitable[PeerId]]


class Seeker:
    """Dials until there are enough neighbours.

    Args:
        connect: dials an address, expecting a peer if one is given, and makes it a neighbour.
        linked: who is a neighbour now.
        known: the entries of all known peers.
        own: this node's id and addresses, which are never dialled.
        bootstrap: addresses to begin with.
    """

    def __init__(
        self,
        config: DiscoveryConfig,
        *,
        connect: Connect,
        linked: Callable[[], Collection[PeerId]],
        known: Callable[[], Iterator[SignedPeerEntry]],
        own: Callable[[], Collection[str]],
        bootstrap: Collection[str],
    ) -> None:
        self._config = config
        self._connect = connect
        self._linked = linked
        self._known = known
        self._own = own
        self._bootstrap: Final = tuple(dict.fromkeys(bootstrap))
        self._who: dict[str, PeerId] = {}  # who answered at a bootstrap address
        self._failures: dict[_Key, int] = {}
        self._not_before: dict[_Key, float] = {}
        self._dialling: dict[_Key, asyncio.Task[None]] = {}
        self._awake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Seeks until it is cancelled."""
        try:
            while True:
                self._awake.clear()
                wait = self._begin()
                try:
                    async with asyncio.timeout(wait):
                        await self._awake.wait()
                except TimeoutError:
                    pass  # some pause is over
        finally:
            tasks = list(self._dialling.values())
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def wake(self) -> None:
        """Something changed: look again."""
        self._awake.set()

    def lost(self, neighbour: Neighbour) -> None:
        """A link ended. Dialling again at once is right after a long life and wrong after a short one."""
        if neighbour.age() > _LASTING:
            self._failures.pop(neighbour.peer, None)
        self._failed(neighbour.peer)
        for address, peer in self._who.items():
            if peer == neighbour.peer:
                self._not_before[address] = self._not_before[neighbour.peer]
        self._awake.set()

    def forgive(self, peer: PeerId) -> None:
        """The peer has started anew: earlier failures say nothing."""
        self._failures.pop(peer, None)
        self._not_before.pop(peer, None)
        self._awake.set()

    def forget(self, peer: PeerId) -> None:
        """The peer is gone."""
        self._failures.pop(peer, None)
        self._not_before.pop(peer, None)

    def _begin(self) -> float | None:
        """Starts what is due; returns in how many seconds the next attempt is."""
        now = self._loop.time()
        linked = self._linked()
        free = self._config.neighbours - len(linked)
        free -= sum(isinstance(key, PeerId) for key in self._dialling)
        next_due: float | None = None
        for key, addresses, wanted in self._candidates(linked):
            if not wanted and free <= 0:
                break
            due = self._not_before.get(key, 0.0)
            if due > now:
                next_due = due if next_due is None else min(due, next_due)
                continue
            free -= not wanted
            task = asyncio.create_task(self._attempt(key, addresses), name=f"mosaik seek {key}")
            self._dialling[key] = task
        return None if next_due is None else next_due - now

    def _candidates(
        self, linked: Collection[PeerId]
    ) -> Iterator[tuple[_Key, tuple[str, ...], bool]]:
        own = self._own()
        for address in self._bootstrap:
            reached = self._who.get(address) in linked
            if not reached and address not in own and address not in self._dialling:
                yield address, (address,), True
        strangers = [
            signed.entry
            for signed in self._known()
            if signed.entry.peer not in linked and signed.entry.peer not in self._dialling
        ]
        random.shuffle(strangers)  # spreads the load; no secret depends on it
        for entry in strangers:
            yield entry.peer, entry.addresses, False

    async def _attempt(self, key: _Key, addresses: tuple[str, ...]) -> None:
        expect = key if isinstance(key, PeerId) else None
        try:
            for address in addresses:
                try:
                    peer = await self._connect(address, expect)
                except DialError as error:
                    # Once at each bootstrap address: it may be misspelt, and nobody else would say so.
                    first = expect is None and key not in self._failures
                    log.log(logging.WARNING if first else logging.DEBUG, "%s; trying on", error)
                else:
                    if expect is None:
                        self._who[address] = peer
                    return
            self._failed(key)
        finally:
            del self._dialling[key]
            self._awake.set()

    def _failed(self, key: _Key) -> None:
        if len(self._failures) > 2 * self._config.max_peers:
            # Strangers that came and went; who is still there is merely dialled a little early.
            self._failures.clear()
            self._not_before.clear()
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(self._config.max_backoff, self._config.first_backoff * 2.0 ** min(failures, 32))
        spread = random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        self._not_before[key] = self._loop.time() + pause * spread
