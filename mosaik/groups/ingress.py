"""Commands that other members forwarded to this node, on their way into the leader's log."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from mosaik.consensus import Accepted, Refused
from mosaik.groups.bond import Bond
from mosaik.groups.wire import Forward, ForwardAccepted, ForwardRefused

__all__ = ["Ingress"]

#: Commands that are sealed in one turn of the event loop, so that sealing does not stall it.
_PER_TURN: Final = 1024
#: And bytes of them.
_BYTES_PER_TURN: Final = 1024 * 1024
#: Commands that may wait here, and bytes. Members limit themselves far below; who does not is refused.
_MOST_WAITING: Final = 256 * 1024
_MOST_BYTES: Final = 256 * 1024 * 1024


class _Arrival(NamedTuple):
    bond: Bond
    forward: Forward
    size: int


class Ingress:
    """Forwarded commands, in the order of their arrival."""

    def __init__(self) -> None:
        self._waiting: deque[_Arrival] = deque()
        self._commands = 0
        self._bytes = 0

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    def arrived(self, bond: Bond, forward: Forward) -> None:
        """Takes what a member forwarded."""
        size = sum(map(len, forward.payloads))
        commands = self._commands + len(forward.payloads)
        if commands > _MOST_WAITING or self._bytes + size > _MOST_BYTES:
            bond.send(ForwardRefused(forward.token, "the leader has too much to do"))
            return
        self._waiting.append(_Arrival(bond, forward, size))
        self._commands, self._bytes = commands, self._bytes + size

    def admit(self, term: int | None) -> list[tuple[Bond, Forward]]:
        """What this node may append in this turn; the rest of it is refused, or waits.

        Args:
            term: the term that this node leads at this moment; None when it does not lead.
        """
        admitted: list[tuple[Bond, Forward]] = []
        count = taken = 0
        while self._waiting:
            bond, forward, size = self._waiting[0]
            full = count + len(forward.payloads) > _PER_TURN or taken + size > _BYTES_PER_TURN
            if admitted and full:
                break
            self._waiting.popleft()
            self._commands -= len(forward.payloads)
            self._bytes -= size
            # Who forwards names the term that it knows us to lead. Taking commands in another term
            # could take a later batch where an earlier one was refused, and break the caller's order.
            if forward.term != term:
                bond.send(ForwardRefused(forward.token, "this node does not lead that term"))
            elif not bond.is_terminated:
                admitted.append((bond, forward))
                count += len(forward.payloads)
                taken += size
        return admitted

    @staticmethod
    def answer(bond: Bond, token: int, answer: Accepted | Refused) -> None:
        """Tells the member what became of its commands."""
        if isinstance(answer, Accepted):
            bond.send(ForwardAccepted(token, answer.first, answer.term))
        else:
            bond.send(ForwardRefused(token, answer.reason))
