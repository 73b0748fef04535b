"""What every durable engine does: it equals a table in memory, syncs, is killed, is full, fails and stalls.

The planted bugs are subclasses and patches of the real engines, each seen to fail the same check.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mosaik.primitives.errors import StorageFull, StoragePoisoned
from mosaik.storage import Capability, Change, LogIdentity, SyncMode, open_storage
from mosaik.storage.engine import Engine
from tests.storage.engines import ENGINES, LOG, OTHER_LOG, opened, store_path
from tests.storage.support import PEER, end_of, entries
from tests.storage.tracing import SYNCS, Call, needs_strace, traced

# -- equal to a table in memory -------------------------------------------------------------------------


class Model:
    """What an engine is: a table, changed as its contract says."""

    def __init__(self) -> None:
        self.tables: dict[bytes, dict[int, bytes]] = {}
        self.metas: dict[bytes, bytes] = {}

    def commit(self, changes: Sequence[Change]) -> None:
        for change in changes:
            table = {} if change.drop else dict(self.tables.get(change.log, {}))
            start, stop = change.delete_below or 0, change.delete_from
            table = {
                first: blob
                for first, blob in table.items()
                if first >= start and (stop is None or first < stop)
            }
            table.update(change.rows)
            self.tables[change.log] = table
            if change.meta:
                self.metas[change.log] = change.meta
            elif change.meta is not None:
                self.metas.pop(change.log, None)

    def rows(self, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        table = self.tables.get(log, {})
        start = max((at for at in table if at <= first), default=first)
        found: list[tuple[int, bytes]] = []
        for at in sorted(at for at in table if at >= start):
            if found and (at > last or sum(len(blob) for _, blob in found) >= limit):
                break
            found.append((at, table[at]))
        return found


indices = st.integers(1, 30) | st.sampled_from([255, 256, 65_536, (1 << 63) - 2])
blobs = st.binary(min_size=1, max_size=40) | st.integers(3_000, 9_000).map(lambda size: b"x" * size)
changes = st.builds(
    lambda **parts: Change(**parts),
    log=st.sampled_from([LOG, OTHER_LOG]),
    drop=st.integers(0, 9).map(lambda number: number == 0),
    delete_from=st.none() | indices,
    delete_below=st.none() | indices,
    rows=st.lists(st.tuples(indices, blobs), max_size=4),
    meta=st.none() | st.just(b"") | st.binary(min_size=1, max_size=300),
)
commits = st.lists(changes, min_size=1, max_size=2, unique_by=lambda change: change.log)
reopen = st.just("reopen")
histories = st.lists(commits | commits | reopen, min_size=1, max_size=10)
questions = st.lists(st.tuples(indices, indices, st.sampled_from([1, 100, 1 << 20])), max_size=4)

Plant = Callable[[Engine], None]


def equals_the_model(name: str, history: list[Any], asked: list[Any], plant: Plant | None) -> None:
    model = Model()
    with tempfile.TemporaryDirectory() as directory:
        engine = ENGINES[name](Path(directory), SyncMode.OS)
        try:
            for step in history:
                if step == "reopen":
                    engine.close()
                    engine = ENGINES[name](Path(directory), SyncMode.OS)
                    engine.settle()
                    continue
                if plant is not None:
                    plant(engine)
                engine.commit(step)
                model.commit(step)
                compare(engine, model, asked)
            compare(engine, model, asked)
        finally:
            engine.close()


def compare(engine: Engine, model: Model, asked: list[Any]) -> None:
    assert sorted(engine.logs()) == sorted(model.metas)
    for log in (LOG, OTHER_LOG):
        assert engine.meta(log) == model.metas.get(log)
        table = model.tables.get(log, {})
        assert engine.last_row(log) == (max(table.items()) if table else None)
        for first, last, limit in [*asked, (1, (1 << 63) - 1, 1 << 30)]:
            assert engine.rows(log, first, last, limit) == model.rows(log, first, last, limit)


run_of = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@run_of
@given(history=histories, asked=questions)
def test_it_equals_a_table(durable_backend: str, history: list[Any], asked: list[Any]) -> None:
    equals_the_model(durable_backend, history, asked, None)


def forgets_to_prune(engine: Engine) -> None:
    """Planted bug: rows below a bound stay."""
    _amend(engine, lambda change: msgspec.structs.replace(change, delete_below=None))


def forgets_the_meta(engine: Engine) -> None:
    """Planted bug: a meta that is to be removed stays."""
    _amend(engine, lambda change: msgspec.structs.replace(change, meta=change.meta or None))


def cuts_one_too_few(engine: Engine) -> None:
    """Planted bug: the row at the cut stays."""
    _amend(
        engine,
        lambda change: (
            change
            if change.delete_from is None
            else msgspec.structs.replace(change, delete_from=change.delete_from + 1)
        ),
    )


def _amend(engine: Any, amend: Callable[[Change], Change]) -> None:
    def commit(changes: Sequence[Change]) -> None:
        type(engine).commit(engine, [amend(change) for change in changes])

    engine.commit = commit


@pytest.mark.parametrize("plant", [forgets_to_prune, forgets_the_meta, cuts_one_too_few])
def test_a_planted_difference_is_seen(durable_backend: str, plant: Plant) -> None:
    @settings(run_of, max_examples=200)
    @given(history=histories, asked=questions)
    def check(history: list[Any], asked: list[Any]) -> None:
        equals_the_model(durable_backend, history, asked, plant)

    with pytest.raises(AssertionError):
        check()


# -- synced ---------------------------------------------------------------------------------------------

WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2")
WATCHED = (*SYNCS, *WRITES)


def commits_are_synced(engine: Engine, watched: Callable[[], Any]) -> None:
    """One sync a commit, after the commit's bytes were handed to the kernel."""
    for change in (
        Change(log=LOG, rows=[(2, b"row" * 50)]),
        Change(log=LOG, rows=[(3, b"x" * 60_000), (4, b"y" * 60_000)], meta=b"meta"),
        Change(log=LOG, delete_from=3),
        Change(log=LOG, delete_below=2),
    ):
        with watched() as calls:
            engine.commit([change])
        names = [call.name for call in calls if _is_of_engine(call)]
        assert sum(name in SYNCS for name in names) == 1, names
        assert any(name in WRITES for name in names[: _first_sync(names)]), names


def _is_of_engine(call: Call) -> bool:
    # What a thread writes to a pipe or an event descriptor to wake another one is no data.
    return not (call.name == "write" and call.rest.endswith(("= 8", "= 1")))


def _first_sync(names: list[str]) -> int:
    return next(at for at, name in enumerate(names) if name in SYNCS)


@contextmanager
def _watched() -> Generator[list[Call]]:
    with traced(*WATCHED) as calls:
        yield calls


@needs_strace
def test_each_commit_is_synced_once_before_it_returns(durable_backend: str, tmp_path: Path) -> None:
    with opened(durable_backend, tmp_path) as engine:
        engine.commit([Change(log=LOG, rows=[(1, b"first")], meta=b"meta")])
        commits_are_synced(engine, _watched)


@needs_strace
def test_a_commit_that_is_not_synced_is_seen(durable_backend: str, tmp_path: Path) -> None:
    with (
        opened(durable_backend, tmp_path, SyncMode.OS) as engine,
        pytest.raises(AssertionError),
    ):
        commits_are_synced(engine, _watched)


def test_it_says_what_it_gives(durable_backend: str, tmp_path: Path) -> None:
    for sync in (SyncMode.FULL, SyncMode.OS):
        with opened(durable_backend, tmp_path, sync) as engine:
            description = engine.describe()
        assert description.sync is sync
        assert (Capability.POWER_SAFE in description.capabilities) is (sync is SyncMode.FULL)
        assert description.settings
        assert any(character.isdigit() for character in description.engine), "a version"


# -- a sync that fails ----------------------------------------------------------------------------------

IDENTITY = LogIdentity(group=b"g" * 32, peer=PEER, key=b"k" * 32)


def a_failed_sync_poisons(name: str, path: Path) -> None:
    url = f"{name}://{store_path(name, path)}"
    environment = open_storage(url, peer=PEER)
    log = environment.log(IDENTITY)
    run = entries(6)
    log.append(run[:3])
    try:
        with traced("fdatasync", inject="fdatasync:error=EIO:when=1") as calls:
            with pytest.raises(StoragePoisoned):
                log.append(run[3:])
        assert any("INJECTED" in call.rest for call in calls)
        with pytest.raises(StoragePoisoned):
            log.get(1)
    finally:
        environment.close()
    # The same process opens it again; what it shows is the state before or after, never between.
    environment = open_storage(url, peer=PEER)
    log = environment.log(IDENTITY)
    assert log.get_range(0, 9) in (run[:3], run)
    log.append(entries(2, log.tail))
    environment.close()


@needs_strace
def test_a_failed_sync_poisons_and_the_store_opens_again(
    durable_backend: str, tmp_path: Path
) -> None:
    a_failed_sync_poisons(durable_backend, tmp_path)


@needs_strace
def test_an_engine_that_hides_the_failure_is_seen(
    durable_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mosaik.storage.lmdb import LmdbEngine
    from mosaik.storage.rocksdb import RocksdbEngine
    from mosaik.storage.sql import SqliteEngine

    classes: dict[str, type[Any]] = {
        "sqlite": SqliteEngine,
        "lmdb": LmdbEngine,
        "rocksdb": RocksdbEngine,
    }
    engine = classes[durable_backend]
    commit = engine.commit

    def hides(self: Engine, changes: Sequence[Change]) -> None:
        try:
            commit(self, changes)
        except Exception:
            pass

    monkeypatch.setattr(engine, "commit", hides)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        a_failed_sync_poisons(durable_backend, tmp_path)


# -- a slow sync ----------------------------------------------------------------------------------------

DELAY = 0.2
STALL = 0.010


def longest_stall(engine: Engine, first: int) -> float:
    """How long, at most, this thread stood still while another one committed to a slow disk."""
    durations: list[float] = []

    def work() -> None:
        for number in range(3):
            started = time.monotonic()
            engine.commit([Change(log=LOG, rows=[(first + number, b"x" * 5_000)])])
            durations.append(time.monotonic() - started)

    writer = threading.Thread(target=work)
    worst, last = 0.0, time.monotonic()
    writer.start()
    while writer.is_alive():
        writer.join(0.001)  # as a selector would, it lets go of the interpreter
        now = time.monotonic()
        worst, last = max(worst, now - last), now
    assert len(durations) == 3
    assert min(durations) >= DELAY, "the syncs were not slowed down, so this shows nothing"
    return worst


def _stalls(engine: Engine) -> Generator[float]:
    # Another program on this machine may take the core for longer, now and then.
    for window in range(4):
        with traced("fdatasync", inject=f"fdatasync:delay_enter={DELAY * 1000:.0f}ms"):
            yield longest_stall(engine, 1 + 10 * window)


@needs_strace
def test_other_threads_run_while_the_disk_syncs(durable_backend: str, tmp_path: Path) -> None:
    with opened(durable_backend, tmp_path) as engine:
        stalls: list[float] = []
        for stall in _stalls(engine):
            stalls.append(stall)
            if stall <= STALL:
                break
        assert min(stalls) <= STALL, stalls


@needs_strace
def test_a_sync_that_holds_the_interpreter_is_seen(tmp_path: Path) -> None:
    with opened("rocksdb", tmp_path) as engine:
        engine._write_options.sync = True  # type: ignore[attr-defined]  # the planted bug
        assert min(_stalls(engine)) >= DELAY


# -- full -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A file system of 96 MiB."""
    import subprocess

    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_is_refused_and_can_be_retried(durable_backend: str, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    # On a file system in memory every page is there when it is allocated.
    ballast.write_bytes(bytes(45 << 20))
    store = small_disk / "store"
    store.mkdir()
    row = os.urandom(60_000)
    with opened(durable_backend, store) as engine:
        written = 0
        with pytest.raises(StorageFull):
            for number in range(2_000):
                engine.commit([Change(log=LOG, rows=[(1 + number, row)], meta=b"%d" % number)])
                written = number + 1
        assert written > 10
        for _ in range(3):
            with pytest.raises(StorageFull):
                engine.commit([Change(log=LOG, rows=[(1 + written, row * 2)], meta=b"no")])
        last = engine.last_row(LOG)
        assert last == (written, row)
        assert engine.meta(LOG) == b"%d" % (written - 1)
        ballast.unlink()
        engine.commit([Change(log=LOG, rows=[(1 + written, b"again")], meta=b"again")])
    with opened(durable_backend, store) as engine:
        assert engine.last_row(LOG) == (1 + written, b"again")
        assert engine.meta(LOG) == b"again"
        assert len(engine.rows(LOG, 1, 1 + written, 1 << 30)) == 1 + written
