"""What every link does on its receiving side, whatever carries its bytes.

Frames go to a callback on the loop, so a frame costs no task switch. Until a callback is set they wait
in a queue, from which `receive` takes them during handshakes; a callback that is set later gets what is
still in the queue first, in order. An end is always reported once, on a later turn of the loop, and
after every frame that arrived before it.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final

from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import CodecError, FrameTooLarge, LinkClosed, ProtocolViolation
from mosaik.transport.contract import MAX_FRAME, CloseReason
from mosaik.transport.quiet import QuietLog

__all__ = ["BaseLink"]

log = logging.getLogger("mosaik.transport")
_quiet: Final = QuietLog(log)


class BaseLink(ABC):
    """The receiving half of a link. What carries the bytes is the subclass's business.

    Attributes:
        remote: who is on the other side, proven by its key.
        protocol: what the link is for, as the dialling side named it.
        initiator: whether this side dialled.
        binding: 32 bytes, equal on both sides and on no other link.
    """

    def __init__(self, remote: PeerId, protocol: str, initiator: bool, binding: bytes) -> None:
        self.remote: Final = remote
        self.protocol: Final = protocol
        self.initiator: Final = initiator
        self.binding: Final = binding
        self._loop = asyncio.get_running_loop()
        self._queue: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._deliver: Callable[[bytes], None] = self._enqueue
        self._handler: Callable[[bytes], None] | None = None
        self._closing: Callable[[int, str, bool], None] | None = None
        self._end: tuple[int, str, bool] | None = None
        self._stopped = False  # closed by this side: nothing more is delivered

    @property
    def closed(self) -> bool:
        """Whether the link has ended, on whatever side."""
        return self._end is not None

    @property
    def on_frame(self) -> Callable[[bytes], None]:
        """Called with each frame that arrives."""
        return self._handler or self._enqueue

    @on_frame.setter
    def on_frame(self, handler: Callable[[bytes], None]) -> None:
        self._handler = handler
        self._listened()
        if self._queue:
            self._loop.call_soon(self._drain)
        else:
            self._deliver = handler

    @property
    def on_close(self) -> Callable[[int, str, bool], None]:
        """Called once, however the link ends: code, reason, and whether the peer's socket closed."""
        return self._closing or _ignore_close

    @on_close.setter
    def on_close(self, handler: Callable[[int, str, bool], None]) -> None:
        first = self._closing is None
        self._closing = handler
        if first and self._end is not None:
            self._loop.call_soon(self._report_end)

    async def receive(self, timeout: float) -> bytes:
        """The next frame, for handshakes; only while no ``on_frame`` was set.

        Args:
            timeout: seconds.

        Raises:
            LinkClosed: the link ended. TimeoutError: nothing came in time.
        """
        async with asyncio.timeout(timeout):
            while not self._queue:
                if self._end is not None:
                    raise LinkClosed(self._end[0], self._end[1])
                self._waiter = self._loop.create_future()
                await self._waiter
        frame = self._queue.popleft()
        self._dequeued(len(frame))
        return frame

    @abstractmethod
    def close(self, code: int = CloseReason.SUCCESS, reason: str = "") -> None:
        """Tells the other side why, and ends the link."""

    def check_size(self, frame: bytes) -> None:
        """Refuses to send what the other side would refuse to read."""
        if len(frame) > MAX_FRAME:
            raise FrameTooLarge(
                f"a frame of {len(frame)} bytes for {self.remote.short} ({self.protocol}); "
                f"the limit is {MAX_FRAME}"
            )

    def _enqueue(self, frame: bytes) -> None:
        self._queue.append(frame)
        self._queued(len(frame))
        self._wake()

    def _listened(self) -> None:
        """Somebody listens from now on: frames may be large."""

    def _queued(self, size: int) -> None:
        """A frame waits for a reader; a subclass may hold the sender back."""

    def _dequeued(self, size: int) -> None:
        """A waiting frame was read."""

    def _drain(self) -> None:
        handler = self._handler
        assert handler is not None
        try:
            while self._queue and not self._stopped:
                frame = self._queue.popleft()
                self._dequeued(len(frame))
                handler(frame)
        except Exception as error:  # noqa: BLE001 - reported by `_handler_failed`, never swallowed
            self._handler_failed(error)
        self._deliver = handler

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _handler_failed(self, error: Exception) -> None:
        """A peer's bad frame ends its link; a bug of ours does too, and is reported as one."""
        if isinstance(error, ProtocolViolation | CodecError):
            _quiet.warning(
                "%s (%s) broke the protocol: %s", self.remote.short, self.protocol, error
            )
            self.close(CloseReason.PROTOCOL_VIOLATION, str(error)[:200])
            return
        self._loop.call_exception_handler(
            {"message": f"the handler of {self.protocol} raised", "exception": error}
        )
        self.close(CloseReason.UNEXPECTED_CLOSE, "internal error")

    def _ended(self, code: int, reason: str, died: bool) -> None:
        if self._end is not None:
            return
        self._end = (code, reason, died)
        self._wake()
        if self._closing is not None:
            self._loop.call_soon(self._report_end)

    def _report_end(self) -> None:
        assert self._end is not None
        assert self._closing is not None
        if self._queue and self._handler is not None:
            self._drain()
        try:
            self._closing(*self._end)
        finally:
            # The handlers usually hold the link's owner, which holds the link: cut the circle.
            self._closing = _ignore_close
            self._handler = self._deliver = _ignore_frame

    def __repr__(self) -> str:
        arrow = "->" if self.initiator else "<-"
        state = "open" if self._end is None else f"closed {self._end[0]}"
        return f"<{type(self).__name__} {arrow} {self.remote.short} {self.protocol} {state}>"


def _ignore_close(code: int, reason: str, died: bool) -> None:
    """Nobody asked how this link ended."""


def _ignore_frame(frame: bytes) -> None:
    """The link has ended."""
