"""32-byte identifiers: one type for every name that two nodes must agree on.

An identifier is a BLAKE3 hash, or 32 bytes taken as they are. Text that is exactly 64 hexadecimal
digits is taken verbatim, so that an id that was printed can be typed back in; everything else is hashed.
"""

from __future__ import annotations

import os
from typing import Final, Self

from blake3 import blake3

__all__ = ["DIGEST_SIZE", "Digest", "PeerId", "short"]

DIGEST_SIZE: Final = 32


class Digest(bytes):
    """32 bytes that identify something; equal content means equal identity.

    A ``bytes`` in every respect (hashing, ordering, comparison), so that it costs what bytes cost.
    """

    __slots__ = ()

    def __new__(cls, value: str | bytes = bytes(DIGEST_SIZE)) -> Self:
        """Takes 64 hex digits (text or bytes) verbatim and hashes everything else."""
        raw = value.encode() if isinstance(value, str) else bytes(value)
        if len(raw) == 2 * DIGEST_SIZE:
            try:
                return cls.from_bytes(bytes.fromhex(raw.decode("ascii")))
            except ValueError:
                pass
        return cls.hash(raw)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Takes 32 bytes verbatim.

        Raises:
            ValueError: if there are not exactly 32.
        """
        if len(raw) != DIGEST_SIZE:
            raise ValueError(f"an identifier has {DIGEST_SIZE} bytes, not {len(raw)}")
        return bytes.__new__(cls, raw)

    @classmethod
    def hash(cls, *parts: bytes) -> Self:
        """The BLAKE3 hash of the parts, one after the other, without separators."""
        hasher = blake3()
        for part in parts:
            hasher.update(part)
        return bytes.__new__(cls, hasher.digest())

    @classmethod
    def random(cls) -> Self:
        """32 bytes from the operating system."""
        return bytes.__new__(cls, os.urandom(DIGEST_SIZE))

    @classmethod
    def zero(cls) -> Self:
        """32 zero bytes: the name of nothing."""
        return bytes.__new__(cls, DIGEST_SIZE)

    @classmethod
    def from_int(cls, number: int) -> Self:
        """A number below 2^128, written little-endian at the tail of a zero identifier, not hashed.

        Raises:
            OverflowError: it is negative or does not fit.
        """
        return bytes.__new__(cls, bytes(DIGEST_SIZE - 16) + number.to_bytes(16, "little"))

    def derive(self, other: str | bytes) -> Self:
        """The identifier of ``other`` under this one: ``BLAKE3(self ‖ other)``."""
        return type(self).hash(self, other.encode() if isinstance(other, str) else other)

    def hashed(self) -> Self:
        """``BLAKE3(self)``: an identifier that may be shown where this one may not."""
        return type(self).hash(self)

    @property
    def short(self) -> str:
        """The first five bytes in hex, for people."""
        return short(self)

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"


class PeerId(Digest):
    """A node's name: its Ed25519 public key. Whoever proves that key is that peer."""

    __slots__ = ()


def short(identifier: bytes) -> str:
    """The first five bytes of any identifier in hex, as logs and tables show it."""
    return identifier[:5].hex()
