"""Processes that use a store until somebody kills them: ``python -m mosaik.testing.storage.child``.

Started as a program this is a *server of forks*: a process that imports a backend's modules once, opens
nothing itself, and forks a *worker* whenever it is asked for one, which takes milliseconds where a new
interpreter takes the better part of a second. `mosaik.testing.storage.workers` is the other end.

Each of them is told what to do, and answers, by packets on a socket: an answer that was received was
given, however the process ends. Nothing is written to a pipe or a file, so that a system call that writes
is the store's.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import StorageError
from mosaik.storage import Storage, StorageEnvironment, examine_storage, open_storage
from mosaik.testing.storage.ground import entries, identity
from mosaik.testing.storage.history import LOGS, History, decode_part, fingerprint, look, read
from mosaik.testing.storage.subject import PEER, data_dir

__all__ = ["PACKET", "Server", "Worker"]

#: No command and no answer is longer.
PACKET: Final = 1 << 17
#: ``prctl`` by which a process says who may trace it, and "anybody of the same user".
_PR_SET_PTRACER: Final = 0x59616D61
_ANYBODY: Final = ctypes.c_ulong(-1)
_NOBODY: Final = 65534
#: No history's terms reach this far.
_LATE: Final = 1 << 30


class Worker:
    """One process with one store, open or not.

    Args:
        channel: where commands come from and answers go.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._environment: StorageEnvironment | None = None
        self._logs: list[Storage[Any]] = []
        self._history = History(0)

    def work(self) -> None:
        """Does what it is told until it is told no more."""
        while packet := self._channel.recv(PACKET):
            name, *arguments = json.loads(packet)
            try:
                getattr(self, f"do_{name}")(*arguments)
            except StorageError as error:
                self._say(f"refused {type(error).__name__}: {error}")
            except Exception as error:  # noqa: BLE001  # whatever a store raises is its answer
                self._say(f"untyped {type(error).__name__}: {error}")

    def _say(self, line: str) -> None:
        self._channel.send(line.encode(errors="replace")[: PACKET - 1])

    # -- the store ----------------------------------------------------------------------------------

    def _open(self, url: str, place: str) -> StorageEnvironment:
        self._environment = open_storage(url, peer=PEER, data_dir=data_dir(url, place))
        return self._environment

    def do_open(self, url: str, place: str) -> None:
        """Opens the store, unless it is open, and its logs: ``opened``."""
        environment = self._environment or self._open(url, place)
        self._logs = [environment.log(identity(name)) for name in LOGS]
        self._say("opened")

    def do_run(self, seed: int | str, first: int, count: int) -> None:
        """Writes the steps of a history, each one ``begin N`` and ``ack N`` or ``failed N``; ``ran``."""
        self._be(seed)
        assert self._environment is not None
        for number in range(first, first + count):
            self._say(f"begin {number}")
            try:
                self._history.commit(self._environment, self._logs, number)
            except Exception as error:  # noqa: BLE001
                kind = "" if isinstance(error, StorageError) else "untyped "
                self._say(f"failed {number} {kind}{type(error).__name__}: {error}")
                break
            self._say(f"ack {number}")
        self._say("ran")

    def do_append(self, tag: int | str, logs: int, count: int) -> None:
        """Commits so many times a batch of one entry for each of the first logs: ``appended``."""
        assert self._environment is not None
        for _ in range(count):
            self._environment.commit(
                [
                    (log, WriteBatch(entries=entries(1, log.tail, term=_LATE, tag=f"{tag}:")))
                    for log in self._logs[:logs]
                ]
            )
        self._say("appended")

    def do_write(self, *parts: tuple[int, str]) -> None:
        """Commits parts of batches, each with the number of its log: ``written``."""
        assert self._environment is not None
        self._environment.commit(
            [(self._logs[at], decode_part(text).batch(self._logs[at])) for at, text in parts]
        )
        self._say("written")

    def do_show(self) -> None:
        """Says what the logs show, as `fingerprint` has it: ``shows …``."""
        self._say("shows " + " ".join(fingerprint(look(log)) for log in self._logs))

    def do_read(self, seed: int | str, limit: int, url: str, place: str) -> None:
        """Opens the store unless it is open, reads everything: ``read`` and a `Reading`."""
        self._be(seed)
        held = self._environment
        found = read(lambda: held or self._open(url, place), self._history, limit)
        self._say(f"read {msgspec.json.encode(found).decode()}")

    def do_mend(self, seed: int | str, step: int) -> None:
        """Writes what should be there after a step over what the store suspects: ``mended``."""
        self._be(seed)
        for log, right in zip(self._logs, self._history.state(step), strict=True):
            if log.suspect is not None:
                first = log.suspect.start
                wanted = [entry for entry in right.entries if entry.index >= first]
                log.write(WriteBatch(truncate_from=first, entries=wanted))
        self._say("mended")

    def do_verify(self, url: str, place: str) -> None:
        """Examines the store, opens it and verifies its logs: ``at NAME INDEX`` on the way, and
        ``verified``."""
        examine_storage(url, data_dir=data_dir(url, place))
        environment = self._open(url, place)
        for name in LOGS:
            self._say(f"at {name} 0")
            environment.verify(environment.log(identity(name)), partial(self._say_at, name))
        self._say("verified")

    def _say_at(self, name: str, index: int) -> None:
        self._say(f"at {name} {index}")

    def do_idle(self) -> None:
        """Lets the store do what it does late: ``idle``."""
        assert self._environment is not None
        self._environment.idle()
        self._say("idle")

    def do_close(self) -> None:
        """Closes the store: ``closed``."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None
        self._say("closed")

    def _be(self, seed: int | str) -> None:
        if self._history.seed != seed:
            self._history = History(seed)

    # -- the process --------------------------------------------------------------------------------

    def do_modules(self) -> None:
        """Says which modules are loaded, in the order in which they were: ``modules …``."""
        self._say(f"modules {' '.join(sys.modules)}")

    def do_traceable(self) -> None:
        """Allows a process that is no ancestor to trace this one, where the kernel asks: ``traceable``."""
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
        self._say("traceable")

    def do_descriptors(self, count: int) -> None:
        """Leaves room for so many more open files: ``limited``."""
        free = os.dup(self._channel.fileno())
        os.close(free)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, most))
        self._say("limited")

    def do_file_size(self, size: int) -> None:
        """Lets no file grow beyond so many bytes: ``limited``."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        self._say("limited")

    def do_drop_privileges(self) -> None:
        """Becomes nobody, where it is root: ``user UID``."""
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        self._say(f"user {os.getuid()}")


class Server:
    """Forks workers.

    Args:
        channel: where it is asked for them, and answers.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def serve(self) -> None:
        """Answers until the other end closes."""
        while True:
            packet, descriptors, _, _ = socket.recv_fds(self._channel, PACKET, 1)
            if not packet:
                return
            name, *arguments = json.loads(packet)
            answer = getattr(self, f"do_{name}")(*arguments, *descriptors)
            self._channel.send(json.dumps(answer).encode())

    def do_import(self, *names: str) -> int:
        """Imports modules, so that workers have them; answers how many threads there are now."""
        for name in names:
            if name not in sys.modules:
                with suppress(
                    Exception
                ):  # a name that only its package can make is left to workers
                    importlib.import_module(name)
        return len(os.listdir("/proc/self/task"))

    def do_fork(self, descriptor: int) -> int:
        """Forks a worker that is told what to do through a descriptor; answers its process id."""
        pid = os.fork()
        if pid:
            os.close(descriptor)
            return pid
        status = 1
        try:
            self._channel.close()
            Worker(socket.socket(fileno=descriptor)).work()
            status = 0
        finally:
            # As a SIGKILL would: nothing is closed, flushed or unlocked by anybody but the kernel.
            os._exit(status)

    def do_wait(self, pid: int) -> int:
        """Waits for a worker's end; answers its status, or minus the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    """Serves forks on the socket that is standard input."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # whoever started it ends it, by closing the socket
    logging.disable()
    Server(socket.socket(fileno=os.dup(0))).serve()


if __name__ == "__main__":
    main()
