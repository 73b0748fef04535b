"""A disk that is slow to sync keeps nobody waiting but the writer thread."""

from __future__ import annotations

from pathlib import Path

from tests.storage.stores import require
from tests.storage.strace import needs_strace, traced

pytestmark = needs_strace

COMMITS = 3
#: Milliseconds that each sync takes, and that the event loop may stand still.
DELAY = 200
STALL = 10


def stall(backend: str, directory: Path, where: str = "thread", bug: str = "") -> float:
    """The longest stall of an event loop while each sync is slow, in milliseconds."""
    directory.mkdir()
    arguments = ("stall", backend, str(directory), where, str(COMMITS))
    inject = f"fdatasync:delay_enter={DELAY * 1000}"
    said, _ = traced(directory / "report", *arguments, bug=bug, inject=inject)
    _, stalled, _, took, _ = said[0].split()
    assert float(took) >= COMMITS * DELAY, "the syncs were not slow, so this shows nothing"
    return float(stalled)


def test_a_slow_sync_keeps_the_event_loop_running(durable_backend: str, tmp_path: Path) -> None:
    # A busy machine stalls everybody now and then; whoever holds the interpreter does so every time.
    longest = [stall(durable_backend, tmp_path / "0")]
    while longest[-1] > STALL and len(longest) < 5:
        longest.append(stall(durable_backend, tmp_path / str(len(longest))))
    print(f"{durable_backend}: longest stall of the loop {min(longest):.1f} ms")
    assert min(longest) <= STALL, longest


def test_a_commit_on_the_loop_itself_is_caught(tmp_path: Path) -> None:
    require("lmdb")
    assert stall("lmdb", tmp_path / "0", "inline") >= DELAY


def test_a_sync_that_keeps_the_interpreter_is_caught(tmp_path: Path) -> None:
    require("rocksdb")
    assert stall("rocksdb", tmp_path / "0", bug="syncs within the write") >= DELAY
