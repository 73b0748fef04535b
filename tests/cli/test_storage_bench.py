"""``mosaik storage bench``: what is measured, what is advised, and that nothing is left of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mosaik.cli import main
from mosaik.cli.storage_bench import Measured, _quantile, advice
from mosaik.storage import shared
from mosaik.storage.measure import BareFile
from tests.cli.stores import made, said
from tests.storage.stores import require

Capsys = pytest.CaptureFixture[str]


def test_every_durable_backend_is_measured_beside_a_file(tmp_path: Path, capsys: Capsys) -> None:
    require("sqlite")
    require("lmdb")
    arguments = ["storage", "bench", "--directory", str(tmp_path), "--seconds", "0.02"]
    found = said(capsys, *arguments)
    rows = found["measured"]
    stores = [each["store"] for each in rows if each["entries"] == 64]
    assert stores[0] == "bare file"
    assert {"sqlite", "lmdb"} <= set(stores)
    assert "memory" not in stores
    assert {each["entries"] for each in rows} == {1, 64, 1024}
    for each in rows:
        assert each["directory"] == str(tmp_path)
        assert each["appends"] >= 5
        assert 0 < each["p50_ms"] <= each["p99_ms"]
        assert each["power_safe"]
        assert (each["of_file"] == 1) is (each["store"] == "bare file")
    assert found["advice"].endswith(".")
    assert not list(tmp_path.iterdir())
    assert not shared._table, "every store is closed"


def test_a_url_s_options_count_and_its_store_is_not_touched(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.iterdir())
    slow = f"slow+{url}delay=30ms&sync=os"
    found = said(capsys, "storage", "bench", slow, "--seconds", "0.01")
    (row,) = [r for r in found["measured"] if r["store"] == slow and r["entries"] == 1]
    assert row["p50_ms"] > 30
    assert row["directory"] == str(tmp_path)
    assert not row["power_safe"]
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.iterdir()) == before


def test_the_time_is_bounded_and_shared(tmp_path: Path, capsys: Capsys) -> None:
    require("sqlite")
    url = f"slow+sqlite://{tmp_path}/x.db?delay=10ms"
    rows = said(capsys, "storage", "bench", url, "--seconds", "0.2")["measured"]
    appends = {each["entries"]: each["appends"] for each in rows if each["store"] == url}
    assert 5 <= appends[1] <= 20 + 5  # one more in each turn than fits


def test_people_get_a_table_of_80_columns(tmp_path: Path, capsys: Capsys) -> None:
    require("lmdb")
    url = f"lmdb://{tmp_path}/{'deep' * 10}/store"
    here = ["--directory", str(tmp_path), "--seconds", "0.01"]
    assert main(["storage", "bench", url, "memory", *here]) == 0
    *table, empty, sentence = capsys.readouterr().out.splitlines()
    assert table[0].split()[:3] == ["STORE", "ENTRIES", "APPENDS"]
    assert len(table) == 1 + 3 * 3
    assert max(map(len, table)) <= 80
    assert empty == ""
    assert sentence.endswith(".")


def test_ctrl_c_leaves_nothing_behind(
    tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("sqlite")

    @contextmanager
    def interrupting(*_: object) -> Generator[Callable[[int], None]]:
        yield lambda _: signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("mosaik.cli.storage_bench.counting", interrupting)
    arguments = ["storage", "bench", "sqlite", "--directory", str(tmp_path), "--seconds", "0.01"]
    assert main(arguments) == 130
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_measured_says_why(tmp_path: Path, capsys: Capsys) -> None:
    assert main(["storage", "bench", "slqite"]) == 1
    assert "did you mean sqlite" in capsys.readouterr().err
    assert main(["storage", "bench", "lmdb://host/x"]) == 1
    assert "is a server's" in capsys.readouterr().err
    assert main(["storage", "bench", "lmdb:///proc/self/x"]) == 1
    assert "nothing can be written in /proc/self" in capsys.readouterr().err


def test_the_bare_file_syncs_each_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    write, sync = os.write, os.fdatasync

    def write_(descriptor: int, blob: bytes) -> int:
        done.append("write")
        return write(descriptor, blob)

    def sync_(descriptor: int) -> None:
        sync(descriptor)
        done.append("sync")

    monkeypatch.setattr(os, "write", write_)
    monkeypatch.setattr(os, "fdatasync", sync_)
    file = BareFile(tmp_path / "file")
    file.append(b"abc")
    file.append(b"def")
    file.close()
    assert done == ["write", "sync"] * 2
    assert (tmp_path / "file").read_bytes() == b"abcdef"


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(each) for each in range(100, 0, -1)]
    assert (_quantile(values, 0.5), _quantile(values, 0.99)) == (50, 99)
    assert (_quantile([3, 1, 2], 0.5), _quantile([3, 1, 2], 0.99), _quantile([7], 0.5)) == (2, 3, 7)


# -- the advice -------------------------------------------------------------------------------------


def measured(store: str, times: Sequence[float], *, safe: bool = True, at: str = "/d") -> Any:
    return [
        Measured(
            store=store,
            directory=at,
            entries=size,
            appends=100,
            p50_ms=each * 0.1,
            p99_ms=each,
            of_file=each,
            power_safe=safe,
        )
        for size, each in zip((1, 64, 1024), times, strict=True)
    ]


FILE = measured("bare file", (1, 1, 1))


def test_the_least_cost_fits_best() -> None:
    found = [*FILE, *measured("a", (4, 1, 2)), *measured("b", (3, 3, 3))]
    assert advice(found) == (
        "a fits this disk best: an append takes 2.0 times as long as one to a bare file (b 3.0)."
    )


def test_equals_are_named_together() -> None:
    found = [*FILE, *measured("a", (2, 2, 2)), *measured("b", (2.1, 2.1, 2.1))]
    assert advice(found).startswith("a and b fit this disk best: an append takes 2.0 times")


def test_what_forgets_is_not_advised() -> None:
    found = [*FILE, *measured("a", (1, 1, 1), safe=False), *measured("b", (3, 3, 3))]
    assert advice(found).startswith("b fits")
    assert advice([*FILE, *measured("a", (1, 1, 1), safe=False)]).startswith("None of these")


def test_a_disk_that_is_none_is_named() -> None:
    quick = measured("bare file", (0.01, 0.01, 0.01), at="/shm")
    assert "which no disk does" in advice([*quick, *measured("a", (1, 1, 1), at="/shm")])
    found = [*quick, *FILE, *measured("a", (1, 1, 1), at="/shm"), *measured("b", (3, 3, 3))]
    assert advice(found).startswith("b fits")
