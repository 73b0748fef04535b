"""What discovery links carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from mosaik.primitives.codec import Codec
from mosaik.primitives.digest import DIGEST_SIZE, Digest, PeerId
from mosaik.primitives.errors import CodecError
from mosaik.primitives.peer import (
    MAX_ENTRY_SIZE,
    SIGNATURE_SIZE,
    PeerVersion,
    SecretKey,
    verify,
)

__all__ = [
    "PROTOCOL",
    "CatalogEnd",
    "Departed",
    "Departure",
    "Entries",
    "Message",
    "Pull",
    "codec",
    "packed",
]

PROTOCOL: Final = "mosaik/discovery/1"

#: Bytes of entries in one message.
_BATCH: Final = 256 * 1024
_MAX_ENTRIES: Final = 4096
_CONTEXT: Final = b"mosaik departure 1\0"

_Raw = Annotated[bytes, Meta(max_length=MAX_ENTRY_SIZE + 128)]
_Id = Annotated[bytes, Meta(min_length=DIGEST_SIZE, max_length=DIGEST_SIZE)]
_Signature = Annotated[bytes, Meta(min_length=SIGNATURE_SIZE, max_length=SIGNATURE_SIZE)]
_Millis = Annotated[int, Meta(ge=0, le=2**53)]


class Entries(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Signed entries: a part of a catalog, or news."""

    raws: Annotated[tuple[_Raw, ...], Meta(max_length=_MAX_ENTRIES)]


class CatalogEnd(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The whole catalog was sent."""


class Pull(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Send me your catalog again."""


class Departure(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A signed goodbye."""

    raw: Annotated[bytes, Meta(max_length=256)]


Message = Entries | CatalogEnd | Pull | Departure
codec: Final[Codec[Message]] = Codec(Message, limit=_BATCH + 2 * MAX_ENTRY_SIZE)


def packed(raws: Iterable[bytes]) -> Iterator[bytes]:
    """Entries as messages of bounded size."""
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        if batch and (size + len(raw) > _BATCH or len(batch) == _MAX_ENTRIES):
            yield codec.encode(Entries(tuple(batch)))
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        yield codec.encode(Entries(tuple(batch)))


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    network: _Id
    peer: _Id
    start_ms: _Millis
    update_ms: _Millis
    time_ms: _Millis
    signature: _Signature

    def signed_bytes(self) -> bytes:
        numbers = (self.start_ms, self.update_ms, self.time_ms)
        return b"".join(
            [_CONTEXT, self.network, self.peer, *(number.to_bytes(8, "big") for number in numbers)]
        )


_signed: Codec[_Signed] = Codec(_Signed, limit=256)


class Departed(msgspec.Struct, frozen=True):
    """A goodbye whose signature is good.

    Attributes:
        network: whose network the peer left.
        peer: who left.
        version: its last entry's; entries up to it are void.
        time_ms: when.
        raw: the goodbye as it travels.
    """

    network: Digest
    peer: PeerId
    version: PeerVersion
    time_ms: int
    raw: bytes

    @classmethod
    def sign(
        cls, secret: SecretKey, network: Digest, version: PeerVersion, time_ms: int
    ) -> Departed:
        """This node's goodbye."""
        unsigned = _Signed(network, secret.peer, *version, time_ms, bytes(SIGNATURE_SIZE))
        signature = secret.sign(unsigned.signed_bytes())
        raw = _signed.encode(msgspec.structs.replace(unsigned, signature=signature))
        return cls(network, secret.peer, version, time_ms, raw)

    @classmethod
    def decode(cls, raw: bytes) -> Departed:
        """Somebody's goodbye.

        Raises:
            CodecError: it is none, or not signed by who leaves.
        """
        signed = _signed.decode(raw)
        peer = PeerId.from_bytes(signed.peer)
        if not verify(peer, signed.signed_bytes(), signed.signature):
            raise CodecError(f"a departure of {peer.short} was not signed by that peer")
        version = PeerVersion(signed.start_ms, signed.update_ms)
        return cls(Digest.from_bytes(signed.network), peer, version, signed.time_ms, raw)
