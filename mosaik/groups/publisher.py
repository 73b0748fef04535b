"""What a replica shows of itself to the application and to operators."""

from __future__ import annotations

import logging
from typing import Final

from mosaik.consensus import Event, Notice, View
from mosaik.groups.watch import State
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.digest import PeerId
from mosaik.primitives.membership import Replica

__all__ = ["Publisher"]

log = logging.getLogger("mosaik.groups")

_LEVELS: Final = {
    Notice.QUORUM_LOST: logging.WARNING,
    Notice.DIVERGENT_HISTORY: logging.ERROR,
    Notice.HISTORY_LOST: logging.ERROR,
    Notice.STORE_ROLLED_BACK: logging.ERROR,
    Notice.QUARANTINED: logging.ERROR,
    Notice.SUSPECT_TAIL: logging.WARNING,
    Notice.BUG: logging.CRITICAL,
}


class Publisher:
    """Keeps a group's `State` up to date and its log file informed."""

    __slots__ = ("_leader", "_name", "_state")

    def __init__(self, name: str, state: State) -> None:
        self._name = name
        self._state = state
        self._leader: Replica | None = None

    def show(self, view: View, *, writable: bool = True) -> None:
        """Consensus has made a step.

        Args:
            writable: the store takes writes; without that the node serves nobody.
        """
        state, leader = self._state, view.leader
        if leader is not self._leader:
            self._leader = leader
            state.leader.set(PeerId.from_bytes(leader.peer) if leader is not None else None)
        online = view.online and view.founded and writable
        state.online.set(online)
        if online:
            # A core that was built anew has not lost any quorum, and will not say that it is back.
            state.quorum_lost.set(False)
        state.log.set(Cursor(view.last_term, view.last))

    def hide(self) -> None:
        """There is no consensus to show: the store is being opened."""
        self._leader = None
        self._state.leader.set(None)
        self._state.online.set(False)

    def heard(self, event: Event) -> None:
        """Something happened that people want to hear of."""
        notice = event.notice
        log.log(_LEVELS.get(notice, logging.INFO), "%s: %s: %s", self._name, notice, event.detail)
        if notice is Notice.QUORUM_LOST:
            self._state.quorum_lost.set(True)
        elif notice is Notice.QUORUM_RESTORED:
            self._state.quorum_lost.set(False)
