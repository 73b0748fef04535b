"""Virtual time: one queue of everything that will happen."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["Scheduler"]

#: So many timers in a row at one moment are a loop without end.
_SPINNING: Final = 10_000


class Scheduler:
    """Does what is due, in the order of virtual time, and at equal times in the order of asking.

    Attributes:
        now: virtual seconds since the beginning.
        events: how many things were done.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._order = 0
        self._due: deque[Callable[[], object]] = deque()
        self._later: list[tuple[float, int, Callable[[], object]]] = []

    def soon(self, event: Callable[[], object]) -> None:
        """Has something done at this moment, after all that was asked for before."""
        self._due.append(event)

    def at(self, time: float, event: Callable[[], object]) -> None:
        """Has something done at a virtual time."""
        self._order += 1
        heapq.heappush(self._later, (max(time, self.now), self._order, event))

    def after(self, seconds: float, event: Callable[[], object]) -> None:
        """Has something done so many virtual seconds from now."""
        self.at(self.now + seconds, event)

    def run_until(self, time: float) -> None:
        """Does everything that is due up to a virtual time.

        Raises:
            RuntimeError: time does not pass any more.
        """
        due, later, spins = self._due, self._later, 0
        while True:
            if due:
                event = due.popleft()
            elif later and later[0][0] <= time:
                at, _, event = heapq.heappop(later)
                spins = spins + 1 if at == self.now else 0
                self.now = at
            else:
                break
            self.events += 1
            event()
            if spins > _SPINNING:
                raise RuntimeError(
                    f"time stands still at {self.now}: somebody asks to be called at once"
                )
        self.now = time
