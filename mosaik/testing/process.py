"""One real process that tells what happens to it, line by line, so that nobody has to sleep."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from mosaik.primitives.errors import MosaikError

__all__ = ["Event", "NotRunning", "Process", "ProcessEnded", "RequestFailed"]

#: What a process reports: ``event`` and whatever belongs to it.
Event = Mapping[str, Any]

#: A longer line is no event. An answer may carry a whole state.
_MAX_LINE: Final = 256 * 1024 * 1024
#: How much of what a process said last goes into an error.
_TAIL: Final = 4000


class ProcessEnded(MosaikError):
    """A process ended, or stayed silent too long, while something was expected of it."""


class NotRunning(ProcessEnded):
    """There was no process to ask: nothing was asked."""


def _named(name: str) -> Callable[[Event], bool]:
    return lambda event: event.get("event") == name


class RequestFailed(MosaikError):
    """A process answered a request with an error.

    Attributes:
        kind: the name of the error's type, such as ``OutcomeUnknown``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.kind: Final = message.partition(":")[0]


class Process:
    """A child process whose standard output is a stream of events, one JSON object a line.

    Args:
        command: program and arguments.
        log: the file that its standard error is added to.
        environ: variables over this process's own.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self._command = list(command)
        self._log = log
        self._environ = dict(environ or {})
        self._child: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._arrived = asyncio.Condition()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._requests = itertools.count(1)
        self.events: list[Event] = []
        """What the present run has reported so far."""

    @property
    def running(self) -> bool:
        """Whether there is a process, stopped or not."""
        return self._child is not None and self._child.returncode is None

    @property
    def exit_status(self) -> int | None:
        """How the last run ended, negative for a signal; None while it runs, or before the first."""
        return None if self._child is None else self._child.returncode

    @property
    def pid(self) -> int:
        """The process's id.

        Raises:
            ProcessEnded: there is no process.
        """
        if self._child is None or self._child.returncode is not None:
            raise ProcessEnded(f"{self._command} is not running")
        return self._child.pid

    async def start(self) -> None:
        """Starts it anew; what the run before reported is forgotten."""
        assert not self.running, "the process is running"
        self.events = []
        with self._log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self._environ},
                limit=_MAX_LINE,
            )
        self._reader = asyncio.create_task(
            self._read(self._child), name=f"events of {self._child.pid}"
        )

    async def _read(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdout is not None
        while line := await child.stdout.readline():
            event = _event(line)
            if event is None:
                # The application printed something; it belongs to what the process says to people.
                await asyncio.to_thread(self._note, line)
            elif event["event"] == "answer":
                self._answered(event)
            else:
                async with self._arrived:
                    self.events.append(event)
                    self._arrived.notify_all()
        await child.wait()
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(self._unexpected("ended before it answered"))
        async with self._arrived:
            self._arrived.notify_all()

    def _note(self, line: bytes) -> None:
        with self._log.open("ab") as log:
            log.write(line)

    def _answered(self, event: Event) -> None:
        waiting = self._answers.get(event["id"])
        if waiting is None or waiting.done():
            return
        if "error" in event:
            waiting.set_exception(RequestFailed(event["error"]))
        else:
            waiting.set_result(event["result"])

    async def request(self, op: str, *, timeout: float = 30.0, **more: Any) -> Any:
        """Asks the process for something over its standard input, and awaits the answer.

        Raises:
            RequestFailed: it answered with an error.
            ProcessEnded: it ended, or the time passed, without an answer.
        """
        if self._child is None or self._child.stdin is None or not self.running:
            raise NotRunning(str(self._unexpected(f"is not there to be asked for {op!r}")))
        number = next(self._requests)
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        self._child.stdin.write(json.dumps({"id": number, "op": op, **more}).encode() + b"\n")
        try:
            async with asyncio.timeout(timeout):
                return await waiting
        except TimeoutError as error:
            raise self._unexpected(f"did not answer {op!r} within {timeout} s") from error
        finally:
            del self._answers[number]

    async def until(
        self, wanted: str | Callable[[Event], bool], *, after: int = 0, timeout: float = 30.0
    ) -> Event:
        """The first event that is wanted, of those reported and those to come.

        Args:
            wanted: the event's name, or what it has to fulfil.
            after: skip so many of the present run's events.
            timeout: seconds.

        Raises:
            ProcessEnded: the process ended, or the time passed, without it.
        """
        matches = _named(wanted) if isinstance(wanted, str) else wanted
        seen = after
        try:
            async with asyncio.timeout(timeout), self._arrived:
                while True:
                    for event in self.events[seen:]:
                        if matches(event):
                            return event
                    seen = max(seen, len(self.events))
                    if self._reader is None or self._reader.done() or not self.running:
                        raise self._unexpected(f"ended before {wanted!r}")
                    await self._arrived.wait()
        except TimeoutError as error:
            raise self._unexpected(f"did not report {wanted!r} within {timeout} s") from error

    def send_signal(self, signum: signal.Signals) -> None:
        """Sends it a signal.

        Raises:
            ProcessEnded: there is no process.
        """
        os.kill(self.pid, signum)

    async def kill(self) -> None:
        """Ends it with SIGKILL and waits until it is gone. Killing twice does nothing."""
        await self._end(signal.SIGKILL)

    async def stop(self, timeout: float = 30.0) -> int:
        """Asks it to end, waits, and answers its exit status; kills it when the time has passed.

        Raises:
            ProcessEnded: it had to be killed.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._end(signal.SIGTERM)
        except TimeoutError as error:
            await self.kill()
            raise self._unexpected(f"did not stop within {timeout} s") from error

    async def wait(self) -> int:
        """Waits until it has ended by itself, and answers its exit status."""
        assert self._child is not None
        assert self._reader is not None
        await asyncio.shield(self._reader)
        return await self._child.wait()

    async def _end(self, signum: signal.Signals) -> int:
        if self._child is None:
            return 0
        if self._child.returncode is None:
            self._child.send_signal(signum)
            # A stopped process takes no other signal than SIGKILL before it goes on.
            if signum is not signal.SIGKILL:
                self._child.send_signal(signal.SIGCONT)
        return await self.wait()

    def _unexpected(self, what: str) -> ProcessEnded:
        said = (
            self._log.read_bytes()[-_TAIL:].decode(errors="replace") if self._log.exists() else ""
        )
        status = self._child.returncode if self._child else None
        return ProcessEnded(
            f"{' '.join(self._command)}: {what} (exit status {status}); its last events: "
            f"{self.events[-5:]}; it said:\n{said}"
        )


def _event(line: bytes) -> Event | None:
    """The event that a line reports, or None when it reports none."""
    try:
        event = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
    return event if "event" in event else None
