"""Rule 1 at the kernel's door: what a commit syncs, and what it does not wait for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.storage.stores import place_of, require
from tests.storage.strace import Trace, needs_strace, traced

pytestmark = needs_strace

SIZE = 8
COMMITS = 4


@cache
def run(backend: str, query: str = "", bug: str = "") -> tuple[Path, Trace]:
    """Where a process made a store and committed to it, below a directory that it made, and its calls."""
    with TemporaryDirectory() as scratch:
        directory = Path(scratch).resolve() / "new" / "directory"
        arguments = ("append", backend, str(directory), str(COMMITS), str(SIZE), query)
        said, trace = traced(Path(scratch, "report"), *arguments, bug=bug)
    assert f"ack {COMMITS * SIZE}" in said
    return place_of(backend, directory), trace


def parts(trace: Trace) -> list[Trace]:
    """What was done between the beginning of each commit and its acknowledgement."""
    ends = [number * SIZE for number in range(1, COMMITS + 1)]
    return [trace.between(f"begin {end}", f"ack {end}") for end in ends]


def commits_are_synced(store: Path, trace: Trace) -> None:
    for part in parts(trace):
        assert any(call.writes_to(store) for call in part)
        # One sync, that is, since each costs as much as all the rest.
        assert len([call for call in part if call.is_sync]) == 1
        assert trace.unsynced(part, store) == []


def test_a_commit_is_synced_before_it_is_acknowledged(durable_backend: str) -> None:
    commits_are_synced(*run(durable_backend))


def test_a_store_that_syncs_nothing_is_caught() -> None:
    require("lmdb")
    store, trace = run("lmdb", bug="syncs nothing")
    with pytest.raises(AssertionError):
        commits_are_synced(store, trace)


def test_a_write_after_the_sync_is_caught(durable_backend: str) -> None:
    """Planted into the trace, since no engine can be made to do it: the sync came first."""
    store, sound = run(durable_backend)
    trace = Trace(sound)
    begin, end = trace.position(f"begin {SIZE}"), trace.position(f"ack {SIZE}")
    part = trace[begin + 1 : end]
    trace[begin + 1 : end] = sorted(part, key=lambda call: not call.is_sync)
    with pytest.raises(AssertionError):
        commits_are_synced(store, trace)


def test_with_sync_os_nothing_waits_for_the_disk(durable_backend: str) -> None:
    store, trace = run(durable_backend, "sync=os")
    for part in parts(trace):
        assert not any(call.is_sync for call in part)
        assert trace.unsynced(part, store)


def names_are_synced(store: Path, trace: Trace) -> None:
    new = store.parents[1]
    before = Trace(trace[: trace.position(f"ack {SIZE}")])
    made = {call.made for call in before if call.made is not None}
    assert new in made
    assert any(path.suffix == ".watermark" for path in made)
    assert before.unsynced_names(new.parent) == set()


def test_a_new_store_has_its_name_before_it_acknowledges(durable_backend: str) -> None:
    names_are_synced(*run(durable_backend))


def test_a_directory_that_is_not_synced_is_caught() -> None:
    require("sqlite")
    store, trace = run("sqlite", bug="forgets directories")
    with pytest.raises(AssertionError):
        names_are_synced(store, trace)
