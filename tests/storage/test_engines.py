"""What every durable engine is: a table, changed as the seam says, whatever is asked of it.

The planted bugs amend what an engine is told; each is seen to fail the same check.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mosaik.storage import Capability, Change, Description, SyncMode
from mosaik.storage.engine import Engine
from tests.storage.engines import ENGINES, LOG, OTHER_LOG, opened

# A history that fails is shown whole, rows of kilobytes included.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


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


class Table(Model):
    """A model with the looks of an engine; it outlives its closing."""

    def settle(self) -> None:
        """There is nothing to settle."""

    def logs(self) -> list[bytes]:
        return list(self.metas)

    def meta(self, log: bytes) -> bytes | None:
        return self.metas.get(log)

    def last_row(self, log: bytes) -> tuple[int, bytes] | None:
        return max(self.tables.get(log, {}).items(), default=None)

    def describe(self) -> Description:
        return Description(
            url="table", engine="table 1", sync=SyncMode.OS, capabilities=frozenset()
        )

    def close(self) -> None:
        """It stays."""


indices = st.integers(1, 12) | st.sampled_from([255, 256, 65_536, (1 << 63) - 2])
blobs = st.binary(min_size=1, max_size=40) | st.integers(3_000, 9_000).map(lambda size: b"x" * size)
changes = st.builds(
    Change,
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

Plant = Callable[[Change], Change]


def equals_the_model(
    open_: Callable[[], Engine], history: list[Any], asked: list[Any], plant: Plant | None = None
) -> None:
    model, engine = Model(), open_()
    try:
        for step in history:
            if step == "reopen":
                engine.close()
                engine = open_()
                engine.settle()
                continue
            engine.commit([plant(change) for change in step] if plant else step)
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
    with tempfile.TemporaryDirectory() as directory:
        equals_the_model(
            lambda: ENGINES[durable_backend](Path(directory), SyncMode.OS), history, asked
        )


def forgets_to_prune(change: Change) -> Change:
    """Planted bug: rows below a bound stay."""
    return replace(change, delete_below=None)


def forgets_the_meta(change: Change) -> Change:
    """Planted bug: a meta that is to be removed stays."""
    return replace(change, meta=change.meta or None)


def cuts_one_too_few(change: Change) -> Change:
    """Planted bug: the row at the cut stays."""
    if change.delete_from is None:
        return change
    return replace(change, delete_from=change.delete_from + 1)


@pytest.mark.parametrize("plant", [forgets_to_prune, forgets_the_meta, cuts_one_too_few])
def test_a_planted_difference_is_seen(plant: Plant) -> None:
    """On a table in memory, which does in a second what the engines do in a minute."""

    # That there is one is enough; making it small takes a hundred times as long.
    @settings(run_of, max_examples=300, phases=[Phase.generate], report_multiple_bugs=False)
    @given(history=histories, asked=questions)
    def check(history: list[Any], asked: list[Any]) -> None:
        table = Table()
        equals_the_model(lambda: table, history, asked, planted)

    planted: Plant | None = None
    check()
    planted = plant
    with pytest.raises(AssertionError):
        check()


def test_it_says_what_it_gives(durable_backend: str, tmp_path: Path) -> None:
    for sync in (SyncMode.FULL, SyncMode.OS):
        with opened(durable_backend, tmp_path, sync) as engine:
            description = engine.describe()
        assert description.sync is sync
        assert (Capability.POWER_SAFE in description.capabilities) is (sync is SyncMode.FULL)
        assert description.settings
        assert any(character.isdigit() for character in description.engine), "a version"
