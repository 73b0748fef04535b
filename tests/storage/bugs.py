"""Planted bugs, by name. A child that is given one has it, and the test of the rule has to notice.

They are patches of this process's copy of the library; nothing that is shipped knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mosaik.primitives.errors import StorageError
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


def _acknowledges_from_memory(name: str, _: Path) -> None:
    """Commits are kept in memory, and written when the store is closed."""
    engine = _engine(name)
    commit, close = engine.commit, engine.close
    held: list[Sequence[Change]] = []

    def hold(self: Any, changes: Sequence[Change]) -> None:
        held.append(changes)

    def write(self: Any) -> None:
        while held:
            commit(self, held.pop(0))
        close(self)

    engine.commit, engine.close = hold, write


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


def _goes_on_after_failures(name: str, _: Path) -> None:
    """A failed commit is reported, and the store is used as if nothing had happened."""
    from mosaik.storage.environment import EngineEnvironment

    patched: Any = EngineEnvironment
    patched._poisoned_by = _nothing


def _does_not_settle(name: str, place: Path) -> None:
    """What an opening finds in the kernel's cache is taken for what the disk holds."""
    _engine(name).settle = _nothing
    if name != "rocksdb":
        return
    import rocksdict

    from mosaik.storage import rocksdb

    # It writes anew what it replays, unless its options, which have no setter for this, forbid it.
    newest = max(place.glob("OPTIONS-*"), key=lambda path: int(path.name.split("-")[1]))
    own = newest.read_text()
    newest.write_text(
        own.replace("avoid_flush_during_recovery=false", "avoid_flush_during_recovery=true")
    )
    forbids, _ = rocksdict.Options.load_latest(str(place))
    patched: Any = rocksdb

    def options(_: object) -> Any:
        return forbids

    patched._options = options


def _ignores_a_failed_settling(name: str, _: Path) -> None:
    """An opening goes on although what it found could not be made durable."""
    engine = _engine(name)
    settle = engine.settle

    def ignores(self: Any) -> None:
        with suppress(StorageError):
            settle(self)

    engine.settle = ignores


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


def _has_no_watermark(name: str, _: Path) -> None:
    """The log is believed to be as long as the engine says."""
    from mosaik.storage import recover

    patched: Any = recover
    patched._check_mark = _nothing


_BUGS: dict[str, Callable[[str, Path], None]] = {
    "acknowledges from memory": _acknowledges_from_memory,
    "syncs nothing": _syncs_nothing,
    "forgets directories": _forgets_directories,
    "hides failures": _hides_failures,
    "goes on after failures": _goes_on_after_failures,
    "does not settle": _does_not_settle,
    "ignores a failed settling": _ignores_a_failed_settling,
    "keeps a statement": _keeps_a_statement,
    "syncs within the write": _syncs_within_the_write,
    "has no watermark": _has_no_watermark,
}


def plant(bug: str, name: str, place: Path) -> None:
    """Gives this process a bug with a backend, whose store lies there; none if it has no name."""
    if bug:
        _BUGS[bug](name, place)
