"""Who a node is, and what it says of itself: secret keys and signed, versioned peer entries.

A node's id is the public half of an Ed25519 key. What other nodes know of it is a `PeerEntry` that the
node signed; an entry may be passed on by anybody, because nobody can change it on the way.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple, Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from mosaik.primitives.codec import Codec
from mosaik.primitives.digest import DIGEST_SIZE, Digest, PeerId
from mosaik.primitives.errors import CodecError, IdentityError

__all__ = [
    "MAX_ENTRY_SIZE",
    "SIGNATURE_SIZE",
    "CarriedTicket",
    "PeerEntry",
    "PeerVersion",
    "SecretKey",
    "SignedPeerEntry",
    "verify",
]

SIGNATURE_SIZE: Final = 64

#: The longest encoded entry, in bytes. Room for about a thousand groups and some large tickets.
MAX_ENTRY_SIZE: Final = 64 * 1024

#: Signatures of different things never stand for each other, because each signs its own context.
_ENTRY_CONTEXT: Final = b"mosaik peer entry 1\0"
_FORMAT: Final = 1


class SecretKey:
    """An Ed25519 secret key. It is never shown by ``repr``, and refuses to be pickled."""

    __slots__ = ("_key", "peer")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.peer: Final = PeerId.from_bytes(key.public_key().public_bytes_raw())
        """The public half: the id of the node that holds this key."""

    @classmethod
    def generate(cls) -> Self:
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """The key with this 32-byte secret.

        Raises:
            IdentityError: there are not exactly 32 bytes.
        """
        if len(secret) != DIGEST_SIZE:
            raise IdentityError(f"a secret key has {DIGEST_SIZE} bytes, not {len(secret)}")
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    def reveal(self) -> bytes:
        """The 32 secret bytes, to keep them somewhere safe."""
        return self._key.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of a message."""
        return self._key.sign(message)

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """The key as `cryptography` knows it, to make certificates with."""
        return self._key

    def __repr__(self) -> str:
        return f"SecretKey(peer={self.peer.short})"

    def __reduce__(self) -> Any:
        raise TypeError("a SecretKey is not pickled; use reveal() and from_bytes()")


def verify(peer: PeerId, message: bytes, signature: bytes) -> bool:
    """Whether this peer signed this message."""
    try:
        Ed25519PublicKey.from_public_bytes(peer).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class PeerVersion(NamedTuple):
    """Which of two entries of a peer is newer: compared by start, then by update.

    Attributes:
        start_ms: when the node started, in milliseconds since 1970.
        update_ms: when the entry last changed, likewise; always grows within one start.
    """

    start_ms: int
    update_ms: int

    def next(self, now_ms: int) -> PeerVersion:
        """The version after this one."""
        return PeerVersion(self.start_ms, max(self.update_ms, now_ms) + 1)


class CarriedTicket(NamedTuple):
    """A ticket as it travels in an entry: opaque here, judged by the validators of its class."""

    id: bytes
    kind: bytes
    data: bytes


_Id = Annotated[bytes, Meta(min_length=DIGEST_SIZE, max_length=DIGEST_SIZE)]
_Address = Annotated[str, Meta(min_length=1, max_length=255)]
_Millis = Annotated[int, Meta(ge=0, le=2**53)]


class _WireTicket(msgspec.Struct, frozen=True, array_like=True):
    id: _Id
    kind: _Id
    data: Annotated[bytes, Meta(max_length=16 * 1024)]


class _Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An entry's signed bytes, field by field, each with its limit."""

    format: Annotated[int, Meta(ge=1, le=255)]
    network: _Id
    start_ms: _Millis
    update_ms: _Millis
    peer: _Id
    addresses: Annotated[tuple[_Address, ...], Meta(max_length=16)]
    tags: Annotated[tuple[_Id, ...], Meta(max_length=256)]
    groups: Annotated[tuple[_Id, ...], Meta(max_length=1024)]
    tickets: Annotated[tuple[_WireTicket, ...], Meta(max_length=32)]


class _WireSigned(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    entry: Annotated[bytes, Meta(max_length=MAX_ENTRY_SIZE)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_SIZE, max_length=SIGNATURE_SIZE)]


_wire: Codec[_Wire] = Codec(_Wire, limit=MAX_ENTRY_SIZE)
_wire_signed: Codec[_WireSigned] = Codec(_WireSigned, limit=MAX_ENTRY_SIZE + 128)


class PeerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself.

    Attributes:
        network: the network it belongs to.
        version: which of its entries this is.
        peer: its id.
        addresses: where it can be dialled.
        tags: what it chose to be found by.
        groups: the ids of the groups it is in.
        tickets: what it shows to groups that ask for tickets, ordered by id.
    """

    network: Digest
    version: PeerVersion
    peer: PeerId
    addresses: tuple[str, ...] = ()
    tags: frozenset[Digest] = frozenset()
    groups: frozenset[Digest] = frozenset()
    tickets: tuple[CarriedTicket, ...] = ()

    def is_newer_than(self, other: PeerEntry) -> bool:
        """Whether this entry replaces the other one; false for equal versions."""
        return self.version > other.version

    def revised(self, now_ms: int, **changes: Any) -> PeerEntry:
        """This entry with some fields replaced and the next version."""
        return msgspec.structs.replace(self, version=self.version.next(now_ms), **changes)

    def sign(self, secret: SecretKey) -> SignedPeerEntry:
        """This entry with its signature.

        Raises:
            IdentityError: the key is not this peer's.
            CodecError: the entry holds more than an entry may (`FrameTooLarge`: too many bytes).
        """
        if secret.peer != self.peer:
            raise IdentityError(
                f"the entry of {self.peer.short} cannot be signed with the key of "
                f"{secret.peer.short}; a node signs only for itself"
            )
        encoded = self._encode()
        _decode_entry(encoded)  # the same limits as for the entries of others
        signature = secret.sign(_ENTRY_CONTEXT + encoded)
        return SignedPeerEntry(self, _wire_signed.encode(_WireSigned(encoded, signature)))

    def _encode(self) -> bytes:
        return _wire.encode(
            _Wire(
                format=_FORMAT,
                network=self.network,
                start_ms=self.version.start_ms,
                update_ms=self.version.update_ms,
                peer=self.peer,
                addresses=self.addresses,
                tags=tuple(sorted(self.tags)),
                groups=tuple(sorted(self.groups)),
                tickets=tuple(_WireTicket(*ticket) for ticket in sorted(self.tickets)),
            )
        )


def _decode_entry(encoded: bytes) -> PeerEntry:
    wire = _wire.decode(encoded)
    if wire.format != _FORMAT:
        raise CodecError(f"a peer entry of format {wire.format}; this version reads {_FORMAT}")
    return PeerEntry(
        network=Digest.from_bytes(wire.network),
        version=PeerVersion(wire.start_ms, wire.update_ms),
        peer=PeerId.from_bytes(wire.peer),
        addresses=wire.addresses,
        tags=frozenset(map(Digest.from_bytes, wire.tags)),
        groups=frozenset(map(Digest.from_bytes, wire.groups)),
        tickets=tuple(CarriedTicket(t.id, t.kind, t.data) for t in wire.tickets),
    )


class SignedPeerEntry:
    """An entry together with the bytes that its owner signed.

    Made only by `PeerEntry.sign` and `decode`, so whoever holds one knows that the signature is good.

    Attributes:
        entry: what was signed.
        raw: entry and signature as they travel.
    """

    __slots__ = ("entry", "raw")

    def __init__(self, entry: PeerEntry, raw: bytes) -> None:
        self.entry: Final = entry
        self.raw: Final = raw

    @classmethod
    def decode(cls, raw: bytes) -> SignedPeerEntry:
        """The entry in these bytes, its signature checked.

        Raises:
            CodecError: not an entry, larger than one may be, or not signed by the peer it names.
        """
        signed, entry = _decode_signed(raw)
        if not verify(entry.peer, _ENTRY_CONTEXT + signed.entry, signed.signature):
            raise CodecError(f"an entry of {entry.peer.short} was not signed by that peer")
        return cls(entry, raw)

    @staticmethod
    def peek(raw: bytes) -> PeerEntry:
        """The entry in these bytes **without** checking who signed it.

        A signature check costs fifty times a decode, and a node hears most entries more than once:
        peek, drop what is old, and `decode` the rest. Never act on what only `peek` has seen.

        Raises:
            CodecError: not an entry, or larger than one may be.
        """
        return _decode_signed(raw)[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SignedPeerEntry) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"SignedPeerEntry({self.entry.peer.short}, version={tuple(self.entry.version)})"


def _decode_signed(raw: bytes) -> tuple[_WireSigned, PeerEntry]:
    signed = _wire_signed.decode(raw)
    return signed, _decode_entry(signed.entry)
