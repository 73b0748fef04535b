"""The three durable engines, opened without the framework."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mosaik.storage import SyncMode
from mosaik.storage.engine import Engine

__all__ = ["ENGINES", "LOG", "OTHER_LOG", "OpenEngine", "opened"]

LOG: Final = b"a" * 32
OTHER_LOG: Final = b"b" * 32

OpenEngine = Callable[[Path, SyncMode], Engine]


def _sqlite(path: Path, sync: SyncMode) -> Engine:
    from mosaik.storage.sql import SqliteEngine, SqliteOptions

    return SqliteEngine(path / "store.db", SqliteOptions(sync=sync), "test")


def _lmdb(path: Path, sync: SyncMode) -> Engine:
    from mosaik.storage.lmdb import LmdbEngine, LmdbOptions

    return LmdbEngine(path, LmdbOptions(sync=sync), "test")


def _rocksdb(path: Path, sync: SyncMode) -> Engine:
    from mosaik.storage.rocksdb import RocksdbEngine, RocksdbOptions

    return RocksdbEngine(path, RocksdbOptions(sync=sync), "test")


ENGINES: Final[dict[str, OpenEngine]] = {"sqlite": _sqlite, "lmdb": _lmdb, "rocksdb": _rocksdb}


@contextmanager
def opened(name: str, path: Path, sync: SyncMode = SyncMode.FULL) -> Generator[Engine]:
    """An engine, settled as the framework does it."""
    engine = ENGINES[name](path, sync)
    try:
        engine.settle()
        yield engine
    finally:
        engine.close()
