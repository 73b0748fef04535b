"""A process that uses a store until somebody kills it: what the storage tests run in children.

It says what it does on standard output, a line at a time and unbuffered, so that an acknowledgement
that was read was given. The entries it writes can be computed anew by whoever checks them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import MosaikError, StorageError, StorageFull
from mosaik.storage import Storage, StorageEnvironment, Writer, open_storage
from tests.storage.bugs import plant
from tests.storage.stores import place_of, url_of
from tests.storage.support import PEER, entries, identity


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def open_(name: str, directory: str, query: str = "") -> StorageEnvironment:
    return open_storage(url_of(name, Path(directory), query), peer=PEER)


# -- a store that is written to, and one that is read ------------------------------------------------


def _append_one(log: Storage[Any], size: int) -> bool:
    """One commit, between ``begin`` and ``ack`` or ``failed``."""
    batch = entries(size, log.tail)
    say(f"begin {batch[-1].index}")
    try:
        log.append(batch)
    except StorageError as error:
        say(f"failed {type(error).__name__} {batch[0].index - 1}")
        return False
    say(f"ack {batch[-1].index}")
    return True


def _is_usable(environment: StorageEnvironment) -> bool:
    """Whether the store goes on, after it has done what may be done late."""
    if environment.poisoned is None:
        with suppress(StorageFull):
            environment.idle()
    return environment.poisoned is None


def append(name: str, directory: str, batches: str, size: str, query: str = "") -> None:
    """Appends that many batches (0: until one fails), and then does what it is told, line by line.

    ``again`` appends once more, ``reopen`` opens the store anew; the end of the input closes it.
    """
    environment = open_(name, directory, query)
    log = environment.log(identity())
    say(f"ready {log.tail.index}")
    left = int(batches) or sys.maxsize
    while left and _append_one(log, int(size)):
        left -= 1
    say("idle" if _is_usable(environment) else "poisoned")
    while command := sys.stdin.readline().strip():
        if command == "reopen":
            # The old handles are still there, as they are in a node.
            environment = open_(name, directory, query)
            log = environment.log(identity())
            assert log.get_range(0, log.tail.index) == entries(log.tail.index), "something else"
            say(f"reopened {log.tail.index}")
        else:
            _append_one(log, int(size))
    environment.close()
    say("closed")


def show(name: str, directory: str) -> None:
    """Opens the store and compares all that it serves with what was written."""
    say("opening")
    try:
        environment = open_(name, directory)
        log = environment.log(identity())
    except MosaikError as error:
        say(f"refused {type(error).__name__}")
        return
    say(f"opened {log.tail.index}")
    assert log.get_range(0, log.tail.index) == entries(log.tail.index), "it serves something else"
    say("same")
    try:
        environment.close()
    except MosaikError as error:
        say(f"not closed {type(error).__name__}")


def unprivileged(name: str, directory: str) -> None:
    """Opens the store as a user who may not."""
    open_(name, str(Path(directory, "warm"))).close()  # its modules may not be readable afterwards
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        open_(name, directory)
    except MosaikError as error:
        say(f"{type(error).__name__}: {error}")


# -- how long an event loop is kept waiting ----------------------------------------------------------


async def _commits(name: str, directory: str, inline: bool, count: int) -> None:
    writer = await Writer.open(lambda: open_(name, directory))
    log: Storage[Any] = await writer.call(lambda: writer.environment.log(identity()))
    finished = asyncio.Event()
    left, after = count, log.tail

    def submit() -> None:
        nonlocal after
        batch = entries(64, after, size=128)
        after = after._replace(term=1, index=batch[-1].index, checksum=batch[-1].checksum)
        if inline:
            log.append(batch)
            done(None)
        else:
            writer.write(log, WriteBatch(entries=batch), done)

    def done(error: StorageError | None) -> None:
        nonlocal left
        assert error is None, error
        left -= 1
        if left:
            asyncio.get_running_loop().call_soon(submit)
        else:
            finished.set()

    gc.freeze()
    longest, started = 0.0, time.monotonic()
    last = started
    submit()
    while not finished.is_set():
        await asyncio.sleep(0.001)  # the work of everybody else on the loop, which is watched
        now = time.monotonic()
        longest, last = max(longest, now - last - 0.001), now
    say(f"stalled {longest * 1000:.1f} of {(last - started) * 1000:.0f} ms")
    await writer.close()


def stall(name: str, directory: str, where: str, commits: str) -> None:
    """So many commits beside a loop that does nothing; says how long it was kept waiting, and how long
    they took."""
    asyncio.run(_commits(name, directory, where == "inline", int(commits)))


_COMMANDS: dict[str, Callable[..., None]] = {
    command.__name__: command for command in (append, show, unprivileged, stall)
}

if __name__ == "__main__":
    _, bug, command, name, directory, *rest = sys.argv
    plant(bug, name, place_of(name, Path(directory)))
    _COMMANDS[command](name, directory, *rest)
