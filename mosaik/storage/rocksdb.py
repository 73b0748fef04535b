"""Logs in RocksDB: a write-ahead log first, sorted files later.

Theory of operation
-------------------
One column family, with rows under ``r ‖ log ‖ big-endian first index`` and metas under ``m ‖ log``. A commit
is one write batch, written without a sync and followed by ``flush_wal(sync=True)``: as durable as a
synced write, but the sync happens with the interpreter unlocked.

RocksDB's default recovery mode opens with whatever precedes the first damage and says nothing. Only a
torn tail is tolerated here; damage before it refuses to open, and a log that nevertheless comes back
shorter than it was acknowledged is refused by the framework's watermark.

The write buffer is small. It bounds the write-ahead log, which an opening replays after a kill, writes
into a file of its own and syncs before it hands anything out.

A disk that fills up stops RocksDB for good, in a write or in a flush behind our back, with part of a batch
in the log. So a commit is refused before it begins when little room is left.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mosaik.primitives.errors import (
    ConfigError,
    CorruptEntry,
    StorageError,
    StorageFull,
    StorageLocked,
    StorageUnavailable,
)
from mosaik.storage.contract import Capability, Description, SyncMode
from mosaik.storage.engine import Change
from mosaik.storage.plugin import EnginePlugin, Place
from mosaik.storage.rocksdb_records import check_records, forget_settings
from mosaik.storage.url import Size

__all__ = ["RocksdbEngine", "RocksdbOptions", "classify", "plugin"]

T = TypeVar("T")
_CAPABILITIES: Final = frozenset(Capability)
_STALLED: Final = "Result incomplete: Write stall"
#: A write that RocksDB refuses while it compacts is tried again after this long, in seconds …
_STALL_PAUSE: Final = 0.005
#: … and given up after this long.
_LONGEST_STALL: Final = 60.0
#: Write buffers in memory: one is filled while the others wait for their flush.
_BUFFERS: Final = 4
#: Room that a commit leaves for flushes and compactions, in write buffers.
_RESERVE: Final = 2 * _BUFFERS
#: The free room is asked for once in so many bytes written.
_ASK_EVERY: Final = 1 << 20
_FORMAT: Final = b"f"
_FORMAT_1: Final = b"mosaik 1"
#: RocksDB's own account of its settings, of which `describe` shows these.
_SETTINGS: Final = (
    "rocksdb_version",
    "wal_recovery_mode",
    "avoid_flush_during_recovery",
    "max_total_wal_size",
    "write_buffer_size",
)
_SETTINGS_FILE: Final = re.compile(r"OPTIONS-\d+")
_RECOVERY_MODE: Final = "kTolerateCorruptedTailRecords"


class RocksdbOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a ``rocksdb://`` URL.

    Attributes:
        sync: what an acknowledgement survives: ``full`` or ``os``.
        write_buffer: bytes gathered in memory and in the write-ahead log before a file is written.
    """

    sync: SyncMode = SyncMode.FULL
    write_buffer: Size = Size(4 << 20)


def _damaged(message: str, url: str) -> StorageError:
    return CorruptEntry(0, f"RocksDB reports damage: {message}", url=url)


def _full(message: str, url: str) -> StorageError:
    return StorageFull(f"RocksDB: {message}", url=url)


def _locked(message: str, url: str) -> StorageError:
    return StorageLocked(f"another program has the database open: {message}", url=url)


def _unavailable(message: str, url: str) -> StorageError:
    return StorageUnavailable(f"RocksDB: {message}", url=url)


#: rocksdict raises plain ``Exception``; what happened stands at the beginning of the message. The first
#: that fits counts.
_PREFIXES: Final[Sequence[tuple[str, Callable[[str, str], StorageError]]]] = (
    ("Corruption: ", _damaged),
    ("IO error: No space left on device", _full),
    ("IO error: lock ", _locked),
    ("IO error: While lock file", _locked),
    ("IO error: ", _unavailable),
    ("Invalid argument: ", _unavailable),
    ("Not implemented: ", _unavailable),
)


def classify(error: Exception, url: str) -> StorageError | None:
    """Which of our errors one of RocksDB's means; None for one that is not known."""
    message = str(error)
    for prefix, make in _PREFIXES:
        if message.startswith(prefix):
            return make(message, url)
    return None


class RocksdbEngine:
    """Implements `Engine`."""

    def __init__(self, path: Path, options: RocksdbOptions, url: str) -> None:
        import rocksdict

        if not 1 << 16 <= options.write_buffer <= 1 << 30:
            raise ConfigError(
                f"write_buffer={options.write_buffer} must lie between 64KiB and 1GiB"
            )
        self._rocksdict = rocksdict
        self._url = url
        self._path = path
        self._sync = options.sync
        self._reserve = _RESERVE * options.write_buffer
        self._room = 0
        self._write_options = rocksdict.WriteOptions()
        # A stall inside a write would stop the whole interpreter; a refusal can be waited out.
        self._write_options.no_slowdown = True
        with self._mapped():
            # Options are always given: opened without, it would rewrite the mode it keeps in a file.
            self._db = rocksdict.Rdict(str(path), _options(options))
            try:
                self._stamp()
                self._settings = self._read_settings()
            except BaseException:
                self._db.close()
                raise

    @contextmanager
    def _mapped(self) -> Generator[None]:
        """The one seam at which RocksDB's errors become ours."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # rocksdict raises nothing more precise
            known = classify(error, self._url)
            if known is None:
                raise
            raise known from error

    def _stamp(self) -> None:
        stamp = self._db.get(_FORMAT)
        if stamp is None:
            if any(True for _ in self._db.keys()):  # noqa: SIM118  # it is no dictionary
                raise StorageUnavailable(
                    "this RocksDB directory is not a store of mosaik", url=self._url
                )
            self._db.put(_FORMAT, _FORMAT_1, self._write_options)
            self._db.flush_wal(True)
        elif stamp != _FORMAT_1:
            raise StorageUnavailable(
                "this RocksDB directory is of another format of mosaik", url=self._url
            )

    def _read_settings(self) -> Mapping[str, str]:
        """What RocksDB wrote down about itself when it opened, not what was asked of it."""
        # A crash leaves unfinished ones behind, under other names.
        found = [path for path in self._path.iterdir() if _SETTINGS_FILE.fullmatch(path.name)]
        newest = max(found, key=lambda path: int(path.name.split("-")[1]))
        lines = newest.read_text(encoding="utf-8").splitlines()
        pairs = [line.strip().split("=", 1) for line in lines if "=" in line]
        said = {pair[0]: pair[1] for pair in pairs if pair[0] in _SETTINGS}
        if said.get("wal_recovery_mode") != _RECOVERY_MODE:
            raise StorageUnavailable(
                f"RocksDB recovers by {said.get('wal_recovery_mode')} where {_RECOVERY_MODE} was asked "
                "for; another version of rocksdict may understand it",
                url=self._url,
            )
        return said

    def settle(self) -> None:
        """Writes what was replayed into a file of its own: its pages in the old log may exist only in
        the kernel's cache. Opening has done so already, unless that was switched off."""
        with self._mapped():
            self._db.flush(True)

    def logs(self) -> list[bytes]:
        return self._reading(_logs)

    def meta(self, log: bytes) -> bytes | None:
        with self._mapped():
            found: bytes | None = self._db.get(b"m" + log)
            return found

    def rows(self, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        return self._reading(lambda at: _rows(at, log, first, last, limit))

    def last_row(self, log: bytes) -> tuple[int, bytes] | None:
        return self._reading(lambda at: _last_row(at, log))

    def _reading(self, read: Callable[[Any], T]) -> T:
        """Reads with an iterator, which must not outlive this call, not even in a traceback: while it
        lives, closing leaves the database open and locked."""
        with self._mapped():
            at = self._db.iter()
            try:
                found = read(at)
                # One that met damage just ends, so its status is asked before anyone believes it.
                at.status()
            finally:
                del at
            return found

    def commit(self, changes: Sequence[Change]) -> None:
        self._require_room(sum([len(blob) for change in changes for _, blob in change.rows]))
        refused_since: float | None = None
        while True:
            try:
                self._db.write(self._batch(changes), self._write_options)
                break
            except Exception as error:
                if not str(error).startswith(_STALLED):
                    raise
                # Refused, not failed: RocksDB would have had to wait for a flush or a compaction.
                now = time.monotonic()
                refused_since = refused_since or now
                if now - refused_since > _LONGEST_STALL:
                    raise StorageFull(
                        f"RocksDB has refused writes for {_LONGEST_STALL:.0f} s because its files lag "
                        "behind; a faster disk, or less work on this one, would help",
                        url=self._url,
                    ) from error
            # On the store's own thread, and nothing else to wait on is offered.
            time.sleep(_STALL_PAUSE)
        if self._sync is SyncMode.FULL:
            self._db.flush_wal(True)

    def _require_room(self, size: int) -> None:
        if size > self._room:
            space = os.statvfs(self._path)
            free = space.f_bavail * space.f_frsize
            if free < self._reserve + size:
                self._room = 0
                raise StorageFull(
                    f"{free} bytes are free on the disk, and RocksDB needs {self._reserve + size}",
                    url=self._url,
                )
            self._room = min(free - self._reserve, max(size, _ASK_EVERY))
        self._room -= size

    def _batch(self, changes: Sequence[Change]) -> Any:
        batch = self._rocksdict.WriteBatch(raw_mode=True)
        for change in changes:
            log = change.log
            if change.drop:
                batch.delete_range(_key(log, 0), _end(log))
            if change.delete_from is not None:
                batch.delete_range(_key(log, change.delete_from), _end(log))
            if change.delete_below is not None:
                batch.delete_range(_key(log, 0), _key(log, change.delete_below))
            for first, blob in change.rows:
                batch.put(_key(log, first), blob)
            if change.meta:
                batch.put(b"m" + log, change.meta)
            elif change.meta is not None:
                batch.delete(b"m" + log)
        return batch

    def describe(self) -> Description:
        full = self._sync is SyncMode.FULL
        settings = dict(self._settings)
        version = settings.pop("rocksdb_version", "of unknown version")
        return Description(
            url=self._url,
            engine=f"RocksDB {version}",
            sync=self._sync,
            capabilities=_CAPABILITIES if full else _CAPABILITIES - {Capability.POWER_SAFE},
            settings={"flush_wal": "sync" if full else "none", **settings},
        )

    def close(self) -> None:
        with self._mapped():
            try:
                # Files instead of a log to replay: the next opening is fast, and reads nothing twice.
                self._db.flush(True)
            finally:
                self._db.close()


def _options(options: RocksdbOptions) -> Any:
    import rocksdict

    opts = rocksdict.Options(raw_mode=True)
    opts.create_if_missing(True)
    opts.set_wal_recovery_mode(rocksdict.DBRecoveryMode.tolerate_corrupted_tail_records())
    opts.set_write_buffer_size(options.write_buffer)
    opts.set_max_write_buffer_number(_BUFFERS)
    opts.set_max_total_wal_size(_BUFFERS * options.write_buffer)
    opts.set_compression_type(rocksdict.DBCompressionType.none())
    opts.set_keep_log_file_num(2)
    opts.set_stats_dump_period_sec(0)
    opts.set_stats_persist_period_sec(0)
    return opts


def _logs(at: Any) -> list[bytes]:
    found: list[bytes] = []
    at.seek(b"m")
    while at.valid() and (key := at.key()) < b"n":
        found.append(key[1:])
        at.next()
    return found


def _rows(at: Any, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
    prefix = b"r" + log
    found: list[tuple[int, bytes]] = []
    size = 0
    at.seek_for_prev(_key(log, first))
    if not (at.valid() and at.key().startswith(prefix)):
        at.seek(_key(log, first))
    while at.valid():
        key: bytes = at.key()
        start = _index(key)
        if not key.startswith(prefix) or (found and (start > last or size >= limit)):
            break
        blob: bytes = at.value()
        found.append((start, blob))
        size += len(blob)
        at.next()
    return found


def _last_row(at: Any, log: bytes) -> tuple[int, bytes] | None:
    at.seek_for_prev(_key(log, (1 << 64) - 1))
    if at.valid() and at.key().startswith(b"r" + log):
        return _index(at.key()), at.value()
    return None


def _key(log: bytes, index: int) -> bytes:
    return b"r" + log + min(index, (1 << 64) - 1).to_bytes(8, "big")


def _end(log: bytes) -> bytes:
    """Sorts after every row of the log and before anything else."""
    return b"r" + log + b"\xff" * 9


def _index(key: bytes) -> int:
    return int.from_bytes(key[-8:], "big")


def _connect(place: Place, options: RocksdbOptions) -> RocksdbEngine:
    if place.path is None:
        raise ConfigError("a RocksDB store needs a directory")
    check_records(place.path, place.url.text())
    forget_settings(place.path)
    return RocksdbEngine(place.path, options, place.url.text())


def _inspect(place: Place) -> None:
    if place.path is not None:
        check_records(place.path, place.url.text())


plugin: Final = EnginePlugin(
    "rocksdb",
    RocksdbOptions,
    _connect,
    capabilities=_CAPABILITIES,
    drivers=("rocksdict",),
    install="pip install 'mosaik-raft[rocksdb]'",
    inspect=_inspect,
)
