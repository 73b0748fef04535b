"""How long an event loop stands still, measured by a timer of that very loop.

The timer asks to be called every millisecond. What passes beyond that is time in which the loop did nothing
for anybody: somebody's long callback, a call that blocks, a garbage collection, or another thread of the
process that kept the interpreter.

One thing is not the loop's doing: this machine has fewer cores than a test has processes, and the kernel
lets a thread that is ready to run wait its turn. It keeps account of that wait, and the wait is taken off.
Only threads of Python count, since only they can keep the loop from going on. What the loop's own thread
spent on a core is never taken off.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from time import perf_counter, thread_time
from typing import Final

import msgspec

__all__ = ["LoopWatch", "Stall", "worst"]

#: Seconds after which the timer asks to be called.
TICK: Final = 0.001
#: Shorter ones are not worth keeping, and of the others only so many are.
_SHORTEST: Final = 0.002
_KEPT: Final = 20


class Stall(msgspec.Struct, frozen=True, order=True):
    """A time for which a loop did not turn; the longer one is the greater one.

    Attributes:
        seconds: how long, without the wait for a core.
        elapsed: how long by the clock on the wall.
        busy: for how much of it the loop's own thread was on a core.
        progress: how far the work had come.
    """

    seconds: float
    elapsed: float
    busy: float
    progress: int = 0


def worst(stalls: Iterable[Stall]) -> Stall:
    """The longest of several; one of no length when there is none."""
    return max(stalls, default=Stall(0.0, 0.0, 0.0))


class LoopWatch:
    """Watches the running event loop until it is closed.

    Args:
        progress: tells how far the work has come, for the reader of a failed test.
    """

    def __init__(self, progress: Callable[[], int] = lambda: 0) -> None:
        self._progress = progress
        self._accounts: dict[int, int] = {}
        self._stalls: list[Stall] = []
        self._loop = asyncio.get_running_loop()
        # What is done before the loop turns next is not waited for by anybody yet.
        self._timer: asyncio.Handle = self._loop.call_soon(self._begin)

    def stalls(self) -> list[Stall]:
        """The longest stalls so far, longest first."""
        return sorted(self._stalls, reverse=True)

    def forget(self) -> None:
        """What was seen so far does not count."""
        self._stalls.clear()

    def close(self) -> None:
        """Watches no longer."""
        self._timer.cancel()
        for account in self._accounts.values():
            os.close(account)
        self._accounts.clear()

    def _begin(self) -> None:
        self._waits, self._busy = self._read_waits(), thread_time()
        self._sleep()

    def _sleep(self) -> None:
        # A timer's own callback: a task would be woken a turn of the loop later.
        self._before = perf_counter()
        self._timer = self._loop.call_later(TICK, self._woken)

    def _woken(self) -> None:
        elapsed = perf_counter() - self._before - TICK
        waits_before, self._waits = self._waits, self._read_waits()
        busy_before, self._busy = self._busy, thread_time()
        if elapsed > _SHORTEST:
            # A thread that was not there before has not waited before.
            waited = sum(wait - waits_before.get(thread, 0) for thread, wait in self._waits.items())
            self._keep(elapsed, self._busy - busy_before, waited / 1e9)
        self._sleep()

    def _keep(self, elapsed: float, busy: float, waited: float) -> None:
        # Two threads may have waited at the same time, so that both waits together are too much.
        seconds = max(elapsed - waited, busy - TICK)
        self._stalls.append(Stall(seconds, elapsed, busy, self._progress()))
        if len(self._stalls) > 2 * _KEPT:
            self._stalls = self.stalls()[:_KEPT]

    def _read_waits(self) -> dict[int, int]:
        """By thread, the nanoseconds for which it was ready to run and had no core."""
        waits: dict[int, int] = {}
        for thread in threading.enumerate():
            number = thread.native_id
            if number is None:
                continue
            try:
                waits[number] = int(self._account(number).split()[1])
            except OSError:
                # The thread has ended, or this kernel keeps no accounts.
                if (closed := self._accounts.pop(number, None)) is not None:
                    os.close(closed)
        return waits

    def _account(self, thread: int) -> bytes:
        """What the kernel wrote down about a thread: time on a core, and time of waiting for one."""
        account = self._accounts.get(thread)
        if account is None:
            path = f"/proc/self/task/{thread}/schedstat"
            account = self._accounts[thread] = os.open(path, os.O_RDONLY)
        return os.pread(account, 128, 0)
