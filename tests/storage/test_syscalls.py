"""Rules 1 and 6 at the kernel's door: what is synced before it is acknowledged, and before it is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.stores import child, place_of
from tests.storage.strace import Trace, needs_strace, traced
from tests.storage.support import entries

pytestmark = needs_strace

SIZE = 8
COMMITS = 4


def run(backend: str, scratch: Path, *query: str, bug: str = "") -> tuple[Path, Trace]:
    """Where the store is that a process makes and commits to, and that process's calls."""
    directory = scratch / "new" / "directory"
    arguments = ("append", backend, str(directory), str(COMMITS), str(SIZE), *query)
    said, trace = traced(scratch / "report", *arguments, bug=bug)
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


def test_a_commit_is_synced_before_it_is_acknowledged(durable_backend: str, tmp_path: Path) -> None:
    commits_are_synced(*run(durable_backend, tmp_path))


def test_a_store_that_syncs_nothing_is_caught(durable_backend: str, tmp_path: Path) -> None:
    store, trace = run(durable_backend, tmp_path, bug="syncs nothing")
    with pytest.raises(AssertionError):
        commits_are_synced(store, trace)


def test_a_write_after_the_sync_is_caught(durable_backend: str, tmp_path: Path) -> None:
    """Planted into the trace, since no engine can be made to do it: the sync came first."""
    store, trace = run(durable_backend, tmp_path)
    begin, end = trace.position(f"begin {SIZE}"), trace.position(f"ack {SIZE}")
    part = trace[begin + 1 : end]
    trace[begin + 1 : end] = sorted(part, key=lambda call: not call.is_sync)
    with pytest.raises(AssertionError):
        commits_are_synced(store, trace)


def test_with_sync_os_nothing_waits_for_the_disk(durable_backend: str, tmp_path: Path) -> None:
    store, trace = run(durable_backend, tmp_path, "sync=os")
    for part in parts(trace):
        assert not any(call.is_sync for call in part)
        assert trace.unsynced(part, store)


def names_are_synced(trace: Trace, above: Path) -> None:
    before = Trace(trace[: trace.position(f"ack {SIZE}")])
    made = {call.made for call in before if call.made is not None}
    assert above / "new" in made
    assert any(path.suffix == ".watermark" for path in made)
    assert before.unsynced_names(above) == set()


def test_a_new_store_has_its_name_before_it_acknowledges(
    durable_backend: str, tmp_path: Path
) -> None:
    _, trace = run(durable_backend, tmp_path)
    names_are_synced(trace, tmp_path)


def test_a_directory_that_is_not_synced_is_caught(durable_backend: str, tmp_path: Path) -> None:
    _, trace = run(durable_backend, tmp_path, bug="forgets directories")
    with pytest.raises(AssertionError):
        names_are_synced(trace, tmp_path)


def what_is_served_is_durable(backend: str, directory: Path, bug: str = "") -> None:
    """A process is killed, and its pages may be in the kernel's cache and marked clean there although
    their sync had failed. The next one writes them anew and syncs them before it serves them."""
    store = place_of(backend, directory)
    with child("append", backend, str(directory), str(COMMITS), str(SIZE)) as writer:
        writer.until("idle")
        writer.kill()
    said, trace = traced(directory / "report", "show", backend, str(directory), bug=bug)
    assert said[-1] == "same"
    part = trace.between("opening", f"opened {COMMITS * SIZE}")
    content = sum(len(entry.sealed) for entry in entries(COMMITS * SIZE))
    if backend == "lmdb":
        # Its pages were synced before the page that names them, and that one is to be written anew.
        safe = trace.synchronous()
        assert any(call.writes_to(store) and safe(call) for call in part)
    else:
        assert part.content_written(store) >= content
    assert trace.unsynced(part, store) == []


def test_what_an_opening_serves_is_durable(durable_backend: str, tmp_path: Path) -> None:
    what_is_served_is_durable(durable_backend, tmp_path)


def test_an_opening_that_does_not_settle_is_caught(durable_backend: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"assert (False|\d+ >= )"):
        what_is_served_is_durable(durable_backend, tmp_path, "does not settle")
