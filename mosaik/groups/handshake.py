"""Both sides of a new link prove that they know the group key, the initiator first.

Theory of operation
-------------------
The transport has proven who is at the other end. What remains is whether that peer belongs to the
group. Each side sends an HMAC, keyed with the group key, over the link's binding (fresh on every link,
so nothing can be replayed), both peer ids in order, the role, the network and the group's id (see
`GroupKey.proof`). The key never crosses the wire, and a proof is of no use on another link, to another
peer, in the other role or in another group.

The initiator speaks first, so an acceptor never shows a proof to somebody who has not shown one.
"""

from __future__ import annotations

import hmac

from mosaik.groups.config import GroupConfig
from mosaik.groups.wire import HandshakeEnd, HandshakeStart, end_codec, start_codec
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.errors import CodecError, GroupError
from mosaik.primitives.peer import SignedPeerEntry
from mosaik.transport.contract import CloseReason, Link

__all__ = ["HandshakeFailed", "Handshake", "read_start"]


class HandshakeFailed(GroupError):
    """The other side is not who may bond here.

    Attributes:
        code: what the link is closed with.
    """

    def __init__(self, code: CloseReason, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Handshake:
    """What one node says and checks on links of one group."""

    __slots__ = ("_config", "_me", "_network")

    def __init__(self, config: GroupConfig, me: PeerId, network: Digest) -> None:
        self._config = config
        self._me = me
        self._network = network

    def _proof(self, link: Link, *, by_initiator: bool) -> bytes:
        initiator, acceptor = (self._me, link.remote) if link.initiator else (link.remote, self._me)
        return self._config.key.proof(
            binding=link.binding,
            initiator=initiator,
            acceptor=acceptor,
            by_initiator=by_initiator,
            network=self._network,
            group=self._config.group_id,
        )

    async def initiate(
        self, link: Link, entry: SignedPeerEntry, timeout: float
    ) -> tuple[SignedPeerEntry, list[SignedPeerEntry]]:
        """Proves ourselves to whoever was dialled and checks them.

        Returns:
            The acceptor's entry, and those of the peers that it is bonded with.

        Raises:
            HandshakeFailed: the acceptor does not know the key, or sent nonsense.
            LinkClosed: it closed the link. TimeoutError: it stalls.
        """
        proof = self._proof(link, by_initiator=True)
        start = HandshakeStart(self._network, self._config.group_id, proof, entry.raw)
        link.send(start_codec.encode(start))
        try:
            end = end_codec.decode(await link.receive(timeout))
            theirs = SignedPeerEntry.decode(end.entry)
            others = [SignedPeerEntry.decode(raw) for raw in end.bonds]
        except CodecError as error:
            raise HandshakeFailed(CloseReason.INVALID_HANDSHAKE, str(error)) from error
        self._check(link, end.proof, theirs, by_initiator=False)
        return theirs, others

    def verify(self, link: Link, start: HandshakeStart) -> SignedPeerEntry:
        """Checks what an initiator said; returns its entry.

        Raises:
            HandshakeFailed: it does not know the key, is elsewhere, or sent somebody else's entry.
        """
        if start.network != self._network:
            raise HandshakeFailed(CloseReason.DIFFERENT_NETWORK, "this is another network")
        try:
            theirs = SignedPeerEntry.decode(start.entry)
        except CodecError as error:
            raise HandshakeFailed(CloseReason.INVALID_HANDSHAKE, str(error)) from error
        self._check(link, start.proof, theirs, by_initiator=True)
        return theirs

    def answer(self, link: Link, entry: SignedPeerEntry, bonds: list[SignedPeerEntry]) -> None:
        """Proves ourselves to an initiator that `verify` has accepted."""
        proof = self._proof(link, by_initiator=False)
        link.send(
            end_codec.encode(HandshakeEnd(proof, entry.raw, tuple(b.raw for b in bonds[:256])))
        )

    def _check(
        self, link: Link, proof: bytes, theirs: SignedPeerEntry, *, by_initiator: bool
    ) -> None:
        if not hmac.compare_digest(proof, self._proof(link, by_initiator=by_initiator)):
            raise HandshakeFailed(CloseReason.INVALID_PROOF, "the proof of the group key is wrong")
        if theirs.entry.peer != link.remote or theirs.entry.network != self._network:
            raise HandshakeFailed(
                CloseReason.INVALID_HANDSHAKE, "the entry is of another peer or another network"
            )


async def read_start(link: Link, timeout: float) -> HandshakeStart:
    """An initiator's first frame.

    Raises:
        HandshakeFailed: it is not one. LinkClosed, TimeoutError: none came.
    """
    try:
        return start_codec.decode(await link.receive(timeout))
    except CodecError as error:
        raise HandshakeFailed(CloseReason.INVALID_HANDSHAKE, str(error)) from error
