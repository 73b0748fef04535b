"""Logs in SQLite, through SQLAlchemy.

Theory of operation
-------------------
One kept connection does everything. Statements are SQLAlchemy Core expressions, compiled once for the
dialect and then run on the driver's cursor: compiling, and SQLAlchemy's own bookkeeping a statement,
would cost more than the write itself. Transactions are begun by hand (``BEGIN IMMEDIATE``), because the
driver's own idea of when one begins is not ours.

SQLite acknowledges a commit when its write-ahead log is synced, and only with ``synchronous=FULL``; that
and ``journal_mode=WAL`` are read back after they were set. After a crash the log's content may be in the
kernel's cache and not on disk, so an opening checkpoints it into the database file, which writes it
anew and syncs it, before anything is served.

The connection holds SQLite's exclusive lock: nobody else may write, and without sharing there is no
shared-memory file whose state could differ from the disk's.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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
from mosaik.storage.directory import sync_directory
from mosaik.storage.engine import Change
from mosaik.storage.plugin import EnginePlugin, Layout, Place, Schema

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.sql.expression import BindParameter, ClauseElement

__all__ = ["SqliteEngine", "SqliteOptions", "sqlite"]

_CAPABILITIES: Final = frozenset(Capability)
#: Bytes; rows of many entries cost a tenth less than with SQLite's own choice, 4096.
_PAGE_SIZE: Final = 8192
#: Pages in the write-ahead log after which it is written back: 4 MiB, which an opening has to read.
_CHECKPOINT: Final = 512
_SYNCHRONOUS: Final = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
_SHOWN: Final = ("locking_mode", "page_size", "wal_autocheckpoint")
#: SQLite integers are signed; indices beyond this cannot be asked for.
_LAST: Final = (1 << 63) - 1


class SqliteOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a ``sqlite://`` URL.

    Attributes:
        sync: what an acknowledgement survives: ``full`` or ``os``.
    """

    sync: SyncMode = SyncMode.FULL


class _Statement:
    """A statement compiled for a dialect, run on the driver's cursor."""

    __slots__ = ("_names", "_text")

    def __init__(self, statement: ClauseElement, connection: Connection) -> None:
        from sqlalchemy.sql.compiler import SQLCompiler

        compiled = statement.compile(dialect=connection.dialect)
        assert isinstance(compiled, SQLCompiler)  # what a dialect makes of a query
        self._text: str = str(compiled)
        # A literal in the expression, such as a limit, is a parameter that has its value already.
        fixed: Mapping[str, Any] = compiled.params  # pyright: ignore[reportUnknownMemberType]
        self._names = [(name, fixed[name]) for name in compiled.positiontup or ()]

    def run(self, cursor: sqlite3.Cursor, values: Mapping[str, Any]) -> sqlite3.Cursor:
        return cursor.execute(self._text, [values.get(name, own) for name, own in self._names])


class _Statements:
    """All that the engine ever says."""

    def __init__(self, connection: Connection) -> None:
        from sqlalchemy import bindparam, delete, func, insert, select

        from mosaik.storage.schema import meta, rows

        def compiled(statement: ClauseElement) -> _Statement:
            return _Statement(statement, connection)

        log: BindParameter[bytes] = bindparam("log_")
        first: BindParameter[int] = bindparam("first_")
        last: BindParameter[int] = bindparam("last_")
        of_log = rows.c.log == log
        floor = (
            select(func.coalesce(func.max(rows.c.first), first))
            .where(of_log, rows.c.first <= first)
            .scalar_subquery()
        )
        self.put_row = compiled(insert(rows).prefix_with("OR REPLACE"))
        self.put_meta = compiled(insert(meta).prefix_with("OR REPLACE"))
        self.delete_meta = compiled(delete(meta).where(meta.c.log == log))
        self.delete_rows = compiled(delete(rows).where(of_log, rows.c.first.between(first, last)))
        self.logs = compiled(select(meta.c.log))
        self.meta = compiled(select(meta.c.record).where(meta.c.log == log))
        self.rows = compiled(
            select(rows.c.first, rows.c.entries)
            .where(of_log, rows.c.first >= floor)
            .order_by(rows.c.first)
        )
        self.last_row = compiled(
            select(rows.c.first, rows.c.entries)
            .where(of_log)
            .order_by(rows.c.first.desc())
            .limit(1)
        )


class SqliteEngine:
    """Implements `Engine`."""

    def __init__(self, path: Path, options: SqliteOptions, url: str) -> None:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import StaticPool

        from mosaik.storage import schema

        self._url = url
        self._path = path
        self._sync = options.sync
        self._open = True
        _create(path, url)
        _write_anew(path.with_name(path.name + "-wal"))
        self._engine = create_engine(
            "sqlite+pysqlite://", creator=lambda: _connect_driver(path), poolclass=StaticPool
        )
        try:
            with self._mapped():
                self._connection = self._engine.connect()
                driver = self._connection.connection.driver_connection
                assert isinstance(driver, sqlite3.Connection)  # what pysqlite is
                self._driver = driver
                self._cursor = driver.cursor()
                self._configure()
                self._cursor.execute("BEGIN IMMEDIATE")
                schema.ensure(self._connection, url)
                self._cursor.execute("COMMIT")
            sync_directory(path.parent)
            self._statements = _Statements(self._connection)
        except BaseException:
            self.close()
            raise

    def _configure(self) -> None:
        """Sets what durability rests on, and believes only what is read back."""
        run = self._cursor.execute
        wanted = "FULL" if self._sync is SyncMode.FULL else "NORMAL"
        run(f"PRAGMA page_size={_PAGE_SIZE}")  # of a new file; an old one keeps its own
        run("PRAGMA locking_mode=EXCLUSIVE")
        mode = run("PRAGMA journal_mode=WAL").fetchone()[0]
        run(f"PRAGMA synchronous={wanted}")
        run(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
        run("PRAGMA secure_delete=OFF")  # some distributions overwrite what is deleted with zeros
        level = _SYNCHRONOUS[run("PRAGMA synchronous").fetchone()[0]]
        if mode != "wal" or level != wanted:
            raise StorageUnavailable(
                f"SQLite gives journal_mode={mode}, synchronous={level} where WAL and {wanted} were "
                "asked for; choose a local file system",
                url=self._url,
            )

    @contextmanager
    def _mapped(self) -> Generator[None]:
        """The one seam at which SQLite's errors become ours."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            cause = error.__cause__ if isinstance(error.__cause__, sqlite3.Error) else error
            if not isinstance(cause, sqlite3.Error):
                raise
            raise self._translate(cause) from error

    def _translate(self, error: sqlite3.Error) -> StorageError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return CorruptEntry(0, f"SQLite reports damage: {error}", url=self._url)
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StorageLocked("another program has the database open", url=self._url)
        if code == sqlite3.SQLITE_FULL:
            return StorageFull("the disk is full", url=self._url)
        return StorageUnavailable(f"SQLite: {error}", url=self._url)

    def settle(self) -> None:
        """Checkpoints the write-ahead log: its content is written into the database file and synced."""
        with self._mapped():
            busy, pages, done = self._cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StorageLocked(
                "the write-ahead log could not be written back, because somebody is reading it",
                url=self._url,
            )
        if pages != done:
            raise StorageUnavailable(
                f"only {done} of {pages} pages of the write-ahead log could be written back",
                url=self._url,
            )

    def logs(self) -> list[bytes]:
        with self._mapped():
            return [row[0] for row in self._statements.logs.run(self._cursor, {}).fetchall()]

    def meta(self, log: bytes) -> bytes | None:
        with self._mapped():
            row = self._statements.meta.run(self._cursor, {"log_": log}).fetchone()
        return row[0] if row is not None else None

    def rows(self, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size = 0
        values = {"log_": log, "first_": min(first, _LAST)}
        with self._mapped():
            cursor = self._statements.rows.run(self._driver.cursor(), values)
            try:
                for start, blob in cursor:
                    if found and (start > last or size >= limit):
                        break
                    found.append((start, blob))
                    size += len(blob)
            finally:
                cursor.close()
        return found

    def last_row(self, log: bytes) -> tuple[int, bytes] | None:
        with self._mapped():
            row = self._statements.last_row.run(self._cursor, {"log_": log}).fetchone()
        return (row[0], row[1]) if row is not None else None

    def commit(self, changes: Sequence[Change]) -> None:
        cursor = self._cursor
        cursor.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                self._apply(cursor, change)
            cursor.execute("COMMIT")
        except sqlite3.Error as error:
            # A full disk leaves the frames written so far without the last one, which commits them, and
            # they are overwritten by whoever comes next. (Frames after it, to fill a sector, would
            # change that: see `_connect_driver`.) Every other failure, of a sync above all, leaves open
            # what the disk holds.
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            if self._driver.in_transaction:
                cursor.execute("ROLLBACK")
            if full:
                raise self._translate(error) from error
            raise

    def _apply(self, cursor: sqlite3.Cursor, change: Change) -> None:
        say = self._statements
        log = change.log
        if change.drop:
            say.delete_rows.run(cursor, {"log_": log, "first_": 0, "last_": _LAST})
        if change.delete_from is not None and change.delete_from <= _LAST:
            values = {"log_": log, "first_": change.delete_from, "last_": _LAST}
            say.delete_rows.run(cursor, values)
        if change.delete_below:
            values = {"log_": log, "first_": 0, "last_": min(change.delete_below - 1, _LAST)}
            say.delete_rows.run(cursor, values)
        for first, blob in change.rows:
            say.put_row.run(cursor, {"log": log, "first": first, "entries": blob})
        if change.meta:
            say.put_meta.run(cursor, {"log": log, "record": change.meta})
        elif change.meta is not None:
            say.delete_meta.run(cursor, {"log_": log})

    def describe(self) -> Description:
        with self._mapped():
            mode, level = self._pragma("journal_mode"), _SYNCHRONOUS[self._pragma("synchronous")]
            shown = {name: str(self._pragma(name)) for name in _SHOWN}
        full = mode == "wal" and level in {"FULL", "EXTRA"}
        return Description(
            url=self._url,
            engine=f"SQLite {sqlite3.sqlite_version}",
            sync=SyncMode.FULL if full else SyncMode.OS,
            capabilities=_CAPABILITIES if full else _CAPABILITIES - {Capability.POWER_SAFE},
            settings={
                "journal_mode": str(mode),
                "synchronous": level,
                **shown,
            },
        )

    def _pragma(self, name: str) -> Any:
        return self._cursor.execute(f"PRAGMA {name}").fetchone()[0]

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        if hasattr(self, "_cursor"):
            # It may hold on to a statement that failed, and until that is gone SQLite would keep the
            # database open and locked behind the closed connection.
            self._cursor.close()
        # Closing the last connection checkpoints the write-ahead log and removes it.
        if hasattr(self, "_connection"):
            self._connection.close()
        self._engine.dispose()


def _connect_driver(path: Path) -> sqlite3.Connection:
    # psow: the file system does not damage bytes beside those it writes, so that the frame that commits
    # is the last one written. Usually built in; a full disk is told from a commit by it.
    return sqlite3.connect(
        f"{path.as_uri()}?psow=1",
        uri=True,
        isolation_level=None,
        # The writer thread is not the one that opened the store; never two at a time.
        check_same_thread=False,
        timeout=0.0,
    )


def _create(path: Path, url: str) -> None:
    """Makes the file, so that it and what SQLite puts beside it are its owner's alone."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StorageUnavailable(
            f"{path} cannot be written: {error.strerror}; make it writable by this user, or name another",
            url=url,
        ) from error


def _write_anew(log: Path) -> None:
    """Writes a log's bytes over themselves, so that they are on the disk for certain.

    After a sync that failed the kernel takes pages for written that are not, and no sync writes those.
    """
    try:
        descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        at = 0
        while block := os.pread(descriptor, 1 << 20, at):
            at += os.pwrite(descriptor, block, at)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _connect(place: Place, options: SqliteOptions) -> SqliteEngine:
    if place.path is None:
        raise ConfigError("an SQLite store needs a file")
    return SqliteEngine(place.path, options, place.url.text())


def _schema(place: Place, _: SqliteOptions) -> Schema:
    """Whatever lies there is read without the engine, whose opening would migrate it."""
    from mosaik.storage import schema

    if place.path is None:
        raise ConfigError("an SQLite store needs a file")
    with closing(_connect_driver(place.path)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            row = None  # no such table
    return Schema(row[0] if row else "", schema.REVISIONS[-1])


sqlite: Final = EnginePlugin(
    "sqlite",
    SqliteOptions,
    _connect,
    layout=Layout.FILE,
    capabilities=_CAPABILITIES,
    drivers=("sqlalchemy", "alembic"),
    install="pip install 'mosaik-raft[sql]'",
    suffix=".db",
    schema=_schema,
)
