"""An environment over any engine: the one place where a store is changed.

Theory of operation
-------------------
`commit` plans every batch against the state in memory (`mosaik.storage.plan`), lowers watermarks below
what the plans remove, hands all changes to the engine as one transaction, and only then lets the new
states be seen. An exception from the engine other than `StorageFull` means that nobody knows what the
disk holds: the environment is *poisoned* (rule 6). It acknowledges and serves nothing more, and lets go
of the engine and the lock at once, so that the store can be opened anew while old handles still exist.

Opening comes in `mosaik.storage.identity` and `mosaik.storage.recover`. A lock serialises callers,
since an engine is used by one thread at a time; in a running node there is only the writer thread.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Any, Final, TypeVar, overload

import msgspec

from mosaik.primitives.durable import Anchor, HardState, WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import (
    CorruptEntry,
    InvalidBatch,
    MosaikError,
    StorageClosed,
    StorageFull,
    StorageLocked,
    StorageMismatch,
    StoragePoisoned,
    StorageUnavailable,
)
from mosaik.storage.contract import Description, LogIdentity, Storage, SyncMode
from mosaik.storage.engine import Change, Engine
from mosaik.storage.identity import check_identity, check_parts, fresh_record
from mosaik.storage.log import EngineLog, LogSlot, Look
from mosaik.storage.plan import Plan, plan
from mosaik.storage.record import STORE_KEY, StoreRecord, log_record
from mosaik.storage.recover import recover, unrecovered
from mosaik.storage.rows import ReadRows, all_rows, pack
from mosaik.storage.verify import verify
from mosaik.storage.watermark import Header, Watermark

__all__ = ["EngineEnvironment"]

C = TypeVar("C")
T = TypeVar("T")
_logger = logging.getLogger(__name__)


class EngineEnvironment:
    """Implements `StorageEnvironment` over an engine that is open and settled.

    Args:
        engine: what this now owns.
        key: equal for two openings of the same store.
        url: for messages.
        record: whose store it is.
        watermark: the store's, if it has files.
        released: called once when the engine has been let go; the argument says whether cleanly.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        key: str,
        url: str,
        record: StoreRecord,
        watermark: Watermark | None,
        released: Callable[[bool], None],
    ) -> None:
        self._engine: Engine | None = engine
        self._key = key
        self.url: Final = url
        self._record = record
        self._watermark = watermark
        self._released = released
        self._description = engine.describe()
        self._slots: dict[bytes, LogSlot] = {}
        self._poison: BaseException | None = None
        self._lock = RLock()
        self._pid = os.getpid()

    # -- the contract -------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        return self._key

    @property
    def poisoned(self) -> BaseException | None:
        return self._poison

    @property
    def closed(self) -> bool:
        """Nothing can be done with it any more, whoever closed it."""
        return self._engine is None

    @overload
    def log(self, identity: LogIdentity, decode: None = None) -> EngineLog[Any]: ...
    @overload
    def log(self, identity: LogIdentity, decode: Callable[[bytes], C]) -> EngineLog[C]: ...
    def log(
        self, identity: LogIdentity, decode: Callable[[bytes], Any] | None = None
    ) -> EngineLog[Any]:
        with self._lock:
            engine = self._usable()
            check_identity(identity, self._record, self.url)
            identity = _plain(identity)
            slot = self._slots.get(identity.group)
            if slot is None:
                with self._mapped():
                    slot = self._open(engine, identity)
                self._slots[identity.group] = slot
            check_parts(identity, slot.identity, self.url)
            return EngineLog(self, slot, decode)

    def logs(self) -> list[LogIdentity]:
        with self._lock, self._mapped():
            engine = self._usable()
            return [self._identity(engine, key) for key in self._keys(engine)]

    def commit(self, batches: Sequence[tuple[Storage[Any], WriteBatch[Any]]]) -> None:
        with self._lock:
            engine = self._usable()
            if self._watermark is not None and self._watermark.overdue:
                self._guard_mark(self._watermark.flush)
            plans = self._plan(batches, engine)
            if plans:
                self._apply(engine, plans)

    def verify(self, log: Storage[Any], report: Callable[[int], None] | None = None) -> None:
        self._slot_of(log)
        verify(log, self.url, report)

    def describe(self) -> Description:
        return self._description

    def idle(self) -> None:
        with self._lock:
            self._usable()
            if self._watermark is not None:
                self._guard_mark(self._watermark.flush)

    def close(self) -> None:
        with self._lock:
            if self._engine is None or self._pid != os.getpid():
                return
            try:
                if self._watermark is not None:
                    self._guard_mark(self._watermark.flush)
            finally:
                self._let_go()

    # -- for logs -----------------------------------------------------------------------------------

    @contextmanager
    def reading(self, slot: LogSlot) -> Generator[ReadRows]:
        """Holds the engine for reads of one log; a driver's own error becomes `StorageUnavailable`."""
        with self._lock, self._mapped():
            yield self._reader(self._usable(slot), slot.identity.group)

    def retire(self, slot: LogSlot) -> None:
        """See `Storage.retire`."""
        with self._lock:
            engine = self._usable(slot)
            log = slot.identity.group
            if self._watermark is not None:
                self._guard_mark(partial(self._watermark.forget, log))
            self._transact(engine, [Change(log=log, drop=True, meta=b"")])
            slot.retired = True
            del self._slots[log]

    def move(self, old: bytes, identity: LogIdentity) -> None:
        """Gives the log ``old`` another identity; see `mosaik.storage.rebind`. It must not be open.

        Raises:
            StorageLocked: the log is open. `StorageMismatch`: the store is another node's.
        """
        with self._lock:
            engine = self._usable()
            check_identity(identity, self._record, self.url)
            new = bytes(identity.group)
            if old in self._slots or new in self._slots:
                raise StorageLocked("the log is open; close its group first", url=self.url)
            record = log_record.decode(engine.meta(old) or b"", url=self.url)
            moved = msgspec.structs.replace(record, identity=_plain(identity))
            # Rows without a record are no log yet. What an interrupted move left is dropped first.
            self._transact(engine, [Change(log=new, drop=True)])
            for rows in all_rows(self._reader(engine, old)):
                self._transact(engine, [Change(log=new, rows=rows)])
            watermark = self._watermark
            mark = watermark.mark(old) if watermark is not None else Anchor()
            if watermark is not None:
                self._guard_mark(partial(watermark.forget, old))
            meta = log_record.encode(moved)
            self._transact(
                engine, [Change(log=new, meta=meta), Change(log=old, drop=True, meta=b"")]
            )
            if watermark is not None:
                watermark.acknowledge(new, mark)
                self._guard_mark(watermark.flush)

    def refound(self, group: bytes, hard_state: HardState, entry: Entry[Any]) -> None:
        """Makes a log the beginning of another history, in one transaction; see `mosaik.storage.recovery`.

        Raises:
            StorageLocked: the log is open. `CorruptEntry`: its end is damaged.
            StorageMismatch: it does not end where the entry begins.
        """
        with self._lock:
            engine = self._usable()
            if group in self._slots:
                raise StorageLocked("the log is open; close its group first", url=self.url)
            record = log_record.decode(engine.meta(group) or b"", url=self.url)
            mark = self._watermark.mark(group) if self._watermark is not None else Anchor()
            rows = self._reader(engine, group)
            tail = recover(record, rows, engine.last_row(group), mark, url=self.url).tail
            if tail != Anchor(entry.term, entry.index - 1, entry.previous):
                raise StorageMismatch("the log ends elsewhere by now", url=self.url)
            meta = log_record.encode(msgspec.structs.replace(record, hard_state=hard_state))
            made = [(row.first, row.blob) for row in pack([entry], [entry.sealed])]
            self._transact(engine, [Change(log=group, rows=made, meta=meta)])
            if self._watermark is not None:
                end = Anchor(entry.term, entry.index, entry.checksum)
                self._watermark.acknowledge(group, end)
                self._guard_mark(self._watermark.flush)

    # -- for tools ----------------------------------------------------------------------------------

    @property
    def record(self) -> StoreRecord:
        """Whose store it is, and its id."""
        return self._record

    @property
    def header(self) -> Header | None:
        """What the watermark says of the store's last opening; None without a watermark."""
        return self._watermark.header if self._watermark is not None else None

    def survey(self) -> list[tuple[bytes, LogIdentity | CorruptEntry]]:
        """The groups whose logs the store holds, each with its identity or why that cannot be read."""
        with self._lock, self._mapped():
            engine = self._usable()
            found: list[tuple[bytes, LogIdentity | CorruptEntry]] = []
            for key in self._keys(engine):
                try:
                    found.append((key, self._identity(engine, key)))
                except CorruptEntry as error:
                    found.append((key, error))
            return found

    def look(self, group: bytes) -> Look:
        """A log as it lies there, damaged or not; nothing is written to it.

        Raises:
            CorruptEntry: there is no such log, or its record is damaged.
            StorageLocked: the log is open.
        """
        with self._lock, self._mapped():
            engine = self._usable()
            if group in self._slots:
                raise StorageLocked("the log is open; close its group first", url=self.url)
            mark = self._watermark.mark(group) if self._watermark is not None else Anchor()
            record = log_record.decode(engine.meta(group) or b"", url=self.url)
            trouble: CorruptEntry | None = None
            try:
                rows, last_row = self._reader(engine, group), engine.last_row(group)
                # The mark is for whoever looks to compare: with it, a damaged log would not open.
                state = recover(record, rows, last_row, Anchor(), url=self.url)
            except CorruptEntry as error:
                trouble = error
                state = unrecovered(record)
            slot = LogSlot(record.identity, state, view=True)
            return Look(EngineLog(self, slot, None), mark, trouble)

    def empty(self, group: bytes) -> HardState:
        """Gives a log up, damaged or not, for one that never held anything, with a new store id.

        Returns:
            What the new log remembers.

        Raises:
            CorruptEntry: its record is damaged, so that nobody can say whose it is.
            StorageLocked: the log is open.
        """
        with self._lock:
            engine = self._usable()
            if group in self._slots:
                raise StorageLocked("the log is open; close its group first", url=self.url)
            old = log_record.decode(engine.meta(group) or b"", url=self.url)
            if self._watermark is not None:
                self._guard_mark(partial(self._watermark.forget, group))
            fresh = fresh_record(old.identity, self._record.store)
            meta = log_record.encode(fresh)
            self._transact(engine, [Change(log=group, drop=True, meta=meta)])
            return fresh.hard_state

    # -- writing ------------------------------------------------------------------------------------

    def _plan(
        self, batches: Sequence[tuple[Storage[Any], WriteBatch[Any]]], engine: Engine
    ) -> list[tuple[LogSlot, Plan]]:
        plans: list[tuple[LogSlot, Plan]] = []
        seen: set[bytes] = set()
        for log, batch in batches:
            slot = self._slot_of(log)
            self._usable(slot)
            group = slot.identity.group
            if slot.view:
                raise InvalidBatch(f"{log!r} is a view of a log; open it to write", url=self.url)
            if group in seen:
                raise InvalidBatch(
                    f"two batches for group {group[:5].hex()} in one commit; join them into one",
                    url=self.url,
                )
            seen.add(group)
            if not batch.is_empty:
                read = self._reader(engine, group)
                store, identity = self._record.store, slot.identity
                made = plan(batch, slot.state, read, store=store, identity=identity, url=self.url)
                plans.append((slot, made))
        return plans

    def _apply(self, engine: Engine, plans: list[tuple[LogSlot, Plan]]) -> None:
        watermark = self._watermark
        if watermark is not None:
            for slot, made in plans:
                if made.cut is not None:
                    self._guard_mark(partial(watermark.lower, slot.identity.group, made.cut))
        try:
            self._transact(engine, [made.change for _, made in plans])
        except StorageFull:
            self._acknowledge(plans)  # what the log still holds, should its mark have been lowered
            raise
        for slot, made in plans:
            slot.state = made.after
        self._acknowledge(plans)

    def _acknowledge(self, plans: list[tuple[LogSlot, Plan]]) -> None:
        if self._watermark is not None:
            for slot, _ in plans:
                self._watermark.acknowledge(slot.identity.group, slot.state.tail)

    def _transact(self, engine: Engine, changes: list[Change]) -> None:
        try:
            engine.commit(changes)
        except StorageFull:
            raise
        except BaseException as error:
            self._poisoned_by(error)
            if isinstance(error, StorageLocked):
                raise  # nothing was written: the store is somebody else's now
            if isinstance(error, Exception):
                raise self._unknown() from error
            raise

    def _guard_mark(self, action: Callable[[], None]) -> None:
        """Watermark writes are writes: one that fails poisons too, unless there was merely no room."""
        try:
            action()
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StorageFull("no space for the watermark", url=self.url) from error
            self._poisoned_by(error)
            raise self._unknown() from error

    # -- poison and release -------------------------------------------------------------------------

    def _usable(self, slot: LogSlot | None = None) -> Engine:
        if self._poison is not None:
            raise self._unknown() from self._poison
        if self._engine is None:
            raise StorageClosed("the store is closed", url=self.url)
        if self._pid != os.getpid():
            raise StorageClosed("a store does not pass to a forked process", url=self.url)
        if slot is not None and slot.retired:
            raise StorageClosed(
                f"the log of group {slot.identity.group[:5].hex()} was retired", url=self.url
            )
        return self._engine

    def _unknown(self) -> StoragePoisoned:
        return StoragePoisoned(
            "a write or sync failed, so what the disk holds is unknown; open the store again to see",
            url=self.url,
        )

    def _poisoned_by(self, error: BaseException) -> None:
        self._poison = error
        _logger.error("%s is poisoned: %s: %s", self.url, type(error).__name__, error)
        try:
            self._release(clean=False)
        except Exception as release:  # noqa: BLE001
            # The first failure is what matters; the second says nothing new of the disk.
            error.add_note(f"closing the engine then failed, too: {release!r}")

    def _let_go(self) -> None:
        """Releases the store; a driver's own error becomes `StorageUnavailable`."""
        try:
            self._release(clean=self._poison is None)
        except MosaikError:
            raise
        except Exception as error:
            raise StorageUnavailable(f"closing failed: {error}", url=self.url) from error

    def _release(self, *, clean: bool) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        durable = False
        try:
            try:
                if clean and self._description.sync is SyncMode.OS:
                    engine.settle()
            finally:
                engine.close()
            durable = clean
        finally:
            self._released(durable)

    @contextmanager
    def _mapped(self) -> Generator[None]:
        try:
            yield
        except MosaikError:
            raise
        except Exception as error:
            raise StorageUnavailable(f"reading failed: {error}", url=self.url) from error

    # -- opening a log ------------------------------------------------------------------------------

    def _open(self, engine: Engine, identity: LogIdentity) -> LogSlot:
        group = identity.group
        mark = self._watermark.mark(group) if self._watermark is not None else Anchor()
        meta = engine.meta(group)
        if meta is None:
            meta = self._make(engine, identity, mark)
        record = log_record.decode(meta, url=self.url)
        rows, last_row = self._reader(engine, group), engine.last_row(group)
        state = recover(record, rows, last_row, mark, url=self.url)
        if self._watermark is not None:
            # What is shown is durable and will be counted on, acknowledged before or not.
            self._watermark.acknowledge(group, state.tail)
        return LogSlot(record.identity, state)

    def _make(self, engine: Engine, identity: LogIdentity, mark: Anchor) -> bytes:
        """Makes a log; returns its record."""
        if mark.index:
            raise CorruptEntry(
                1, f"the log is gone, and {mark.index} entries were acknowledged", url=self.url
            )
        for key in self._keys(engine):
            # The same key under other parts must not get an empty log beside the one it has.
            check_parts(identity, self._identity(engine, key), self.url)
        meta = log_record.encode(fresh_record(identity, self._record.store))
        self._transact(engine, [Change(log=identity.group, meta=meta)])
        return meta

    @staticmethod
    def _keys(engine: Engine) -> list[bytes]:
        return [key for key in engine.logs() if key != STORE_KEY]

    def _identity(self, engine: Engine, key: bytes) -> LogIdentity:
        return log_record.decode(engine.meta(key) or b"", url=self.url).identity

    @staticmethod
    def _reader(engine: Engine, log: bytes) -> ReadRows:
        return lambda first, last, limit: engine.rows(log, first, last, limit)

    def _slot_of(self, log: Storage[Any]) -> LogSlot:
        if not isinstance(log, EngineLog) or log.environment is not self:
            raise InvalidBatch(f"{log!r} is not a log of this store", url=self.url)
        return log.slot

    def __repr__(self) -> str:
        state = "poisoned" if self._poison else "open" if self._engine else "closed"
        return f"EngineEnvironment({self.url}, {state}, {len(self._slots)} logs)"


def _plain(identity: LogIdentity) -> LogIdentity:
    """The identity in the types that drivers and codecs take; ids are subclasses of bytes."""
    return LogIdentity(
        group=bytes(identity.group),
        peer=bytes(identity.peer),
        key=bytes(identity.key),
        parts=dict(identity.parts),
    )
