"""Logs in LMDB: a memory-mapped B-tree with one writer and no log of its own.

Theory of operation
-------------------
Two named databases share one environment: ``rows`` under ``log ‖ big-endian first index``, and ``meta``
under the log's key. A commit is one LMDB transaction: LMDB writes the new pages, syncs them, and then
writes its meta page synchronously; until that page is there the old state is. A transaction begins,
writes and commits within one call, because LMDB binds it to its thread.

The file is mapped, and its map has a size. When it is full the transaction is aborted, nothing of it was
written, the map is doubled while no transaction is open, and the batch is tried again, up to
``max_map_size``. The file itself only grows as far as pages were used; it never shrinks.

A file that was cut short would kill the process: the kernel answers a read of mapped pages that the file
does not have with a signal. An opening lengthens it first, with zeros, which are then found to be damage.
Other damage, to the pages that the tree is made of, can still end the process, since LMDB trusts them;
`examine_storage` walks them in Python, without LMDB, and names what it finds.

The bundled engine is pinned to 0.9: later file formats are not compatible with it, and silently
choosing another one would make a store unreadable to the version that wrote it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from mmap import PAGESIZE
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from mosaik.primitives.errors import ConfigError, CorruptEntry, StorageFull, StorageUnavailable
from mosaik.storage.contract import Capability, Description, SyncMode
from mosaik.storage.directory import sync_directory
from mosaik.storage.engine import Change
from mosaik.storage.plugin import EnginePlugin, Place
from mosaik.storage.url import Size

if TYPE_CHECKING:
    import lmdb

__all__ = ["LmdbEngine", "LmdbOptions", "plugin"]

_CAPABILITIES: Final = frozenset(Capability)
#: The engine that writes the 0.9 file format, in the numbering of ``lmdb.open(lib_version=...)``.
_ENGINE_0_9: Final = 0
_OPENED: Final = b"mosaik-opened"
#: Bytes that a transaction writes beside its rows, at most, by a rough guess.
_TREE_PAGES: Final = 1 << 18
#: LMDB takes the system's pages for its own, up to this size.
_LARGEST_PAGE: Final = 1 << 15


class LmdbOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of an ``lmdb://`` URL.

    Attributes:
        sync: what an acknowledgement survives: ``full`` or ``os``.
        map_size: the map's size at first; it grows by itself.
        max_map_size: beyond this the store is full.
    """

    sync: SyncMode = SyncMode.FULL
    map_size: Size = Size(1 << 28)
    max_map_size: Size = Size(1 << 40)


class LmdbEngine:
    """Implements `Engine`."""

    def __init__(self, path: Path, options: LmdbOptions, url: str) -> None:
        import lmdb

        if not 1 << 16 <= options.map_size <= options.max_map_size:
            raise ConfigError(
                f"map_size={options.map_size} must lie between 64KiB and max_map_size="
                f"{options.max_map_size}"
            )
        self._lmdb = lmdb
        self._url = url
        self._path = path
        self._sync = options.sync
        self._max_map_size = options.max_map_size
        with self._mapped():
            self._environment = self._open(options)
            try:
                self._lengthen()
                self._rows = self._environment.open_db(b"rows")
                self._meta = self._environment.open_db(b"meta")
                # LMDB never syncs the directory in which it made its files.
                sync_directory(path)
            except BaseException:
                self._environment.close()
                raise

    def _open(self, options: LmdbOptions) -> lmdb.Environment:
        try:
            return self._connect(options)
        except self._lmdb.InvalidError:
            # The power failed while the file was made: there is nothing behind its first two pages, and
            # they are not whole. Had there ever been more, the watermark would know of it.
            data = self._path / "data.mdb"
            if data.stat().st_size > 2 * min(PAGESIZE, _LARGEST_PAGE):
                raise
            data.unlink()
            return self._connect(options)

    def _connect(self, options: LmdbOptions) -> lmdb.Environment:
        return self._lmdb.open(
            str(self._path),
            map_size=options.map_size,
            max_dbs=2,
            sync=options.sync is SyncMode.FULL,
            metasync=True,
            readahead=False,  # a log is read in order, and the map is shared with the page cache
            meminit=False,
            lib_version=_ENGINE_0_9,
            mode=0o600,
        )

    def _lengthen(self) -> None:
        """Gives the file all pages that it says are in use.

        A shorter one need not be damaged: LMDB leaves out pages at the end that it took and gave back.
        """
        size = (self._environment.info()["last_pgno"] + 1) * self._environment.stat()["psize"]
        with (self._path / "data.mdb").open("r+b") as file:
            if file.seek(0, os.SEEK_END) < size:
                file.truncate(size)

    @contextmanager
    def _mapped(self, *, opening: bool = True) -> Generator[None]:
        """The one seam at which LMDB's errors become ours."""
        try:
            yield
        except (self._lmdb.CorruptedError, self._lmdb.PageNotFoundError) as error:
            raise CorruptEntry(0, f"LMDB reports damage: {error}", url=self._url) from error
        except self._lmdb.Error as error:
            if not opening:
                raise
            raise StorageUnavailable(
                f"LMDB cannot open the store: {error}", url=self._url
            ) from error

    def settle(self) -> None:
        """Syncs all pages, and writes a meta page of our own over whichever is not known to be durable."""
        with self._mapped():
            self._environment.sync(True)
            with self._environment.begin(write=True, db=self._meta) as transaction:
                count = int.from_bytes(transaction.get(_OPENED, b""), "big") + 1
                transaction.put(_OPENED, count.to_bytes(8, "big"))
            self._environment.sync(True)

    def logs(self) -> list[bytes]:
        with self._mapped(), self._environment.begin(db=self._meta) as transaction:
            keys = list(transaction.cursor().iternext(keys=True, values=False))
        return [key for key in keys if key != _OPENED]

    def meta(self, log: bytes) -> bytes | None:
        with self._mapped(), self._environment.begin(db=self._meta) as transaction:
            return transaction.get(log)

    def rows(self, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size = 0
        with self._mapped(), self._environment.begin(db=self._rows) as transaction:
            cursor = transaction.cursor()
            at = _key(log, first)
            here = cursor.set_range(at)
            if not here or cursor.key() != at:
                # The row that holds `first` starts before it, unless there is none such.
                before = cursor.prev() if here else cursor.last()
                here = (before and cursor.key().startswith(log)) or cursor.set_range(at)
            while here and cursor.key().startswith(log):
                start = _index(cursor.key())
                if found and (start > last or size >= limit):
                    break
                blob = cursor.value()
                found.append((start, blob))
                size += len(blob)
                here = cursor.next()
        return found

    def last_row(self, log: bytes) -> tuple[int, bytes] | None:
        with self._mapped(), self._environment.begin(db=self._rows) as transaction:
            cursor = transaction.cursor()
            here = cursor.set_range(_key(log, (1 << 64) - 1))
            if here and cursor.key().startswith(log):
                return _index(cursor.key()), cursor.value()
            here = cursor.prev() if here else cursor.last()
            if here and cursor.key().startswith(log):
                return _index(cursor.key()), cursor.value()
        return None

    def commit(self, changes: Sequence[Change]) -> None:
        while True:
            try:
                with self._mapped(opening=False):
                    self._commit(changes)
                return
            except self._lmdb.MapFullError:
                self._grow()
            except self._lmdb.Error as error:
                if self._found_no_room(error, changes) and self._is_sound():
                    raise StorageFull("the disk is full", url=self._url) from error
                raise

    def _found_no_room(self, error: lmdb.Error, changes: Sequence[Change]) -> bool:
        """Whether the pages of a transaction did not fit on the disk.

        LMDB reports a write of which only the beginning did as an input/output error. Should it have
        been a sync after all, nothing is lost either: none of these pages counts yet, and who tries
        again writes them anew.
        """
        if error.code != errno.EIO:
            return error.code in {errno.ENOSPC, errno.EDQUOT}
        space = os.statvfs(self._path)
        size = sum([len(blob) for change in changes for _, blob in change.rows])
        return space.f_bavail * space.f_frsize < size + _TREE_PAGES

    def _is_sound(self) -> bool:
        """Whether a failed commit came to nothing.

        New pages are written before the meta page that makes them count, and none of them replaces one
        in use. After a failure at the meta page itself LMDB refuses every transaction.
        """
        try:
            self._environment.begin(write=True).abort()
        except self._lmdb.Error:
            return False
        return True

    def _commit(self, changes: Sequence[Change]) -> None:
        with self._environment.begin(write=True) as transaction:
            for change in changes:
                self._apply(transaction, change)

    def _apply(self, transaction: lmdb.Transaction[bytes], change: Change) -> None:
        log = change.log
        if change.drop:
            self._delete(transaction, log, 0, 1 << 64)
        if change.delete_from is not None:
            self._delete(transaction, log, change.delete_from, 1 << 64)
        if change.delete_below is not None:
            self._delete(transaction, log, 0, change.delete_below)
        for first, blob in change.rows:
            transaction.put(_key(log, first), blob, db=self._rows)
        if change.meta:
            transaction.put(log, change.meta, db=self._meta)
        elif change.meta is not None:
            transaction.delete(log, db=self._meta)

    def _delete(
        self, transaction: lmdb.Transaction[bytes], log: bytes, start: int, stop: int
    ) -> None:
        cursor = transaction.cursor(db=self._rows)
        here = cursor.set_range(_key(log, start))
        while here:
            key = cursor.key()
            if not key.startswith(log) or _index(key) >= stop:
                return
            here = cursor.delete()  # moves on to the next key

    def _grow(self) -> None:
        size = int(self._environment.info()["map_size"])
        if size >= self._max_map_size:
            raise StorageFull(
                f"the map has its largest size, {size} bytes; raise max_map_size", url=self._url
            )
        self._environment.set_mapsize(min(2 * size, self._max_map_size))

    def describe(self) -> Description:
        flags = self._environment.flags()
        full = bool(flags["sync"]) and bool(flags["metasync"])
        version = ".".join(str(part) for part in self._environment.lib_version()[:3])
        return Description(
            url=self._url,
            engine=f"LMDB {version}",
            sync=SyncMode.FULL if full else SyncMode.OS,
            capabilities=_CAPABILITIES if full else _CAPABILITIES - {Capability.POWER_SAFE},
            settings={
                "sync": str(bool(flags["sync"])),
                "metasync": str(bool(flags["metasync"])),
                "map_size": str(self._environment.info()["map_size"]),
                "max_map_size": str(int(self._max_map_size)),
            },
        )

    def close(self) -> None:
        try:
            if self._sync is SyncMode.OS:
                # What the process leaves behind is then as durable as a clean close says.
                with self._mapped(opening=False):
                    self._environment.sync(True)
        finally:
            self._environment.close()


def _key(log: bytes, index: int) -> bytes:
    return log + min(index, (1 << 64) - 1).to_bytes(8, "big")


def _index(key: bytes) -> int:
    return int.from_bytes(key[-8:], "big")


def _connect(place: Place, options: LmdbOptions) -> LmdbEngine:
    if place.path is None:
        raise ConfigError("an LMDB store needs a directory")
    return LmdbEngine(place.path, options, place.url.text())


def _inspect(place: Place) -> None:
    walker = import_module("lmdb.verify")
    try:
        found: list[str] = walker.verify(str(place.path))
    except walker.VerifyError as error:
        found = [str(error)]
    if found:
        more = f", and {len(found) - 3} more" if len(found) > 3 else ""
        raise CorruptEntry(
            0,
            f"LMDB's pages are damaged: {'; '.join(found[:3])}{more}; restore the store from a backup, or "
            f"remove it and let this node join as a new replica",
            url=place.url.text(),
        )


plugin: Final = EnginePlugin(
    "lmdb",
    LmdbOptions,
    _connect,
    inspect=_inspect,
    capabilities=_CAPABILITIES,
    drivers=("lmdb",),
    install="pip install 'mosaik-raft[lmdb]'",
)
