"""What goes over a connection: frames, and the hello that each side says first.

A frame is a 4-byte big-endian length, one byte that says what it is, and that many bytes. The length is
checked against a limit before anything is kept. The hello has one size only, so that a stranger gets
to send a few hundred bytes at most before he has said who he is and what he wants.
"""

from __future__ import annotations

import os
import struct
from typing import Final, NamedTuple

from mosaik.primitives.digest import DIGEST_SIZE, Digest, PeerId
from mosaik.primitives.errors import ConfigError, ProtocolViolation

__all__ = [
    "CLOSE",
    "DATA",
    "HEADER",
    "HELLO",
    "HELLO_LIMIT",
    "NONCE_SIZE",
    "Hello",
    "binding_of",
    "close_frame",
    "parse_close",
]

HEADER: Final = struct.Struct(">IB")

DATA: Final = 0
CLOSE: Final = 1
HELLO: Final = 2

NONCE_SIZE: Final = 32
_MAGIC: Final = b"MSK\x01"
_VERSION: Final = 1
_PROTOCOL_SIZE: Final = 63
_HELLO: Final = struct.Struct(f">4sH{DIGEST_SIZE}s{NONCE_SIZE}sB{_PROTOCOL_SIZE}s")
_CODE: Final = struct.Struct(">I")
_REASON_SIZE: Final = 256

#: The longest frame before the hello is done: a hello, or a refusal.
HELLO_LIMIT: Final = max(_HELLO.size, _CODE.size + _REASON_SIZE)


class Hello(NamedTuple):
    """What each side says first. The acceptor repeats network and protocol with its own nonce."""

    network: bytes
    nonce: bytes
    protocol: str

    @classmethod
    def fresh(cls, network: bytes, protocol: str) -> Hello:
        """A hello with a nonce that was never used.

        Raises:
            ConfigError: the protocol's name is empty, too long, or not ASCII.
        """
        if not protocol.isascii() or not 0 < len(protocol) <= _PROTOCOL_SIZE:
            raise ConfigError(
                f"{protocol!r} cannot name a protocol: 1 to {_PROTOCOL_SIZE} ASCII characters"
            )
        return cls(network, os.urandom(NONCE_SIZE), protocol)

    def frame(self) -> bytes:
        """The hello as a whole frame."""
        name = self.protocol.encode("ascii")
        body = _HELLO.pack(_MAGIC, _VERSION, self.network, self.nonce, len(name), name)
        return HEADER.pack(len(body), HELLO) + body

    @classmethod
    def parse(cls, body: bytes) -> Hello:
        """The hello in a frame's body.

        Raises:
            ProtocolViolation: it is not one, or of another version.
        """
        if len(body) != _HELLO.size or not body.startswith(_MAGIC):
            raise ProtocolViolation("the first frame is no hello of mosaik")
        _, version, network, nonce, length, name = _HELLO.unpack(body)
        if version != _VERSION:
            raise ProtocolViolation(f"the peer speaks version {version}, this node {_VERSION}")
        if not 0 < length <= _PROTOCOL_SIZE or any(name[length:]) or not name.isascii():
            raise ProtocolViolation("the hello names no protocol")
        return cls(network, nonce, name[:length].decode("ascii"))


def binding_of(initiator: PeerId, acceptor: PeerId, ours: Hello, theirs: Hello) -> Digest:
    """32 bytes that only the two ends of one link know to be theirs.

    Python's `ssl` has no exporter. Both nonces are fresh and travel inside TLS, each end of which has
    proven its key, so nobody can stand in the middle and make two links of equal binding.

    Args:
        initiator: who dialled.
        acceptor: who answered.
        ours: the initiator's hello.
        theirs: the acceptor's.
    """
    name = ours.protocol.encode("ascii")
    return Digest.hash(
        b"mosaik link binding 1\0",
        ours.nonce,
        theirs.nonce,
        initiator,
        acceptor,
        ours.network,
        len(name).to_bytes(1, "big"),
        name,
    )


def close_frame(code: int, reason: str) -> bytes:
    """A whole frame that says why the link ends."""
    text = reason.encode("utf-8", "replace")[:_REASON_SIZE]
    return HEADER.pack(_CODE.size + len(text), CLOSE) + _CODE.pack(code) + text


def parse_close(body: bytes) -> tuple[int, str]:
    """Code and reason in a close frame.

    Raises:
        ProtocolViolation: it is not one.
    """
    if not _CODE.size <= len(body) <= _CODE.size + _REASON_SIZE:
        raise ProtocolViolation("a close frame of the wrong size")
    (code,) = _CODE.unpack_from(body)
    text = body[_CODE.size :].decode("utf-8", "replace")
    # It ends in logs: keep a stranger's text on one line and free of terminal control.
    return code, "".join(c if c.isprintable() else "?" for c in text)
