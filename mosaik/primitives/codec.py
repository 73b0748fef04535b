"""The one encoding: MessagePack by msgspec, validated into types on the way in."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import CodecError, FrameTooLarge

__all__ = ["Codec"]

T = TypeVar("T")


def _to_plain(value: Any) -> Any:
    # msgspec encodes exact types only; an identifier is a subclass of bytes, on the wire plain bytes.
    if isinstance(value, Digest):
        return bytes(value)
    raise NotImplementedError(f"Encoding objects of type {type(value).__name__} is unsupported")


def _from_plain(of: type, value: Any) -> Any:
    if issubclass(of, Digest) and isinstance(value, bytes):
        return of.from_bytes(value)
    raise NotImplementedError(f"Decoding objects of type {of.__name__} is unsupported")


class Codec(Generic[T]):
    """Encodes and decodes values of one type.

    Args:
        of: the type, anything that msgspec supports.
        limit: the longest encoding that is accepted or produced, in bytes.

    Raises:
        CodecError: when made for a type that msgspec cannot encode.
    """

    __slots__ = ("_decoder", "_encoder", "limit", "of")

    def __init__(self, of: Any, *, limit: int = 16 * 1024 * 1024) -> None:
        self.of = of
        self.limit = limit
        try:
            self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(
                of, dec_hook=_from_plain
            )
        except TypeError as error:
            raise CodecError(f"{of!r} cannot be encoded: {error}") from error
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_to_plain)

    def encode(self, value: T) -> bytes:
        """The value's bytes.

        Raises:
            CodecError: msgspec cannot encode it. `FrameTooLarge`: it exceeds the limit.
        """
        try:
            encoded = self._encoder.encode(value)
        except (
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
            NotImplementedError,
        ) as error:
            raise CodecError(f"{type(value).__name__} cannot be encoded: {error}") from error
        if len(encoded) > self.limit:
            raise FrameTooLarge(
                f"{type(value).__name__} takes {len(encoded)} bytes; the limit is {self.limit}"
            )
        return encoded

    def decode(self, encoded: bytes) -> T:
        """The value that was encoded.

        Raises:
            CodecError: the bytes are not such a value. `FrameTooLarge`: they exceed the limit.
        """
        if len(encoded) > self.limit:
            raise FrameTooLarge(f"{len(encoded)} bytes where at most {self.limit} are allowed")
        try:
            return self._decoder.decode(encoded)
        except (msgspec.MsgspecError, ValueError, RecursionError, NotImplementedError) as error:
            raise CodecError(f"not a valid {self.of!r}: {error}") from error
