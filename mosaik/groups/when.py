"""Waiting for a group to become something."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

from mosaik.groups.outcome import Pending
from mosaik.groups.watch import State, Watch
from mosaik.primitives.cursor import Cursor, Index, IndexRange
from mosaik.primitives.digest import PeerId

__all__ = ["CommittedWatcher", "LogWatcher", "When"]

T = TypeVar("T", Index, Cursor)


class _Watcher(Generic[T]):
    """Waits for a position to move. What counts as movement is measured from the moment of the call."""

    __slots__ = ("_watch",)
    _watch: Watch[T]

    def __init__(self, watch: Watch[T]) -> None:
        self._watch = watch

    def changed(self) -> Pending[T]:
        """Resolves to the next position that differs from the present one."""
        before = self._watch.value
        return self._watch.until(lambda value: value != before)

    def advanced(self) -> Pending[T]:
        """Resolves to the next position beyond the present one."""
        before = self._watch.value
        return self._watch.until(lambda value: value > before)

    def reverted(self) -> Pending[T]:
        """Resolves to the next position before the present one: a truncated log, a history left."""
        before = self._watch.value
        return self._watch.until(lambda value: value < before)


class CommittedWatcher(_Watcher[Index]):
    """Waits for commands to be applied on this node."""

    __slots__ = ()

    def reaches(self, position: int | IndexRange) -> Pending[Index]:
        """Resolves once this node has applied ``position``, or the end of the range."""
        wanted = position.end if isinstance(position, IndexRange) else position
        return self._watch.until(lambda index: index >= wanted)


class LogWatcher(_Watcher[Cursor]):
    """Waits for this node's log to grow or shrink."""

    __slots__ = ()

    def reaches(self, position: int | IndexRange | Cursor) -> Pending[Cursor]:
        """Resolves once the log ends at ``position`` or beyond: an index, a range's end, or a cursor."""
        if isinstance(position, Cursor):
            return self._watch.until(lambda last: last >= position)
        wanted = position.end if isinstance(position, IndexRange) else position
        return self._watch.until(lambda last: last.index >= wanted)


class When:
    """What a group can be awaited for. Each call begins to watch at once and resolves once.

    All of them raise `GroupTerminated`, with the reason as its cause, when the group ends first.
    """

    __slots__ = ("_me", "_state")

    def __init__(self, state: State, me: PeerId) -> None:
        self._state = state
        self._me = me

    def leader_elected(self) -> Pending[PeerId]:
        """Resolves to the leader once one is known."""
        return _known(self._state.leader.until(lambda leader: leader is not None))

    def leader_changed(self) -> Pending[PeerId]:
        """Resolves to the next leader that is not the one at the time of the call."""
        before = self._state.leader.value
        return _known(self._state.leader.until(lambda now: now is not None and now != before))

    def leader_is(self, peer: PeerId) -> Pending[PeerId]:
        """Resolves once ``peer`` leads."""
        return _known(self._state.leader.until(lambda leader: leader == peer))

    def is_leader(self) -> Pending[PeerId]:
        """Resolves once this node leads."""
        return self.leader_is(self._me)

    def is_follower(self) -> Pending[PeerId | None]:
        """Resolves once this node does not lead, also when nobody does."""
        return self._state.leader.until(lambda leader: leader != self._me)

    def online(self) -> Pending[bool]:
        """Resolves once commands can be given: this node leads, or follows a leader."""
        return self._state.online.until(bool)

    def offline(self) -> Pending[bool]:
        """Resolves once they cannot."""
        return self._state.online.until(lambda online: not online)

    def quorum_lost(self) -> Pending[bool]:
        """Resolves once too few voters can be reached for anything to be decided."""
        return self._state.quorum_lost.until(bool)

    def quorum_restored(self) -> Pending[bool]:
        """Resolves once enough voters can be reached, at once if they never were lost."""
        return self._state.quorum_lost.until(lambda lost: not lost)

    def committed(self) -> CommittedWatcher:
        """Watches what this node has applied."""
        return CommittedWatcher(self._state.committed)

    def log(self) -> LogWatcher:
        """Watches this node's log."""
        return LogWatcher(self._state.log)


def _known(pending: Pending[PeerId | None]) -> Pending[PeerId]:
    # Every caller waits for a value that is not None, which a predicate cannot tell the type checker.
    return cast("Pending[PeerId]", pending)
