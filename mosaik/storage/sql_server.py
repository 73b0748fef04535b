"""Logs in a database server, through SQLAlchemy: PostgreSQL and MariaDB.

Theory of operation
-------------------
One kept connection does everything: reads stand alone, and a commit is one transaction that is begun by
hand, so that nothing but it costs more than one trip to the server. A *store* is a name within a database
(and schema); a row of ``mosaik_stores`` gives it a number, with which the keys of its logs begin. So the
nodes of a group can share one database and one URL.

Two things see to it that a store has one writer. A lock of the server's own belongs to the session and dies
with it, though not at once: the server may notice late that a client is gone, and a lost connection does
not tell whether its last COMMIT is still under way. So every opening also raises the store's *epoch*, which
waits for that transaction to end, and every transaction begins by updating the row of its own epoch. Whoever
finds that row changed has been superseded, and writes nothing.

What survives is the server's affair: its settings are read back and described. Nothing is said of standbys.
A connection lost during COMMIT leaves the outcome unknown; the store is poisoned, and what a later opening
reads is the outcome.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from mosaik.primitives.errors import (
    StorageError,
    StorageFull,
    StorageLocked,
    StoragePoisoned,
    StorageUnavailable,
)
from mosaik.storage.contract import Capability, Description, SyncMode
from mosaik.storage.engine import ROW_SIZE, Change
from mosaik.storage.server import Server, ServerOptions
from mosaik.storage.url import StorageURL

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, Connection
    from sqlalchemy.exc import SQLAlchemyError

__all__ = ["ServerEngine", "refusal"]

_logger = logging.getLogger(__name__)
#: Indices beyond this cannot be asked for.
_LAST: Final = (1 << 63) - 1
#: Rows whose lengths are looked up at a time before their content is asked for.
_PAGE: Final = 256
#: Seconds between two attempts to get a lock that a dead session may still hold.
_AGAIN: Final = 0.05


class _Statements:
    """All that the engine says to the tables of its store."""

    def __init__(self, server: Server, number: int) -> None:
        from sqlalchemy import bindparam, delete, func, select, update

        from mosaik.storage.schema import meta, rows, stores

        log: BindParameter[bytes] = bindparam("log_")
        first: BindParameter[int] = bindparam("first_")
        last: BindParameter[int] = bindparam("last_")
        of_log = rows.c.log == log
        floor = (
            select(func.coalesce(func.max(rows.c.first), first))
            .where(of_log, rows.c.first <= first)
            .scalar_subquery()
        )
        self.own = (
            update(stores)
            .where(stores.c.number == number, stores.c.epoch == bindparam("epoch_"))
            .values(epoch=stores.c.epoch)
        )
        self.put_rows = server.upsert(rows)
        self.put_meta = server.upsert(meta)
        self.delete_meta = delete(meta).where(meta.c.log == log)
        self.delete_rows = delete(rows).where(of_log, rows.c.first.between(first, last))
        self.logs = select(meta.c.log).where(meta.c.log.between(first, last))
        self.meta = select(meta.c.record).where(meta.c.log == log)
        self.lengths = (
            select(rows.c.first, func.octet_length(rows.c.entries))
            .where(of_log, rows.c.first >= floor)
            .order_by(rows.c.first)
            .limit(_PAGE)
        )
        self.rows = (
            select(rows.c.first, rows.c.entries)
            .where(of_log, rows.c.first.between(first, last))
            .order_by(rows.c.first)
        )
        self.last_row = (
            select(rows.c.first, rows.c.entries)
            .where(of_log)
            .order_by(rows.c.first.desc())
            .limit(1)
        )


class ServerEngine:
    """Implements `Engine`.

    Args:
        server: the kind of server.
        url: where it is.
        options: the URL's.
        make: makes the store when it is not there.

    Raises:
        StorageUnavailable: it cannot be reached, or there is no such store.
        StorageLocked: another session has the store open.
        StorageFormatTooNew: the tables are a newer mosaik's.
    """

    def __init__(
        self, server: Server, url: StorageURL, options: ServerOptions, *, make: bool = True
    ) -> None:
        self._server = server
        self._url = url.text()
        self._store = options.store
        self._pid = os.getpid()
        self._engine = server.connect(url, options, options.store)
        try:
            with self._mapped():
                self._connection = self._engine.connect()
                self._place = server.enter(self._connection, self._url)
                self._prepare(make, options.timeout)
                self._settings = server.settings(self._connection, self._url)
                self._lock(options.patience)
                number, self.epoch = self._begin_epoch(make)
        except BaseException:
            self.close()
            raise
        if not self._settings.power_safe:
            shown = ", ".join(f"{name}={value}" for name, value in self._settings.values.items())
            _logger.warning(
                "%s: what is acknowledged there does not survive a power failure: %s",
                self._url,
                shown,
            )
        self._prefix = number.to_bytes(4, "big")
        self._say = _Statements(server, number)

    # -- opening ------------------------------------------------------------------------------------

    def _prepare(self, make: bool, patience: float) -> None:
        """Brings the tables to the newest revision, one session at a time."""
        from mosaik.storage import schema

        if not make and not self._has_tables():
            raise StorageUnavailable("there is no store", url=self._url)
        if schema.is_current(self._connection):
            return
        name = f"mosaik\0{self._place}"
        if not self._wait_for(name, patience):
            raise StorageLocked(
                f"{self._holder(name)} is making or migrating the tables; wait for it",
                url=self._url,
            )
        with self._transaction():
            schema.ensure(self._connection, self._url)
        self._server.unlock(self._connection, name)

    def _has_tables(self) -> bool:
        from sqlalchemy import inspect

        return inspect(self._connection).has_table("mosaik_stores")

    def _lock(self, patience: float) -> None:
        """Gets the store's lock, which ends with the session."""
        name = f"mosaik\0{self._place}\0{self._store}"
        if not self._wait_for(name, patience):
            raise StorageLocked(
                f"{self._holder(name)} has store {self._store!r} open; a store has one opener at a time. "
                f"Close the other, or give this node a store of its own; if the other's machine is gone, "
                f"end its session at the server",
                url=self._url,
            )

    def _wait_for(self, name: str, patience: float) -> bool:
        """Tries to get a lock until the patience ends: a dead session may have it still."""
        deadline = time.monotonic() + patience
        while not self._server.lock(self._connection, name):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_AGAIN)  # the server tells nobody when a session ends
        return True

    def _holder(self, name: str) -> str:
        return self._server.holder(self._connection, name) or "another session"

    def _begin_epoch(self, make: bool) -> tuple[int, int]:
        """Raises the store's epoch, which waits for the last transaction of whoever had it open."""
        from sqlalchemy import insert, select, update

        from mosaik.storage.schema import stores

        named = stores.c.name == self._store
        with self._transaction():
            raised = update(stores).where(named).values(epoch=stores.c.epoch + 1)
            if not self._connection.execute(raised).rowcount:
                if not make:
                    raise StorageUnavailable("there is no store", url=self._url)
                self._connection.execute(insert(stores).values(name=self._store, epoch=1))
            found = select(stores.c.number, stores.c.epoch).where(named)
            number, epoch = self._connection.execute(found).one()
        return number, epoch

    # -- reading ------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Nothing: what a session can read, the server has made durable as its settings say, and the
        epoch waited for whatever was under way."""

    def logs(self) -> list[bytes]:
        low, high = self._prefix, self._prefix + b"\xff" * 32
        with self._mapped():
            found = self._connection.execute(self._say.logs, {"first_": low, "last_": high})
            return [bytes(row[0])[len(low) :] for row in found]

    def meta(self, log: bytes) -> bytes | None:
        with self._mapped():
            record = self._connection.execute(self._say.meta, {"log_": self._prefix + log}).scalar()
        return None if record is None else bytes(record)

    def rows(self, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        key, first = self._prefix + log, min(first, _LAST)
        with self._mapped():
            lengths = self._connection.execute(
                self._say.lengths, {"log_": key, "first_": first}
            ).all()
            begin = end = -1
            size = 0
            for start, length in lengths:
                if begin >= 0 and (start > last or size >= limit):
                    break
                begin = start if begin < 0 else begin
                end, size = start, size + length
            if begin < 0:
                return []
            values = {"log_": key, "first_": begin, "last_": end}
            found = self._connection.execute(self._say.rows, values)
            return [(start, bytes(blob)) for start, blob in found]

    def last_row(self, log: bytes) -> tuple[int, bytes] | None:
        with self._mapped():
            row = self._connection.execute(self._say.last_row, {"log_": self._prefix + log}).first()
        return None if row is None else (row[0], bytes(row[1]))

    # -- writing ------------------------------------------------------------------------------------

    @property
    def _is_lost(self) -> bool:
        return hasattr(self, "_connection") and self._connection.invalidated

    def _lost(self, why: str) -> StoragePoisoned:
        return StoragePoisoned(
            f"the connection to the server was lost{why}; open the store again", url=self._url
        )

    def commit(self, changes: Sequence[Change]) -> None:
        from sqlalchemy.exc import DBAPIError

        connection, own = self._connection, {"epoch_": self.epoch}
        with self._mapped(), self._transaction():
            try:
                if connection.execute(self._say.own, own).rowcount != 1:
                    raise StorageLocked(
                        f"somebody else has opened store {self._store!r} since; nothing was written",
                        url=self._url,
                    )
                for change in changes:
                    self._apply(connection, change)
            except DBAPIError as error:
                # COMMIT was not sent, so nothing is done, as long as the server is there to say so.
                if self._server.is_full(error.orig or error) and not error.connection_invalidated:
                    raise StorageFull("the server's disk is full", url=self._url) from error
                raise

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """Begins a transaction, and commits it unless an exception comes out of it."""
        say = self._connection.exec_driver_sql
        say("BEGIN")
        try:
            yield
        except BaseException:
            with suppress(Exception):  # where the session is gone, so is what it had begun
                say("ROLLBACK")
            raise
        say("COMMIT")

    def _apply(self, connection: Connection, change: Change) -> None:
        say, log = self._say, self._prefix + change.log

        def delete_rows(first: int, last: int) -> None:
            connection.execute(say.delete_rows, {"log_": log, "first_": first, "last_": last})

        if change.drop:
            delete_rows(0, _LAST)
        if change.delete_from is not None and change.delete_from <= _LAST:
            delete_rows(change.delete_from, _LAST)
        if change.delete_below:
            delete_rows(0, min(change.delete_below - 1, _LAST))
        for batch in _batches(change.rows):
            values = [{"log": log, "first": first, "entries": blob} for first, blob in batch]
            connection.execute(say.put_rows, values)
        if change.meta:
            connection.execute(say.put_meta, [{"log": log, "record": change.meta}])
        elif change.meta is not None:
            connection.execute(say.delete_meta, {"log_": log})

    # -- the rest -----------------------------------------------------------------------------------

    def describe(self) -> Description:
        settings = self._settings
        capabilities = {Capability.CORRUPTION_DETECTING, Capability.SHARED_SYNC}
        if settings.kill_safe:
            capabilities.add(Capability.KILL_SAFE)
        if settings.power_safe:
            capabilities.add(Capability.POWER_SAFE)
        return Description(
            url=self._url,
            engine=settings.engine,
            sync=SyncMode.FULL if settings.power_safe else SyncMode.OS,
            capabilities=frozenset(capabilities),
            settings=settings.values,
        )

    def close(self) -> None:
        if self._pid != os.getpid():
            return  # the connection is the parent's
        if hasattr(self, "_connection"):
            self._connection.invalidate()  # ends the session, and with it the lock
            self._connection.close()
        self._engine.dispose()

    @contextmanager
    def _mapped(self) -> Generator[None]:
        """The one seam at which the driver's errors become ours.

        It also ends the opening with its session: SQLAlchemy would begin another one, which has no lock.
        """
        from sqlalchemy.exc import SQLAlchemyError

        if self._is_lost:
            raise self._lost("")
        try:
            yield
        except StorageError:
            raise
        except SQLAlchemyError as error:
            if self._is_lost:
                raise self._lost(f": {said(error)}") from error
            raise refusal(error, self._url) from error


def said(error: SQLAlchemyError) -> str:
    """What the server or the driver said, without the hints and the statement."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def refusal(error: SQLAlchemyError, url: str) -> StorageUnavailable:
    """The driver's error as ours."""
    return StorageUnavailable(f"the server answered: {said(error)}", url=url)


def _batches(rows: Sequence[tuple[int, bytes]]) -> Generator[Sequence[tuple[int, bytes]]]:
    """Rows that go into one statement: drivers make one text of it, and servers bound its length."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    for row in rows:
        if batch and size + len(row[1]) > 16 * ROW_SIZE:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row[1])
    if batch:
        yield batch
