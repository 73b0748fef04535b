"""What only this store does: frames that are torn, damaged, or written anew."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mosaik_storage_file import FileEngine, FileOptions

from mosaik.primitives.errors import CorruptEntry, StorageFormatTooNew, StorageFull
from mosaik.storage import Change, Size

LOG, OTHER = b"a" * 32, b"b" * 32
ALWAYS = FileOptions(compact_at=1, compact_above=Size(0))
Open = Callable[..., FileEngine]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.log"


@pytest.fixture
def open_(path: Path) -> Iterator[Open]:
    opened: list[FileEngine] = []

    def opener(options: FileOptions | None = None) -> FileEngine:
        engine = FileEngine(path, options or FileOptions(), "file")
        engine.settle()
        opened.append(engine)
        return engine

    yield opener
    for engine in opened:
        engine.close()


def put(engine: FileEngine, first: int, blob: bytes, **more: Any) -> None:
    engine.commit([Change(log=LOG, rows=[(first, blob)], **more)])


def held(engine: FileEngine) -> list[tuple[int, bytes]]:
    return engine.rows(LOG, 0, 1 << 62, 1 << 62)


def test_what_was_committed_is_found_again(open_: Open) -> None:
    engine = open_()
    put(engine, 1, b"one", meta=b"meta")
    put(engine, 5, b"five")
    put(engine, 9, b"nine", delete_from=5, delete_below=1)
    engine.commit([Change(log=OTHER, meta=b"x"), Change(log=LOG, delete_below=1)])
    engine.close()
    engine = open_()
    assert held(engine) == [(1, b"one"), (9, b"nine")]
    assert engine.last_row(LOG) == (9, b"nine")
    assert (engine.meta(LOG), sorted(engine.logs())) == (b"meta", [LOG, OTHER])
    engine.commit([Change(log=LOG, drop=True, meta=b"")])
    assert (held(engine), engine.last_row(LOG), engine.meta(LOG)) == ([], None, None)
    assert engine.logs() == [OTHER]


def test_rows_begin_with_the_one_that_may_hold_the_first_index(open_: Open) -> None:
    engine = open_()
    for first in (10, 20, 30):
        put(engine, first, b"0123456789")
    assert [first for first, _ in engine.rows(LOG, 25, 25, 100)] == [20]
    assert [first for first, _ in engine.rows(LOG, 5, 20, 100)] == [10, 20]
    assert [first for first, _ in engine.rows(LOG, 10, 99, 15)] == [10, 20]
    assert [first for first, _ in engine.rows(LOG, 99, 99, 0)] == [30]


@pytest.mark.parametrize("cut", [1, 10, 24, 30])
def test_a_torn_last_frame_is_dropped(open_: Open, path: Path, cut: int) -> None:
    engine = open_()
    put(engine, 1, b"one")
    whole = path.read_bytes()
    put(engine, 2, b"two")
    torn = path.read_bytes()[:-cut]
    engine.close()
    path.write_bytes(torn)
    engine = open_()
    assert held(engine) == [(1, b"one")]
    put(engine, 2, b"other")
    engine.close()
    assert path.read_bytes().startswith(whole)
    assert held(open_()) == [(1, b"one"), (2, b"other")]


def test_any_damage_before_the_last_frame_is_refused(open_: Open, path: Path) -> None:
    engine = open_()
    put(engine, 1, b"one")
    put(engine, 2, b"two")
    engine.close()
    content = path.read_bytes()
    last = content.rindex(content[24:32])  # the mark of the frame that closing wrote
    for at in range(last):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises((CorruptEntry, StorageFormatTooNew)):
            open_()
        with pytest.raises((CorruptEntry, StorageFormatTooNew)):
            open_()  # it was not mended


def test_a_frame_in_a_row_is_no_frame(open_: Open, path: Path, tmp_path: Path) -> None:
    """A torn frame that holds a whole file of another store is still torn."""
    other = FileEngine(tmp_path / "other.log", FileOptions(), "other")
    for first in range(9):
        put(other, first, b"x")
    other.close()
    engine = open_()
    put(engine, 1, b"one")
    put(engine, 2, (tmp_path / "other.log").read_bytes())
    torn = path.read_bytes()[:-1]
    engine.close()
    path.write_bytes(torn)
    assert held(open_()) == [(1, b"one")]


def test_a_later_format_is_named(open_: Open, path: Path) -> None:
    open_().close()
    path.write_bytes(path.read_bytes().replace(b"mosaikf1", b"mosaikf2"))
    with pytest.raises(StorageFormatTooNew, match="mosaikf2"):
        open_()


def test_what_is_dead_is_left_behind(open_: Open, path: Path) -> None:
    engine = open_(FileOptions(compact_above=Size(10_000)))
    engine.commit([Change(log=OTHER, meta=b"other", rows=[(n, b"y") for n in range(40)])])
    for first in range(200):
        put(engine, first, b"x" * 1000, delete_below=first - 1, meta=b"m%d" % first)
    assert path.stat().st_size < 13_000
    assert [first for first, _ in held(engine)] == [198, 199]
    engine.close()
    engine = open_()
    assert [first for first, _ in held(engine)] == [198, 199]
    assert engine.meta(LOG) == b"m199"
    assert engine.rows(OTHER, 0, 99, 999) == [(n, b"y") for n in range(40)]


def test_a_write_for_which_there_is_no_space_leaves_nothing(open_: Open, path: Path) -> None:
    engine = open_()
    put(engine, 1, b"one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        with pytest.raises(StorageFull):
            put(engine, 2, b"x" * 1000)
        put(engine, 2, b"2")  # there is room for a little
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    put(engine, 3, b"x" * 1000)
    engine.close()
    assert [first for first, _ in held(open_())] == [1, 2, 3]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_new_file_that_cannot_be_written_harms_nothing(
    open_: Open, path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    engine = open_(ALWAYS)
    put(engine, 1, b"one")

    def fail(descriptor: int) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        if error == errno.ENOSPC:
            put(engine, 2, b"two")
        else:
            with pytest.raises(OSError, match="Input/output"):  # it poisons the store
                put(engine, 2, b"two")
    assert not path.with_name("store.log.new").exists()
    engine.close()
    assert held(open_())[:1] == [(1, b"one")]
    assert len(held(open_())) == (2 if error == errno.ENOSPC else 1)
