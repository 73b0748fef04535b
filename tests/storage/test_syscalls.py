"""Rules 1 and 6 at the kernel's door: what is synced before it is acknowledged, what a failed sync
leads to, and that a slow one keeps nobody waiting but the writer thread."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from mosaik.storage import open_storage
from tests.storage.stores import ROOT, child, place_of, url_of
from tests.storage.support import PEER, entries, identity
from tests.storage.strace import Call, calls, missing, tracer

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "strace is here")

SIZE = 8
COMMITS = 4


def traced(report: Path, *arguments: str, inject: Sequence[str] = ()) -> str:
    """Runs a child under the tracer; what it said."""
    done = subprocess.run(
        [*tracer(report, *inject), sys.executable, "-m", "tests.storage.child", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
        check=True,
    )
    return done.stdout


def says(call: Call, line: str) -> bool:
    return call.descriptor == 1 and call.text.startswith(f', "{line}\\n"')


def between(trace: Sequence[Call], start: str, stop: str) -> list[Call]:
    first = next(at for at, call in enumerate(trace) if says(call, start))
    last = next(at for at, call in enumerate(trace) if says(call, stop))
    return list(trace[first + 1 : last])


def synchronous(trace: Sequence[Call]) -> Callable[[Call], bool]:
    """Tells writes that return when the disk has them."""
    descriptors = {
        (call.descriptor, call.path)
        for call in trace
        if call.name == "openat" and "O_DSYNC" in call.text
    }
    return lambda call: (call.descriptor, call.path) in descriptors


#: What content is kept in, each engine's own files and the framework's; locks and journals for people are not.
CONTENT = re.compile(r"\.(db|db-wal|mdb|sst|log|watermark)$|/(MANIFEST|CURRENT)")


def is_content(call: Call, store: Path) -> bool:
    """Whether something of the store was written."""
    inside = call.path.startswith(str(store)) and CONTENT.search(call.path)
    return call.is_write and bool(inside)


def unsynced(trace: Sequence[Call], part: Sequence[Call], store: Path) -> list[Call]:
    """The part's writes into the store that nothing in the part made durable."""
    safe = synchronous(trace)
    synced = {call.path: at for at, call in enumerate(part) if call.is_sync}
    return [
        call
        for at, call in enumerate(part)
        if is_content(call, store) and not safe(call) and synced.get(call.path, -1) < at
    ]


@pytest.mark.parametrize("sync", ["full", "os"])
def test_a_commit_is_synced_before_it_is_acknowledged(
    durable_backend: str, sync: str, tmp_path: Path
) -> None:
    report, store = tmp_path / "report", place_of(durable_backend, tmp_path)
    traced(report, "append", durable_backend, str(tmp_path), "4", str(SIZE), f"sync={sync}")
    trace = list(calls(report))
    for number in range(1, 5):
        part = between(trace, f"begin {number * SIZE}", f"ack {number * SIZE}")
        assert any(is_content(call, store) for call in part)
        syncs = [call for call in part if call.is_sync]
        # Unsynced is what the other mode promises, and what shows that this can fail.
        assert bool(syncs) == (sync == "full")
        assert bool(unsynced(trace, part, store)) == (sync == "os")


@pytest.mark.parametrize("bug", ["", "no settle"])
def test_what_an_opening_replays_is_written_anew_and_synced(
    durable_backend: str, bug: str, tmp_path: Path
) -> None:
    if bug and durable_backend == "rocksdb":
        pytest.skip("RocksDB does this by itself when it opens")
    store = place_of(durable_backend, tmp_path)
    with child("append", durable_backend, str(tmp_path), "4", str(SIZE)) as writer:
        writer.until("idle")
        writer.kill()
    report = tmp_path / "report"
    assert "same" in traced(report, "show", durable_backend, str(tmp_path), bug)
    trace = list(calls(report))
    part = between(trace, "opening", f"opened {4 * SIZE}")
    safe = synchronous(trace)
    if durable_backend == "lmdb":
        # Its pages were synced before the page that names them, which is the one to be written anew.
        anew = any(is_content(call, store) and safe(call) for call in part)
    else:
        files = [c for c in part if is_content(c, store) and c.path.endswith((".db", ".sst"))]
        content = sum(len(entry.sealed) for entry in entries(4 * SIZE))
        anew = sum(call.result for call in files) >= content
    lasting = not unsynced(trace, part, store)
    assert (anew and lasting) == (not bug)


def test_a_failed_sync_poisons_and_nothing_more_is_acknowledged(
    durable_backend: str, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    report = tmp_path / "report"
    traced(report, "append", durable_backend, str(good), "5", str(SIZE))
    trace = list(calls(report))
    main = next(call.thread for call in trace if says(call, "ready 0"))
    begin = next(at for at, call in enumerate(trace) if says(call, f"begin {3 * SIZE}"))
    # The tracer counts for each thread.
    before = [c for c in trace[:begin] if c.name == "fdatasync" and c.thread == main]
    inject = f"fdatasync:error=EIO:when={len(before) + 1}"
    said = traced(
        report, "append", durable_backend, str(bad), "5", str(SIZE), inject=[inject]
    ).splitlines()
    assert f"ack {2 * SIZE}" in said
    assert f"ack {3 * SIZE}" not in said
    assert said[said.index(f"begin {3 * SIZE}") + 1] == f"failed StoragePoisoned {2 * SIZE}"
    assert "poisoned" in said
    with_batch = open_storage(url_of(durable_backend, bad), peer=PEER)
    try:
        log = with_batch.log(identity())
        assert log.tail.index in {2 * SIZE, 3 * SIZE}
        assert log.get_range(0, log.tail.index) == entries(log.tail.index)
    finally:
        with_batch.close()


def stall(backend: str, where: str, directory: Path) -> float:
    """The longest stall of an event loop, in milliseconds, while each `fdatasync` takes 200 ms."""
    directory.mkdir()
    said = traced(
        directory / "report",
        "stall",
        backend,
        str(directory),
        where,
        str(COMMITS),
        inject=["fdatasync:delay_enter=200000"],
    )
    _, stalled, _, took, _ = said.split()
    assert float(took) >= COMMITS * 200, "the syncs were slow"
    return float(stalled)


def test_a_slow_sync_keeps_the_event_loop_running(durable_backend: str, tmp_path: Path) -> None:
    # A busy machine stalls everybody now and then; a held lock stalls every time.
    longest = [stall(durable_backend, "thread", tmp_path / "0")]
    while longest[-1] > 10 and len(longest) < 3:
        longest.append(stall(durable_backend, "thread", tmp_path / str(len(longest))))
    print(f"{durable_backend}: longest stall of the loop {min(longest):.1f} ms")
    assert min(longest) <= 10


def test_a_commit_on_the_loop_itself_would_be_seen(tmp_path: Path) -> None:
    if not find_spec("lmdb"):
        pytest.skip("lmdb is not installed")
    assert stall("lmdb", "inline", tmp_path / "0") >= 200
