"""Planted bugs, by name. A child that is given one has it, and the test of the rule has to notice.

They are patches of this process's copy of the library; nothing that is shipped knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mosaik.storage import Change, Description, SyncMode

__all__ = ["plant"]


def _engine(name: str) -> Any:
    if name == "sqlite":
        from mosaik.storage.sql import SqliteEngine

        return SqliteEngine
    if name == "lmdb":
        from mosaik.storage.lmdb import LmdbEngine

        return LmdbEngine
    from mosaik.storage.rocksdb import RocksdbEngine

    return RocksdbEngine


def _nothing(*_: object) -> None:
    """What is done in the place of what is forgotten."""


def _syncs_nothing(name: str, _: Path) -> None:
    """The engine runs without syncs, and says that it runs with them."""
    engine = _engine(name)
    init, describe = engine.__init__, engine.describe

    def without(self: Any, path: Any, options: Any, url: str) -> None:
        init(self, path, replace(options, sync=SyncMode.OS), url)

    def boasts(self: Any) -> Description:
        honest: Description = describe(self)
        return replace(honest, sync=SyncMode.FULL)

    engine.__init__, engine.describe = without, boasts


def _forgets_directories(name: str, _: Path) -> None:
    """Files are synced, and the directories that name them are not."""
    from mosaik.storage import directory, watermark

    modules: list[Any] = [directory, watermark]
    if name == "sqlite":
        from mosaik.storage import sql

        modules.append(sql)
    elif name == "lmdb":
        from mosaik.storage import lmdb

        modules.append(lmdb)
    for module in modules:
        module.sync_directory = _nothing


def _hides_failures(name: str, _: Path) -> None:
    """A commit that failed counts as done."""
    engine = _engine(name)
    commit = engine.commit

    def hides(self: Any, changes: Sequence[Change]) -> None:
        with suppress(Exception):
            commit(self, changes)

    engine.commit = hides


def _keeps_a_statement(name: str, _: Path) -> None:
    """A connection is closed while one of its statements is held, as a cursor holds one that failed."""
    engine = _engine(name)
    close = engine.close

    def closes(self: Any) -> None:
        if self._open:
            self.held = self._driver.execute("SELECT 1 UNION SELECT 2")
        close(self)

    engine.close = closes


def _syncs_within_the_write(name: str, _: Path) -> None:
    """RocksDB's driver keeps the interpreter to itself during a write, and so during its sync."""
    engine = _engine(name)
    init = engine.__init__

    def syncs(self: Any, *arguments: Any) -> None:
        init(self, *arguments)
        self._write_options.sync = True

    engine.__init__ = syncs


_BUGS: dict[str, Callable[[str, Path], None]] = {
    "syncs nothing": _syncs_nothing,
    "forgets directories": _forgets_directories,
    "hides failures": _hides_failures,
    "keeps a statement": _keeps_a_statement,
    "syncs within the write": _syncs_within_the_write,
}


def plant(bug: str, name: str, place: Path) -> None:
    """Gives this process a bug with a backend, whose store lies there; none if it has no name."""
    if bug:
        _BUGS[bug](name, place)
