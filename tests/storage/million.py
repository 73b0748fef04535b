"""A store of a million entries on each durable backend: opened, verified, and copied around in a ring.

``python -m tests.storage.million DIRECTORY`` does it once, with another length if one follows.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from mosaik.primitives.durable import WriteBatch
from mosaik.storage import open_storage
from mosaik.storage.transfer import copy_log, require_equal
from mosaik.testing.storage import PEER, entries, hard_state, identity
from tests.storage import foreign
from tests.storage.stores import ROOT

__all__ = ["LENGTH", "RING", "around", "open_once"]

LENGTH: Final = 1_000_000
#: The last store is of the same kind as the first, and has to be equal to it.
RING: Final = ("sqlite", "lmdb", "rocksdb", "file", "sqlite")
#: Milliseconds in which a store opens, however long it is.
BOUND: Final = 100.0
#: Whoever reads all of it says so.
READS_ALL: Final = frozenset({"file"})
_BATCH: Final = 1024
_TIMES: Final = 5
#: Of each entry, as in the benchmark.
_SIZE: Final = 128


def around(directory: Path, length: int = LENGTH) -> Mapping[str, int]:
    """Makes a long log, and copies it from backend to backend until it is back; answers counts.

    Raises:
        AssertionError: verifying does not come to its end.
        StorageError: a copy is not what was copied.
    """
    shutil.rmtree(directory, ignore_errors=True)
    urls = [f"{name}://{directory}/{at}-{name}/store" for at, name in enumerate(RING)]
    late = 0
    with foreign.installed():
        took = _seconds(_fill, urls[0], length)
        _say(RING[0], f"{length:,} entries written in {took:.1f} s")
        for before, name, url in zip(["", *urls], RING, urls, strict=False):
            if before:
                _say(name, f"copied in {_seconds(_copy, before, url):.1f} s")
            _verify(name, url, length)
            late += _measure_opening(name, url, f"{name}://{directory}/empty-{name}/store", length)
        for one, other in [*pairwise(urls), (urls[0], urls[-1])]:
            _compare(one, other)
    _say("ring", "every copy is equal to its source, and the last to the first")
    shutil.rmtree(directory)
    return {"entries": length * len(RING), "late openings": late}


def _fill(url: str, length: int) -> None:
    with closing(open_storage(url, peer=PEER)) as environment:
        log = environment.log(identity())
        term = 1
        while log.tail.index < length:
            count = min(_BATCH, length - log.tail.index)
            term += log.tail.index % (_BATCH * 16) == 0
            run = entries(count, log.tail, term=term, size=_SIZE)
            log.write(WriteBatch(hard_state=hard_state(log, term=term), entries=run))


def _copy(source: str, destination: str) -> None:
    with (
        closing(open_storage(source, peer=PEER)) as one,
        closing(open_storage(destination, peer=PEER)) as other,
    ):
        copy_log(one, other, identity())


def _compare(source: str, destination: str) -> None:
    with (
        closing(open_storage(source, peer=PEER)) as one,
        closing(open_storage(destination, peer=PEER)) as other,
    ):
        require_equal(one, other, identity())


def _verify(name: str, url: str, length: int) -> None:
    seen: list[int] = []
    with closing(open_storage(url, peer=PEER)) as environment:
        log = environment.log(identity())
        took = _seconds(environment.verify, log, seen.append)
    assert seen == sorted(set(seen)), "progress went back"
    assert seen[-1] == length, "it stopped before the end"
    _say(name, f"verified in {took:.1f} s, with {len(seen)} reports of progress")


# -- how long an opening takes -------------------------------------------------------------------------


def _measure_opening(name: str, url: str, empty: str, length: int) -> bool:
    """Beside the floor, which is an empty store of the same kind; answers whether it takes too long, which on
    a busy machine proves nothing."""
    _open_in_process(empty, "close", 0)
    floor = _median(lambda: _open_in_process(empty, "close", 0))
    closed = _median(lambda: _open_in_process(url, "close", length))
    _open_in_process(url, "kill", length)  # each opening from here on is the first after a SIGKILL
    killed = _median(lambda: _open_in_process(url, "kill", length))
    _open_in_process(url, "close", length)
    late = name not in READS_ALL and max(closed, killed) > BOUND
    _say(
        name,
        f"opens in {closed:.1f} ms, after SIGKILL in {killed:.1f} ms; an empty one in {floor:.1f} ms"
        + f": more than {BOUND:.0f} ms" * late,
    )
    return late


def _median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(_TIMES))


def _open_in_process(url: str, end: str, length: int) -> float:
    """Milliseconds; the process begins anew, but what it imports is not counted."""
    command = [sys.executable, "-m", "tests.storage.million", end, url, str(length)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, env=environment
    )
    assert done.returncode == (-signal.SIGKILL if end == "kill" else 0), done
    return float(done.stdout)


def open_once(end: str, url: str, length: int) -> None:
    """Opens a store, prints how long that took, and ends as it is told; a ``kill`` comes in the middle of
    commits that change nothing."""
    warm = open_storage(f"{url}-warm", peer=PEER)  # so that every module is loaded
    warm.log(identity())
    warm.close()
    started = time.perf_counter()
    environment = open_storage(url, peer=PEER)
    log = environment.log(identity())
    last = log.get(log.tail.index)
    took = time.perf_counter() - started
    assert log.tail.index == length
    assert last is None or last.index == length
    print(took * 1000, flush=True)
    if end == "close":
        environment.close()
        return
    for _ in range(64):  # entries that stand in the engine's own log, and are taken back
        log.append(entries(_BATCH, log.tail, term=log.tail.term, size=_SIZE))
    log.truncate(length + 1)
    os.kill(os.getpid(), signal.SIGKILL)


def _seconds(work: Callable[..., None], *arguments: Any) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def _say(name: str, line: str) -> None:
    print(f"  {name}: {line}", flush=True)


def main(arguments: list[str]) -> None:
    if arguments[0] in {"close", "kill"}:
        end, url, length = arguments
        open_once(end, url, int(length))
    else:
        directory, *rest = arguments
        around(Path(directory).resolve(), *map(int, rest))


if __name__ == "__main__":
    main(sys.argv[1:])
