"""The full mesh: every member bonds with every other one that it hears of.

Theory of operation
-------------------
Discovery says who lists the group in its entry. Every such peer without a bond is *pursued*: dialled,
again after a growing pause, until there is a bond or the peer lists the group no more. The peer pursues
us at the same time, and one link of the two must stay:

* While we dial a peer, its own link is refused if our id is the lower one; if our id is the higher one,
  it is accepted and our attempt gives way. So the lower id's link stays.
* A link from a peer that we think we are bonded with means that the peer has lost its end. The new link
  takes the place of a bond that is older than a handshake may take; before that it may be our own
  attempt crossing the peer's, and is refused.

Pursuing goes on whatever happens, so a refused link costs a pause and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from mosaik.groups.bond import Bond, BondTable, Ending
from mosaik.groups.config import GroupConfig
from mosaik.groups.handshake import Handshake, HandshakeFailed
from mosaik.groups.node import Node
from mosaik.groups.wire import BondFormed, BondMessage, EntryUpdate, HandshakeStart
from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import GroupTerminated, NetworkError
from mosaik.primitives.peer import PeerVersion, SignedPeerEntry
from mosaik.transport.contract import CloseReason, Link
from mosaik.transport.quiet import QuietLog

__all__ = ["HANDSHAKE_TIMEOUT", "Mesh", "Owner"]

log = logging.getLogger("mosaik.groups")
_quiet: Final = QuietLog(log)

#: Seconds that either side waits for the other's part of a handshake.
HANDSHAKE_TIMEOUT: Final = 2.0
_DIAL_TIMEOUT: Final = 5.0
#: The pause after a failed attempt doubles from the first to the last of these, in seconds.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class Owner(Protocol):
    """Whoever the bonds are for."""

    def bonded(self, bond: Bond) -> None: ...

    def unbonded(self, bond: Bond, ending: Ending) -> None: ...

    def received(self, bond: Bond, message: BondMessage) -> None: ...


class Mesh:
    """Keeps the bonds of one group."""

    def __init__(self, node: Node, config: GroupConfig, bonds: BondTable, owner: Owner) -> None:
        self._node = node
        self._config = config
        self._owner = owner
        self._handshake = Handshake(config, node.peer, node.network_id)
        self._pursuits: dict[PeerId, asyncio.Task[None]] = {}
        #: Peers that are being dialled at this moment (not those in a pause).
        self._dialling: set[PeerId] = set()
        self._told: PeerVersion | None = None
        self._stopped = False
        self._unwatch: Callable[[], None] | None = None
        self.bonds = bonds

    def start(self) -> None:
        """Begins to pursue members and to accept links."""
        self._unwatch = self._node.watch(self._entries_changed)
        self._entries_changed()

    # -- who is to be bonded ------------------------------------------------------------------------

    def _entries_changed(self) -> None:
        if self._stopped:
            return
        for entry in self._node.members(self._config.group_id):
            bond = self.bonds.get(entry.entry.peer)
            if bond is None:
                self._pursue(entry.entry.peer, _FIRST_PAUSE)
            elif bond.update(entry):
                self._admit(bond)
        own = self._node.entry()
        if self._told != own.entry.version:
            self._told = own.entry.version
            for bond in self.bonds:
                bond.send(EntryUpdate(own.raw))

    def _admit(self, bond: Bond) -> None:
        """Tickets are looked at again with every change of the peer's entry."""
        if not self._config.authorize_peer(bond.peer().entry):
            bond.end(CloseReason.NOT_ALLOWED, "no ticket that this group asks for")

    def _listed(self, peer: PeerId) -> SignedPeerEntry | None:
        for entry in self._node.members(self._config.group_id):
            if entry.entry.peer == peer:
                return entry
        return None

    def _pursue(self, peer: PeerId, pause: float) -> None:
        if self._stopped or peer == self._node.peer or peer in self._pursuits:
            return
        name = f"mosaik bond {self._config.group_id.short} {peer.short}"
        task = asyncio.get_running_loop().create_task(self._chase(peer, pause), name=name)
        self._pursuits[peer] = task
        task.add_done_callback(lambda done: self._pursuit_ended(peer, done))

    def _pursuit_ended(self, peer: PeerId, task: asyncio.Task[None]) -> None:
        self._pursuits.pop(peer, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": f"bonding with {peer.short} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    async def _chase(self, peer: PeerId, pause: float) -> None:
        while not self.bonds.contains_peer(peer):
            entry = self._listed(peer)
            if entry is None or not self._config.authorize_peer(entry.entry):
                return  # the next change of its entry begins anew
            for address in entry.entry.addresses:
                if await self._attempt(peer, address):
                    return
            # Chance keeps two peers that refuse each other's links from doing so for ever.
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _attempt(self, peer: PeerId, address: str) -> bool:
        """One dial and handshake; True when there is a bond afterwards, whoever made it."""
        link: Link | None = None
        self._dialling.add(peer)
        try:
            link = await self._node.dial(address, peer, _DIAL_TIMEOUT)
            entry, others = await self._handshake.initiate(
                link, self._node.entry(), HANDSHAKE_TIMEOUT
            )
        except HandshakeFailed as error:
            _quiet.warning("%s: %s at %s: %s", self._config, peer.short, address, error)
            if link is not None:
                link.close(error.code, str(error))
        except (NetworkError, TimeoutError) as error:
            log.debug("%s: no bond with %s at %s: %s", self._config, peer.short, address, error)
            if link is not None:
                link.close(CloseReason.TIMEOUT, "the handshake took too long")
        except asyncio.CancelledError:
            if link is not None:
                link.close(CloseReason.CANCELLED, "the group was closed")
            raise
        else:
            if self.bonds.contains_peer(peer):
                link.close(CloseReason.ALREADY_BONDED, "the other link stays")
            elif not self._config.authorize_peer(entry.entry):
                link.close(CloseReason.NOT_ALLOWED, "no ticket that this group asks for")
            else:
                self._form(link, entry)
                self._learn(others)
        finally:
            self._dialling.discard(peer)
        return self.bonds.contains_peer(peer)

    # -- who wants to bond with us ------------------------------------------------------------------

    def accept(self, link: Link, start: HandshakeStart) -> None:
        """A peer dialled us and named this group."""
        try:
            entry = self._handshake.verify(link, start)
            self._make_room(link)
            if not self._config.authorize_peer(entry.entry):
                raise HandshakeFailed(CloseReason.NOT_ALLOWED, "no ticket that this group asks for")
        except HandshakeFailed as error:
            log.debug("%s: refused %s: %s", self._config, link.remote.short, error)
            link.close(error.code, str(error))
            return
        bonded = [bond.peer() for bond in self.bonds]
        self._handshake.answer(link, self._node.entry(), bonded)
        self._form(link, entry)

    def _make_room(self, link: Link) -> None:
        """Decides which link stays, see above.

        Raises:
            HandshakeFailed: not this one.
        """
        peer = link.remote
        bond = self.bonds.get(peer)
        if self._stopped or self._unwatch is None or peer == self._node.peer:
            raise HandshakeFailed(CloseReason.GROUP_NOT_FOUND, "this group is not running here")
        if bond is None:
            if peer in self._dialling and self._node.peer < peer:
                raise HandshakeFailed(CloseReason.ALREADY_BONDED, "our own link is on its way")
            return
        age = asyncio.get_running_loop().time() - bond.formed_at
        if age < HANDSHAKE_TIMEOUT and not bond.is_terminated:
            raise HandshakeFailed(CloseReason.ALREADY_BONDED, "we are bonded")
        bond.end(CloseReason.ALREADY_BONDED, "a newer link takes its place")
        self._lost(bond, Ending(CloseReason.ALREADY_BONDED, "replaced", died=False))

    # -- the bonds ----------------------------------------------------------------------------------

    def _form(self, link: Link, entry: SignedPeerEntry) -> None:
        bond = Bond(link, entry, self._config.consensus, self._received, self._ended)
        formed = BondFormed(entry.raw)
        for other in self.bonds:
            other.send(formed)
        self.bonds.add(bond)
        log.info("%s: bonded with %s", self._config, bond.remote.short)
        self._node.feed(entry)
        self._owner.bonded(bond)

    def _ended(self, bond: Bond, ending: Ending) -> None:
        if self._lost(bond, ending):
            gone = ending.code == CloseReason.GRACEFUL_SHUTDOWN
            self._pursue(bond.remote, _LONGEST_PAUSE if gone else _FIRST_PAUSE)

    def _lost(self, bond: Bond, ending: Ending) -> bool:
        if not self.bonds.remove(bond):
            return False
        log.info("%s: bond with %s ended: %s", self._config, bond.remote.short, ending.reason)
        self._owner.unbonded(bond, ending)
        return True

    def _received(self, bond: Bond, message: BondMessage) -> None:
        if isinstance(message, EntryUpdate):
            self._learn_of(bond, message.entry)
        elif isinstance(message, BondFormed):
            self._learn_raw(message.entry)
        else:
            self._owner.received(bond, message)

    def _learn_of(self, bond: Bond, raw: bytes) -> None:
        """The bonded peer's own entry changed. Somebody else's entry is not a change of its own."""
        peeked = SignedPeerEntry.peek(raw)
        if peeked.peer != bond.remote or not peeked.is_newer_than(bond.peer().entry):
            return
        entry = SignedPeerEntry.decode(raw)
        if bond.update(entry):
            self._node.feed(entry)
            self._admit(bond)

    def _learn_raw(self, raw: bytes) -> None:
        peeked = SignedPeerEntry.peek(raw)
        known = self._listed(peeked.peer)
        if known is None or peeked.is_newer_than(known.entry):
            self._learn([SignedPeerEntry.decode(raw)])

    def _learn(self, entries: Iterable[SignedPeerEntry]) -> None:
        for entry in entries:
            if entry.entry.network == self._node.network_id and entry.entry.peer != self._node.peer:
                self._node.feed(entry)

    async def stop(self, reason: str, error: Callable[[], GroupTerminated]) -> None:
        """Says goodbye on every bond and dials no more."""
        self._stopped = True
        if self._unwatch is not None:
            self._unwatch()
        pursuits = list(self._pursuits.values())
        for task in pursuits:
            task.cancel()
        endings = [bond.terminated() for bond in self.bonds]
        for bond in self.bonds:
            bond.depart(reason)
        await asyncio.gather(*pursuits, *endings, return_exceptions=True)
        self.bonds.end(error)
