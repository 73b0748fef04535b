"""Frames over one TLS connection: the tight loop under every link.

Theory of operation
-------------------
*Reading.* The event loop hands over bytes as they were decrypted. Whole frames in them are cut out (one
copy, since a frame must be `bytes` of its own) and delivered at once; a frame that spans many reads is
gathered in a list and joined once. The length is checked before anything is gathered.

*Writing.* Frames of one turn of the loop go out in one write. More than `CHUNK` is written over several
turns, so that encrypting a large transfer never holds up heartbeats; and while the kernel takes no more,
frames wait here, where they are counted. A peer that leaves more than `MAX_BACKLOG` unread is cut off:
memory is finite, and it can come back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, cast

from mosaik.primitives.errors import LinkClosed, ProtocolViolation
from mosaik.transport.contract import MAX_FRAME, CloseReason
from mosaik.transport.frames import (
    CLOSE,
    DATA,
    HEADER,
    HELLO,
    HELLO_LIMIT,
    close_frame,
    parse_close,
)

__all__ = ["CHUNK", "LINGER", "MAX_BACKLOG", "Connection", "Receiver"]

#: Bytes that are encrypted and written in one turn of the loop.
CHUNK: Final = 256 * 1024

#: Unsent bytes above which a peer counts as too slow.
MAX_BACKLOG: Final = 64 * 1024 * 1024

#: Seconds that a closed connection may take to send what was queued before the close.
LINGER: Final = 2.0

_HEADER_SIZE: Final = HEADER.size


class Receiver(Protocol):
    """Who gets what arrives, once the hello is done."""

    def arrived(self, frame: bytes) -> None: ...

    def failed(self, error: Exception) -> None:
        """`arrived` raised."""
        ...

    def ended(self, code: int, reason: str, died: bool) -> None: ...


class Connection(asyncio.Protocol):
    """One TLS connection, from its handshake to its end.

    Args:
        hello: called once with the body of the other side's hello. It makes the receiver, or raises
            `LinkClosed` with what to tell the other side.

    Attributes:
        receiver: who gets the frames; None until the hello.
        established: done when the hello is; its exception says why there was none.
        lost: done when the socket is closed.
        peername: the other side's address, for logs.
    """

    def __init__(self, hello: Callable[[Connection, bytes], Receiver]) -> None:
        loop = asyncio.get_running_loop()
        self.receiver: Receiver | None = None
        self.established: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.peername = "?"
        self._loop = loop
        self._hello: Callable[[Connection, bytes], Receiver] | None = hello
        self._transport: asyncio.Transport | None = None
        self._limit = HELLO_LIMIT
        self._limit_after_hello = MAX_FRAME
        self._parts: list[bytes] = []  # of a frame that is not whole yet
        self._kind: int | None = None  # that frame's; None while its header is not whole
        self._missing = 0  # bytes to go
        self._out: deque[bytes | memoryview] = deque()
        self._out_size = 0
        self._scheduled = False
        self._paused = False
        self._closing = False  # by this side: nothing more is read, and what is queued is sent
        self._linger: asyncio.TimerHandle | None = None

    @property
    def backlog(self) -> int:
        """Bytes that were written and that the kernel has not taken."""
        transport = self._transport
        if transport is None or self.lost.done():
            return 0
        return self._out_size + transport.get_write_buffer_size()

    @property
    def connected(self) -> bool:
        """Whether the TLS handshake was done, so that the socket is the event loop's to close."""
        return self._transport is not None

    @property
    def transport(self) -> asyncio.Transport:
        """What carries the bytes; only once connected."""
        assert self._transport is not None
        return self._transport

    def limit_frames(self, size: int) -> None:
        """Refuses frames of more bytes than this, once the hello is done."""
        self._limit_after_hello = size
        if self._hello is None:
            self._limit = size

    # Reading.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop once TLS is up."""
        # uvloop's transports do what asyncio's do and are no subclasses of theirs.
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername")
        self.peername = f"{address[0]}:{address[1]}" if address else "?"

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with decrypted bytes."""
        if self._closing:
            return
        try:
            if self._parts:
                data = self._gather(data)
            self._parse(data)
        except ProtocolViolation as error:
            self._violated(error)

    def _gather(self, data: bytes) -> bytes:
        """Adds to the frame that is not whole; returns what is to be parsed now."""
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return b""
        if self._kind is None:  # not even its header is whole
            data = b"".join(self._parts)
            self._parts.clear()
            return data
        rest = b""
        if self._missing < 0:
            self._parts[-1], rest = data[: self._missing], data[self._missing :]
        body = b"".join(self._parts)
        self._parts.clear()
        self._frame(self._kind, body)
        return rest

    def _parse(self, data: bytes) -> None:
        position, end = 0, len(data)
        while end - position >= _HEADER_SIZE and not self._closing:
            size, kind = HEADER.unpack_from(data, position)
            if size > self._limit:
                raise ProtocolViolation(f"a frame of {size} bytes; the limit is {self._limit}")
            start = position + _HEADER_SIZE
            position = start + size
            if position > end:
                self._keep(kind, data[start:], position - end)
                return
            self._frame(kind, data[start:position])
        if position < end and not self._closing:
            self._keep(None, data[position:], _HEADER_SIZE - (end - position))

    def _keep(self, kind: int | None, part: bytes, missing: int) -> None:
        self._kind = kind
        self._parts.append(part)
        self._missing = missing

    def _frame(self, kind: int, body: bytes) -> None:
        receiver = self.receiver
        if kind != DATA or receiver is None:
            self._control(kind, body)
            return
        try:
            receiver.arrived(body)
        except Exception as error:  # noqa: BLE001 - the link reports it
            receiver.failed(error)

    def _control(self, kind: int, body: bytes) -> None:
        if kind == CLOSE:
            self._finish(*parse_close(body), died=False)
            self._closing = True
            self.transport.close()
        elif kind == HELLO and self._hello is not None:
            greet, self._hello = self._hello, None
            try:
                self.receiver = greet(self, body)
            except LinkClosed as refusal:
                self.close(refusal.code, refusal.reason)
                self._finish(refusal.code, refusal.reason, died=False)
                return
            self._limit = self._limit_after_hello
            if not self.established.done():
                self.established.set_result(None)
        else:
            raise ProtocolViolation(f"a frame of kind {kind} where none belongs")

    def _violated(self, error: ProtocolViolation) -> None:
        if self.receiver is not None:
            self.receiver.failed(error)
        else:
            self.close(CloseReason.PROTOCOL_VIOLATION, str(error))
            self._finish(CloseReason.PROTOCOL_VIOLATION, str(error), died=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop when the socket is closed, by whoever it was."""
        if self._linger is not None:
            self._linger.cancel()
        reason = f"the connection was lost: {exc}" if exc else "the connection was lost"
        self._finish(CloseReason.UNEXPECTED_CLOSE, reason, died=not self._closing)
        self._out.clear()
        self._out_size = 0
        self._parts.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def _finish(self, code: int, reason: str, *, died: bool) -> None:
        if self.receiver is not None:
            receiver, self.receiver = self.receiver, None
            receiver.ended(code, reason, died)
        elif not self.established.done():
            self.established.set_exception(LinkClosed(code, reason))
            self.established.exception()  # whoever waited hears of it; that nobody did is no fault

    # Writing.

    def send(self, kind: int, frame: bytes) -> bool:
        """Queues a frame; false when the peer is too slow and was cut off."""
        if self._closing or self.lost.done():
            return True
        self._out.append(HEADER.pack(len(frame), kind))
        self._out.append(frame)
        self._out_size += _HEADER_SIZE + len(frame)
        if self._out_size > MAX_BACKLOG:
            self.abort()
            return False
        self._schedule()
        return True

    def write(self, whole_frame: bytes) -> None:
        """Queues a frame that brings its header."""
        self._out.append(whole_frame)
        self._out_size += len(whole_frame)
        self._schedule()

    def close(self, code: int, reason: str) -> None:
        """Sends what is queued, then why, and closes."""
        if self._closing or self.lost.done():
            return
        self.write(close_frame(code, reason))
        self._closing = True
        self._linger = self._loop.call_later(LINGER, self.abort)

    def abort(self) -> None:
        """Closes the socket at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def _schedule(self) -> None:
        if not self._scheduled and not self._paused:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if not self._out or self._paused or self.lost.done():
            return
        if self._out_size <= CHUNK:
            data = b"".join(self._out)
            self._out.clear()
        else:
            data = b"".join(self._take(CHUNK))
        self._out_size -= len(data)
        self.transport.write(data)
        if self._out:
            self._schedule()
        elif self._closing:
            self.transport.close()

    def _take(self, size: int) -> list[bytes | memoryview]:
        taken: list[bytes | memoryview] = []
        while size:
            part = self._out.popleft()
            if len(part) > size:
                whole = memoryview(part)
                self._out.appendleft(whole[size:])
                part = whole[:size]
            taken.append(part)
            size -= len(part)
        return taken

    def pause_writing(self) -> None:
        """Called by the event loop when its own buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Called by the event loop when it takes more."""
        self._paused = False
        if self._out:
            self._schedule()
