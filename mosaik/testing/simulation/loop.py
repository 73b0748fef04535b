"""An event loop of its own for each simulated process, all of them driven by one scheduler.

Theory of operation
-------------------
The shipped code runs on asyncio and asks it for three things: to call something soon, to call something
at a time, and what time it is. A `VirtualLoop` answers from a `Scheduler`. Since every process has a loop
of its own, its clock may go wrong without the others', it can be frozen, and it can die as a process dies:
in the middle of whatever it did, with nothing called afterwards.

What a dead process leaves are tasks that will never go on. Python would run their ``finally`` blocks whenever
it collects them, at some other point in each run; `die` does it at once. Nothing of it reaches anybody: the
loop takes no calls any more, the links are cut before, and the disk does not know the process any longer.
"""

from __future__ import annotations

import asyncio
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import Context
from functools import partial
from typing import Any, Final, TypeVar

from mosaik.testing.simulation.scheduler import Scheduler

__all__ = ["VirtualLoop"]

T = TypeVar("T")

#: Virtual seconds that something takes which is done off the loop.
_THREAD_HOP: Final = 0.0005
#: A timer that is early by less has not to be set again …
_RESOLUTION: Final = 1e-9
#: … and waits at least so long when it is.
_TICK: Final = 1e-6


class VirtualLoop(asyncio.AbstractEventLoop):
    """One process's event loop.

    Args:
        scheduler: drives it.
        owner: whose loop it is, for those who ask the running loop.
        wall_ms: what the process's calendar clock shows at virtual time 0.
        failed: is called with an exception that nobody caught.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        owner: Any,
        *,
        wall_ms: int,
        failed: Callable[[BaseException | None, str], None],
    ) -> None:
        self.scheduler: Final = scheduler
        self.owner: Final = owner
        self.wall_ms = wall_ms
        self.dead = False
        self._failed = failed
        self._frozen: list[Callable[[], None]] | None = None
        self._tasks: dict[asyncio.Task[Any], None] = {}
        #: Its clock: at virtual time ``_since`` it showed ``_shown``, and goes at ``_rate``.
        self._since, self._shown, self._rate = scheduler.now, scheduler.now, 1.0

    # -- its clocks ---------------------------------------------------------------------------------

    def time(self) -> float:
        return self._shown + (self.scheduler.now - self._since) * self._rate

    def drift(self, rate: float) -> None:
        """From now on its clock goes at this rate."""
        self._shown, self._since = self.time(), self.scheduler.now
        self._rate = rate

    def calendar_ms(self) -> int:
        """What its calendar clock shows, in milliseconds."""
        return self.wall_ms + int(self.time() * 1000)

    # -- calling ------------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]  # typeshed ties the arguments to the callback
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.dead:
            self.scheduler.soon(partial(self._run, handle))
        return handle

    def call_soon_threadsafe(  # type: ignore[override]  # typeshed ties the arguments to the callback
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]  # as above
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as above
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._set(handle)
        return handle

    def _set(self, handle: asyncio.TimerHandle) -> None:
        if not self.dead:
            seconds = (handle.when() - self.time()) / self._rate
            # What is not yet due must find that time has passed, however little of it was left.
            self.scheduler.after(
                max(_TICK, seconds) if seconds > 0 else 0.0, partial(self._due, handle)
            )

    def _due(self, handle: asyncio.TimerHandle) -> None:
        if handle.cancelled():
            return
        if handle.when() - self.time() > _RESOLUTION:
            self._set(handle)  # the clock has slowed down meanwhile
        else:
            self._run(handle)

    def _run(self, handle: asyncio.Handle) -> None:
        if self.dead or handle.cancelled():
            return
        if self._frozen is not None:
            self._frozen.append(partial(self._run, handle))
            return
        before = _get_running_loop()  # written out: it is done for everything that ever happens
        _set_running_loop(self)
        try:
            handle._run()
        finally:
            _set_running_loop(before)

    def deliver(self, event: Callable[[], None]) -> None:
        """Something reaches the process from outside, at once or when it goes on; never when it is dead."""
        if self._frozen is not None:
            self._frozen.append(partial(self.deliver, event))
        elif not self.dead:
            before = _get_running_loop()
            _set_running_loop(self)
            try:
                event()
            finally:
                _set_running_loop(before)

    @contextmanager
    def running(self) -> Generator[None]:
        """Whoever asks for the running loop gets this one."""
        before = _get_running_loop()
        _set_running_loop(self)
        try:
            yield
        finally:
            _set_running_loop(before)

    def run_in_executor(  # type: ignore[override]  # as above
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """What blocks takes a moment of virtual time, and is done by the time it ends."""
        del executor
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001  # it is handed to whoever asked
                future.set_exception(error)

        self.call_later(_THREAD_HOP, work)
        return future

    # -- tasks --------------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(
            coro, loop=self, name=None if name is None else str(name), context=context
        )
        if self.dead:
            _end(task)
        else:
            self._tasks[task] = None
            task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    # -- its life -----------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Stops the process, as SIGSTOP does: what happens meanwhile waits."""
        if self._frozen is None:
            self._frozen = []

    def thaw(self) -> None:
        """Lets it go on."""
        waiting, self._frozen = self._frozen or [], None
        for event in waiting:
            self.scheduler.soon(event)

    @property
    def frozen(self) -> bool:
        return self._frozen is not None

    def die(self) -> None:
        """Nothing is called any more."""
        self.dead = True
        self._frozen = None
        with self.running():
            for task in list(self._tasks):
                _end(task)
        self._tasks.clear()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            self._failed(context.get("exception"), str(context.get("message")))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the scheduler until its time comes, and does nothing then."""


def _end(task: asyncio.Task[Any]) -> None:
    """Unwinds a task that will never go on."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be left pending
    coroutine: Any = task.get_coro()
    for _ in range(100):
        with suppress(RuntimeError):  # a ``finally`` that awaits: it gets as far as the next one
            coroutine.close()
            return
