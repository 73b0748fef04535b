"""Rule 6 with real engines: the process whose sync failed opens the store again.

What another process finds then, the kit's rules look at.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.storage.stores import place_of
from tests.storage.strace import Trace, needs_strace, traced
from tests.storage.support import entries

pytestmark = needs_strace

SIZE = 8
#: The commit that fails, and what was acknowledged before it.
FAILS = 3
BEFORE, AFTER = (FAILS - 1) * SIZE, FAILS * SIZE


@cache
def syncs_before(backend: str, line: str) -> int:
    """How many syncs a process makes, in the thread that commits, until it says something."""
    with TemporaryDirectory() as scratch:
        command = ("append", backend, f"{scratch}/store", str(FAILS), str(SIZE))
        _, trace = traced(Path(scratch, "report"), *command)
    thread = next(call.thread for call in trace if call.says("ready 0"))
    calls = trace[: trace.position(line)]
    return len([call for call in calls if call.name == "fdatasync" and call.thread == thread])


def fail(backend: str, scratch: Path, *, tell: str, bug: str = "") -> tuple[list[str], Trace]:
    """A process whose third commit cannot be synced, and which is then told something."""
    number = syncs_before(backend, f"begin {AFTER}") + 1
    command = ("append", backend, str(scratch / "store"), str(FAILS), str(SIZE))
    said, trace = traced(
        scratch / "report",
        *command,
        bug=bug,
        tell=tell,
        inject=f"fdatasync:error=EIO:when={number}",
    )
    assert f"ack {BEFORE}" in said
    return said, trace


def the_same_process_opens_it_again(backend: str, scratch: Path, bug: str = "") -> None:
    """What the new opening shows is the state before the batch or after it, whole and on the disk."""
    said, trace = fail(backend, scratch, tell="reopen\nagain\n", bug=bug)
    assert "poisoned" in said
    shown = next((line for line in said if line.startswith("reopened")), "none")
    assert shown in {f"reopened {BEFORE}", f"reopened {AFTER}"}
    end = int(shown.split()[1]) + SIZE
    assert said[-2:] == [f"ack {end}", "closed"]
    part, store = trace.between("poisoned", shown), place_of(backend, scratch / "store")
    assert trace.unsynced(part, store) == []
    if shown == f"reopened {AFTER}":
        batch = sum(len(entry.sealed) for entry in entries(AFTER)[BEFORE:])
        assert part.content_written(store) >= batch
    said, _ = traced(scratch / "report", "show", backend, str(scratch / "store"))
    assert said == ["opening", f"opened {end}", "same"]


def test_the_same_process_opens_it_again(durable_backend: str, tmp_path: Path) -> None:
    the_same_process_opens_it_again(durable_backend, tmp_path)


def test_a_statement_that_is_not_let_go_is_caught(tmp_path: Path) -> None:
    """SQLite keeps a connection open and locked, closed or not, while a statement of it is held."""
    with pytest.raises(AssertionError):
        the_same_process_opens_it_again("sqlite", tmp_path, "keeps a statement")
