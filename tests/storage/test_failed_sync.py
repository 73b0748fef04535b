"""Rule 6 with real engines: the kernel answers a sync with an input/output error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.storage.stores import child, place_of, require
from tests.storage.strace import Trace, needs_strace, traced
from tests.storage.support import entries

pytestmark = needs_strace

SIZE = 8
#: The commit that fails, and what was acknowledged before it.
FAILS = 3
BEFORE, AFTER = (FAILS - 1) * SIZE, FAILS * SIZE


def syncs_before(backend: str, scratch: Path, line: str) -> int:
    """How many syncs a process makes, in the thread that commits, until it says something."""
    command = ("append", backend, str(scratch / "sound"), str(FAILS), str(SIZE))
    _, trace = traced(scratch / "sound-report", *command)
    thread = next(call.thread for call in trace if call.says("ready 0"))
    calls = trace[: trace.position(line)]
    return len([call for call in calls if call.name == "fdatasync" and call.thread == thread])


def fail(backend: str, scratch: Path, *, tell: str, bug: str = "") -> tuple[list[str], Trace]:
    """A process whose third commit cannot be synced, and which is then told something."""
    number = syncs_before(backend, scratch, f"begin {AFTER}") + 1
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


def a_failed_sync_poisons(backend: str, scratch: Path, bug: str = "") -> None:
    said, _ = fail(backend, scratch, tell="again\n", bug=bug)
    poisoned = f"failed StoragePoisoned {BEFORE}"
    assert said[said.index(f"begin {AFTER}") :] == [
        f"begin {AFTER}",
        poisoned,
        "poisoned",
        # Nothing was wrong with the disk any more, and still nothing is acknowledged.
        f"begin {AFTER}",
        poisoned,
        "closed",
    ]


def test_a_failed_sync_poisons(durable_backend: str, tmp_path: Path) -> None:
    a_failed_sync_poisons(durable_backend, tmp_path)


@pytest.mark.parametrize("bug", ["hides failures", "goes on after failures"])
def test_a_store_that_makes_light_of_it_is_caught(
    durable_backend: str, bug: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        a_failed_sync_poisons(durable_backend, tmp_path, bug)


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


def openings(backend: str, scratch: Path, bug: str) -> Iterator[tuple[list[str], Trace]]:
    """Openings of a store that was killed, in each of which another sync fails, and the last none."""
    killed, copy = scratch / "killed", scratch / "copy"
    with child("append", backend, str(killed), "1", str(SIZE)) as writer:
        writer.until("idle")
        writer.kill()
    show = ("show", backend, str(copy))
    for call in ("fsync", "fdatasync"):
        for number in count(1):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(killed, copy)
            inject = f"{call}:error=EIO:when={number}"
            said, trace = traced(scratch / "report", *show, bug=bug, inject=inject)
            yield said, trace
            if not any(each.is_sync and each.failed for each in trace):
                break
            # The next one finds a disk that works.
            said, _ = traced(scratch / "report", *show)
            assert said == ["opening", f"opened {SIZE}", "same"]


def an_opening_is_refused_or_durable(backend: str, scratch: Path, bug: str = "") -> None:
    refused = 0
    for said, trace in openings(backend, scratch, bug):
        if said == ["opening", "refused StorageUnavailable"]:
            refused += 1
        else:
            assert said[:3] == ["opening", f"opened {SIZE}", "same"]
            part = trace.between("opening", f"opened {SIZE}")
            assert trace.unsynced(part, place_of(backend, scratch / "copy")) == []
            assert part.unsynced_names(scratch) == set()
    assert refused >= 2


def test_an_opening_whose_sync_fails_serves_nothing_that_is_not_durable(
    durable_backend: str, tmp_path: Path
) -> None:
    an_opening_is_refused_or_durable(durable_backend, tmp_path)


@pytest.mark.parametrize("backend", ["sqlite", "lmdb"])
def test_an_opening_that_serves_it_all_the_same_is_caught(backend: str, tmp_path: Path) -> None:
    """RocksDB is left out: it settles by itself while it opens."""
    require(backend)
    with pytest.raises(AssertionError, match=r"== \[\]"):
        an_opening_is_refused_or_durable(backend, tmp_path, "ignores a failed settling")
