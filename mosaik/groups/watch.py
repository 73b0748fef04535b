"""Values that change and can be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from mosaik.groups.outcome import Pending
from mosaik.primitives.cursor import Cursor, Index
from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import GroupTerminated

__all__ = ["State", "Watch"]

T = TypeVar("T")


class Watch(Generic[T]):
    """One value, and those who wait for it to become something."""

    __slots__ = ("_ended", "_waiting", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self._waiting: list[tuple[Callable[[T], bool], Pending[T]]] = []
        self._ended: Callable[[], GroupTerminated] | None = None

    def set(self, value: T) -> None:
        """Changes the value and wakes whoever waited for one like it."""
        if value == self.value:
            return
        self.value = value
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for wanted, pending in waiting:
            if pending.done():
                continue
            if wanted(value):
                pending.set_result(value)
            else:
                self._waiting.append((wanted, pending))

    def until(self, wanted: Callable[[T], bool]) -> Pending[T]:
        """The first value, from now on, that is wanted; the present one if it is.

        Raises (when awaited):
            GroupTerminated: the group ended before that.
        """
        pending: Pending[T] = Pending(loop=asyncio.get_running_loop())
        if self._ended is not None:
            _fail(pending, self._ended())
        elif wanted(self.value):
            pending.set_result(self.value)
        else:
            self._waiting = [each for each in self._waiting if not each[1].done()]
            self._waiting.append((wanted, pending))
        return pending

    def end(self, error: Callable[[], GroupTerminated]) -> None:
        """No value will come any more."""
        self._ended = error
        waiting, self._waiting = self._waiting, []
        for _, pending in waiting:
            if not pending.done():
                _fail(pending, error())


def _fail(pending: Pending[T], error: GroupTerminated) -> None:
    pending.set_exception(error)
    # A watcher that nobody awaits any more is not worth asyncio's "exception was never retrieved".
    pending.exception()


class State:
    """What a group shows of itself.

    Attributes:
        leader: who leads, as far as this node knows.
        online: this node leads, or follows a leader whose log its own continues.
        committed: the last entry that this node has applied.
        log: the last entry of its log.
        quorum_lost: the voters that can be reached are too few to decide anything.
    """

    __slots__ = ("committed", "leader", "log", "online", "quorum_lost")

    def __init__(self) -> None:
        self.leader: Watch[PeerId | None] = Watch(None)
        self.online: Watch[bool] = Watch(value=False)
        self.committed: Watch[Index] = Watch(Index(0))
        self.log: Watch[Cursor] = Watch(Cursor())
        self.quorum_lost: Watch[bool] = Watch(value=False)

    def end(self, error: Callable[[], GroupTerminated]) -> None:
        """Wakes everybody who waits for anything."""
        self.leader.end(error)
        self.online.end(error)
        self.committed.end(error)
        self.log.end(error)
        self.quorum_lost.end(error)
