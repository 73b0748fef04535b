"""Processes that can be killed, limited and traced, for rules that need one that dies.

See `mosaik.testing.storage.child` for what a worker can be told.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any, Final
from weakref import WeakKeyDictionary, finalize

import msgspec

from mosaik.testing.storage.child import PACKET
from mosaik.testing.storage.history import Reading
from mosaik.testing.storage.rule import Broken
from mosaik.testing.storage.subject import Subject

__all__ = ["Ended", "Silent", "Worker", "fork"]

#: Seconds in which a worker answers, or is taken to hang.
PATIENCE: Final = 20.0


class Ended(Broken):
    """A worker died of something that it was not told to die of.

    Attributes:
        status: its exit status, or minus the signal.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Silent(Broken):
    """A worker did not answer in time; it was killed."""


class Worker:
    """A process with a store, opened or not; see `mosaik.testing.storage.child.Worker`.

    Attributes:
        pid: its process id.
        status: how it ended, once it has been waited for: an exit status, or minus a signal.
    """

    def __init__(self, server: _Server, pid: int, channel: socket.socket) -> None:
        self._server = server
        self._channel = channel
        self.pid = pid
        self.status: int | None = None

    def tell(self, name: str, *arguments: str | int) -> None:
        """Gives it something to do; an answer has to be received."""
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, as will be seen
            self._channel.send(json.dumps([name, *arguments]).encode())

    def line(self, patience: float = PATIENCE) -> str:
        """The next thing it says; empty when it has ended.

        Raises:
            Silent: it says nothing.
        """
        self._channel.settimeout(patience)
        try:
            return self._channel.recv(PACKET).decode()
        except ConnectionResetError:
            return ""
        except TimeoutError as error:
            self.kill()
            raise Silent(f"a process said nothing for {patience:.0f} s") from error

    def until(self, *prefixes: str, patience: float = PATIENCE) -> list[str]:
        """What it says up to and including the first thing that begins with one of these.

        Raises:
            Ended: it ended before.
            Silent: it says nothing.
        """
        lines: list[str] = []
        while not (lines and lines[-1].startswith(prefixes)):
            line = self.line(patience)
            if not line:
                raise self.ended(f"after {lines[-1]!r}" if lines else "at once")
            lines.append(line)
        return lines

    def ask(self, name: str, *arguments: str | int, patience: float = PATIENCE) -> str:
        """Gives it something to do and waits for the one answer."""
        self.tell(name, *arguments)
        return self.until("", patience=patience)[0]

    def do(self, name: str, *arguments: str | int) -> str:
        """Gives it something that has to succeed.

        Raises:
            Broken: the store refused.
        """
        answer = self.ask(name, *arguments)
        if answer.startswith(("refused", "untyped")):
            raise Broken(f"{name}: {answer}")
        return answer

    def run(self, seed: int | str, first: int, count: int) -> None:
        """Writes steps of a history, all of which have to be acknowledged.

        Raises:
            Broken: one was not.
        """
        self.tell("run", seed, first, count)
        lines = self.until("ran", "untyped")
        if f"ack {first + count - 1}" not in lines:
            raise Broken(f"of the steps {first} to {first + count - 1} of a history: {lines[-2:]}")

    def read(
        self, seed: int | str, limit: int, url: str, place: Path, patience: float = PATIENCE
    ) -> Reading:
        """What the store holds, opened by this worker unless it has it open."""
        answer = self.ask("read", seed, limit, url, str(place), patience=patience)
        return msgspec.json.decode(answer.removeprefix("read "), type=Reading)

    def listen(self, seconds: float) -> None:
        """Waits until it says something, but no longer than this."""
        select.select([self._channel], [], [], seconds)

    def rest(self) -> list[str]:
        """All that it still says, when it is about to end or has ended."""
        lines: list[str] = []
        while line := self.line():
            lines.append(line)
        return lines

    def ended(self, when: str) -> Ended:
        """The error of a worker that has ended by itself."""
        status = self.wait()
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Ended(status, f"the process ended with {how} {when}")

    def kill(self) -> None:
        """SIGKILL, and waits for the end. What it said before can still be read."""
        if self.status is None:
            os.kill(
                self.pid, signal.SIGKILL
            )  # it is the server's child, so its id is not used again
            self.wait()

    def wait(self) -> int:
        """Waits for its end."""
        if self.status is None:
            self.status = int(self._server.ask("wait", self.pid))
        return self.status

    def close(self) -> None:
        """Ends it, if it has not ended."""
        self.kill()
        self._channel.close()


class _Server:
    """The process of `mosaik.testing.storage.child`, which forks workers."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mosaik.testing.storage.child"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                # It finds what this process finds, however it came to be on the path.
                env={
                    **os.environ,
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )

    def ask(self, name: str, *arguments: Any, pass_: Sequence[int] = ()) -> Any:
        packet = json.dumps([name, *arguments]).encode()
        socket.send_fds(self._channel, [packet], pass_)
        answer = self._channel.recv(PACKET)
        if not answer:
            raise RuntimeError(f"the server of forks ended with status {self._process.wait()}")
        return json.loads(answer)

    def fork(self) -> Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = self.ask("fork", pass_=[theirs.fileno()])
        return Worker(self, pid, ours)

    def close(self) -> None:
        self._channel.close()
        self._process.wait()


_servers: Final[WeakKeyDictionary[Subject, _Server]] = WeakKeyDictionary()
_lock: Final = RLock()


def fork(subject: Subject) -> Worker:
    """A worker that has loaded what the subject's backend needs, and has opened nothing."""
    with _lock:
        server = _servers.get(subject)
        if server is None:
            server = _warm(subject)
            _servers[subject] = server
            finalize(subject, server.close)  # at the latest when this process ends
        return server.fork()


def _warm(subject: Subject) -> _Server:
    """A server that has imported whatever a use of the store imports, unless that starts threads: a
    process with threads cannot be forked, so its workers then import for themselves."""
    server = _Server()
    with tempfile.TemporaryDirectory(prefix="mosaik-kit-") as scratch:
        place = Path(scratch).resolve()
        worker = server.fork()
        try:
            worker.ask("open", subject.url(place), str(place))
            worker.tell("run", 0, 1, 2)
            worker.until("ran", "refused", "untyped")
            worker.ask("close")
            modules = worker.ask("modules").split()[1:]
        except Broken:
            modules = []  # a store that kills its process is the rules' business
        finally:
            worker.close()
            subject.remove(place)
    if server.ask("import", *modules) == 1:
        return server
    server.close()
    return _Server()
