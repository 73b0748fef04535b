"""How two nodes speak: a `Transport` makes `Link`s, a link carries frames between two known peers."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol

from mosaik.primitives.digest import PeerId

__all__ = [
    "MAX_FIRST_FRAME",
    "MAX_FRAME",
    "CloseReason",
    "Link",
    "Transport",
]

#: The longest frame on any link, in bytes.
MAX_FRAME: Final = 20 * 1024 * 1024
#: Bytes of one on a link that arrived, until somebody here listens to it: nobody has proven yet that he
#: may ask more of this node's memory.
MAX_FIRST_FRAME: Final = 256 * 1024


class CloseReason(IntEnum):
    """Why a link ended. Numbers are part of the protocol."""

    INVALID_PROTOCOL = 100
    DIFFERENT_NETWORK = 101
    CANCELLED = 102
    UNEXPECTED_CLOSE = 103
    SUCCESS = 200
    GRACEFUL_SHUTDOWN = 204
    PROTOCOL_VIOLATION = 400
    UNKNOWN_PEER = 401
    TOO_MANY = 429
    INVALID_HANDSHAKE = 30400
    NOT_ALLOWED = 30403
    GROUP_NOT_FOUND = 30404
    INVALID_PROOF = 30405
    TIMEOUT = 30408
    ALREADY_BONDED = 30429


class Link(Protocol):
    """An authenticated, ordered, framed connection with one peer, for one protocol.

    Frames are delivered by callback on the event loop, so that a frame costs no task switch:
    set `on_frame` and `on_close` before the first ``await`` after the link was handed over.
    """

    @property
    def remote(self) -> PeerId:
        """Who is on the other side, proven by its key."""
        ...

    @property
    def protocol(self) -> str:
        """What this link is for, as the dialling side named it."""
        ...

    @property
    def initiator(self) -> bool:
        """Whether this side dialled."""
        ...

    @property
    def binding(self) -> bytes:
        """32 bytes that are equal on both sides and on no other link, for proofs to bind to."""
        ...

    @property
    def backlog(self) -> int:
        """Bytes handed to `send` and not yet to the kernel."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the link has ended."""
        ...

    @property
    def on_frame(self) -> Callable[[bytes], None]:
        """Called with each frame that arrives; frames that came before it was set come first."""
        ...

    @on_frame.setter
    def on_frame(self, handler: Callable[[bytes], None]) -> None: ...

    @property
    def on_close(self) -> Callable[[int, str, bool], None]:
        """Called once, however the link ends, on a later turn of the loop and after all its frames.

        Its arguments are the code, the reason, and ``died``: whether the other side's socket closed
        without a word, as it does when its process is killed.
        """
        ...

    @on_close.setter
    def on_close(self, handler: Callable[[int, str, bool], None]) -> None: ...

    def send(self, frame: bytes) -> None:
        """Queues a frame. Does nothing on a closed link.

        Raises:
            FrameTooLarge: it exceeds `MAX_FRAME`.
        """
        ...

    async def receive(self, timeout: float) -> bytes:
        """The next frame, for handshakes; only while no ``on_frame`` was set.

        Raises:
            LinkClosed: the link ended. TimeoutError: nothing came in time.
        """
        ...

    def close(self, code: int = CloseReason.SUCCESS, reason: str = "") -> None:
        """Tells the other side why, and ends the link. Closing twice does nothing."""
        ...


class Transport(Protocol):
    """Dials and accepts links."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node can be dialled, after `start`."""
        ...

    async def start(self, accept: Callable[[Link], None]) -> None:
        """Listens; ``accept`` is called with every authenticated link that arrives.

        Raises:
            BindError: the address cannot be listened on.
        """
        ...

    async def dial(
        self, address: str, protocol: str, *, expect: PeerId | None = None, timeout: float = 5.0
    ) -> Link:
        """Connects to whoever listens at an address.

        Args:
            address: as the other side's `addresses` give it.
            protocol: what the link is for.
            expect: the peer that must answer.

        Raises:
            DialError: nobody, or somebody else, answered in time.
        """
        ...

    async def close(self) -> None:
        """Ends every link and stops listening."""
        ...
