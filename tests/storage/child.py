"""A process that uses a store until somebody kills it: what the storage tests run in children.

It says what it does on standard output, a line at a time and unbuffered, so that an acknowledgement
that was read was given. The entries it writes can be computed anew by whoever checks them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

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

    submit()
    gc.freeze()
    longest, started = 0.0, time.monotonic()
    last = started
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


# -- bytes that change by themselves -----------------------------------------------------------------

EXPECTED = 300
TERM = 9
OUTCOMES = {0: "the same", 1: "detected", 2: "different", 3: "untyped"}
_MODULES = {"sqlite": "mosaik.storage.schema", "rocksdb": "rocksdict"}


def fill(name: str, directory: str) -> None:
    """Makes the store that `damage` damages: closed and opened again, so that some of it is old and
    some of it new, and killed with its watermark written."""
    environment = open_(name, directory)
    log = environment.log(identity())
    hard = log.hard_state
    log.write(WriteBatch(hard_state=replace(hard, term=TERM), entries=entries(100, size=100)))
    environment.close()
    environment = open_(name, directory)
    log = environment.log(identity())
    for _ in range(20):
        log.append(entries(10, log.tail, size=100))
    environment.idle()
    say("filled")
    sys.stdin.readline()
    environment.close()
    say("closed")


def damage(name: str, directory: str, seed: str, times: str) -> None:
    """Says what an opening made of the store; first as it is, then with one bit flipped, that many times.

    Each opening is a forked process, since a damaged map may end it.
    """
    __import__(_MODULES.get(name, name))
    root = Path(directory)
    everything = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    images = {path: everything[path] for path in sorted(everything) if _is_data(path)}
    rng = random.Random(seed)
    total = sum(map(len, images.values()))
    for number in range(int(times) + 1):
        for path in root.rglob("*"):
            if path.is_file() and path not in everything:
                path.unlink()
        for path, image in everything.items():
            path.write_bytes(image)
        where = _flip(images, rng, rng.randrange(total)) if number else "as it is"
        pid = os.fork()
        if not pid:
            _exit_with(lambda: _outcome(name, directory))
        status = os.waitpid(pid, 0)[1]
        outcome = OUTCOMES.get(os.waitstatus_to_exitcode(status), "killed")
        say(f"{outcome}: {number} {where}")
    say("done")


def _is_data(path: Path) -> bool:
    """What the engine keeps content in; the framework's own files have tests of their own."""
    return path.suffix in {".db", ".db-wal", ".mdb", ".log", ".sst"} and path.name != "lock.mdb"


def _flip(images: dict[Path, bytes], rng: random.Random, at: int) -> str:
    """Flips a bit in the byte at a position in all files together; says where that is."""
    for path, image in images.items():
        if at < len(image):
            damaged = bytearray(image)
            damaged[at] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            return f"{path.name} byte {at} of {len(image)}"
        at -= len(image)
    raise AssertionError("beyond the last file")


def _outcome(name: str, directory: str) -> int:
    try:
        environment = open_(name, directory)
        log = environment.log(identity())
        served = log.get_range(0, EXPECTED + 1)
    except MosaikError:
        return 1
    return 0 if served == entries(EXPECTED, size=100) and log.hard_state.term == TERM else 2


def _exit_with(work: Callable[[], int]) -> None:
    code = 3
    try:
        code = work()
    finally:
        os._exit(code)


_COMMANDS: dict[str, Callable[..., None]] = {
    command.__name__: command for command in (append, show, unprivileged, stall, fill, damage)
}

if __name__ == "__main__":
    _, bug, command, name, directory, *rest = sys.argv
    plant(bug, name, place_of(name, Path(directory)))
    _COMMANDS[command](name, directory, *rest)
