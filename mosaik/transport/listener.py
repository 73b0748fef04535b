"""Accepts connections, and loses none of them when it is told to stop.

``loop.sock_accept`` in a task does: when the task is cancelled in the same turn of the loop in which a
connection arrives, the accepted socket is dropped without being closed. A reader callback has no such
moment: a socket is either still the kernel's, or handed over.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

__all__ = ["Listener"]

#: After a failure, such as no free descriptor, accepting rests for so many seconds: no event tells
#: when there is one again.
_REST: Final = 0.1
#: Connections accepted in one turn of the event loop.
_BURST: Final = 16


class Listener:
    """Calls ``accepted`` with each connection's socket, which is non-blocking and the callee's to close.

    Args:
        listening: a socket that listens; closed with this.
        accepted: takes the sockets.
        failed: is told when a connection could not be accepted.
    """

    def __init__(
        self,
        listening: socket.socket,
        accepted: Callable[[socket.socket], None],
        failed: Callable[[OSError], None],
    ) -> None:
        self._socket = listening
        self._accepted = accepted
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._resting: asyncio.TimerHandle | None = None
        self._listen()

    def _listen(self) -> None:
        self._resting = None
        self._loop.add_reader(self._socket, self._ready)

    def _ready(self) -> None:
        for _ in range(_BURST):
            try:
                stranger, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._loop.remove_reader(self._socket)
                self._resting = self._loop.call_later(_REST, self._listen)
                self._failed(error)
                return
            stranger.setblocking(False)
            self._accepted(stranger)

    def close(self) -> None:
        """Accepts no more. Closing twice does nothing."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
