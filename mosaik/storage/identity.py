"""Whose store and whose log it is (rule 9), and whether the store still is what it was (rule 1)."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from mosaik.primitives.digest import DIGEST_SIZE, short
from mosaik.primitives.durable import HardState
from mosaik.primitives.errors import (
    CorruptEntry,
    InternalError,
    StorageError,
    StorageMismatch,
    StorageUnavailable,
)
from mosaik.storage.boot import boot_id
from mosaik.storage.contract import LogIdentity, SyncMode
from mosaik.storage.engine import Change, Engine
from mosaik.storage.plan import STORE_ID_SIZE
from mosaik.storage.record import STORE_KEY, LogRecord, StoreRecord, log_record, store_record
from mosaik.storage.watermark import Header, Watermark

__all__ = [
    "check_identity",
    "check_parts",
    "claim",
    "fresh_record",
    "read_owner",
    "require_trusted",
]

_logger = logging.getLogger(__name__)


def claim(
    engine: Engine, peer: bytes, url: str, sync: SyncMode, path: Path | None
) -> tuple[StoreRecord, Watermark | None]:
    """Recognises the store as this node's, or makes a new one this node's.

    Args:
        engine: open and settled.
        path: of the watermark; None for a store without files.

    Raises:
        StorageMismatch: it is another node's, or the watermark is another store's.
        CorruptEntry: engine and watermark contradict each other.
    """
    watermark = Watermark.open(path) if path is not None else None
    try:
        if watermark is not None and _outlived(watermark.header):
            return _renew(engine, peer, url, sync, watermark, path)
        blob = engine.meta(STORE_KEY)
        if blob is None:
            return _make(engine, peer, url, sync, watermark, path)
        record = store_record.decode(blob, url=url)
        _check_store(record, peer, watermark, path, url)
        if watermark is not None:
            header = _header(record.store, sync)._replace(epoch=watermark.header.epoch)
            if header != watermark.header:
                watermark.write_header(header)
    except BaseException:
        if watermark is not None:
            watermark.close()
        raise
    return record, watermark


def read_owner(engine: Engine, url: str) -> bytes:
    """The id of the node that a store belongs to.

    Raises:
        StorageUnavailable: no store was ever made there. `CorruptEntry`: its record is gone or damaged.
    """
    blob = engine.meta(STORE_KEY)
    if blob is not None:
        return store_record.decode(blob, url=url).peer
    if engine.logs():
        raise CorruptEntry(0, "the store holds logs, but its own record is gone", url=url)
    raise StorageUnavailable("there is no store", url=url)


def require_trusted(path: Path, url: str) -> None:
    """Refuses a store that the next opening would empty, since whoever only wants to look must not.

    Raises:
        StorageUnavailable: it was open without syncs when the machine stopped.
        CorruptEntry: its watermark is damaged.
    """
    watermark = Watermark.open(path)
    if watermark is None:
        return
    watermark.close()
    if _outlived(watermark.header):
        raise StorageUnavailable(
            'it was open with sync="os" when the machine stopped, so what it holds may be any mixture of '
            "old and new; the next start of its node empties it and joins as a new replica",
            url=url,
        )


def _header(store: bytes, sync: SyncMode) -> Header:
    # With full sync nothing depends on the boot, so that slot is written once and not per opening.
    unsynced = sync is SyncMode.OS
    return Header(store, sync, boot_id() if unsynced else bytes(16), clean=not unsynced)


def _outlived(header: Header) -> bool:
    """The machine restarted under a process that had not synced."""
    return header.sync is SyncMode.OS and not header.clean and header.boot != boot_id()


def _make(
    engine: Engine,
    peer: bytes,
    url: str,
    sync: SyncMode,
    watermark: Watermark | None,
    path: Path | None,
) -> tuple[StoreRecord, Watermark | None]:
    """Stamps an empty engine. The watermark comes first: a stamped store without one is refused."""
    if engine.logs():
        raise CorruptEntry(0, "the store holds logs, but its own record is gone", url=url)
    if watermark is not None and watermark.has_marks:
        raise CorruptEntry(
            1,
            f"the store is empty, but its watermark {path} says that entries were acknowledged; "
            f"restore the store, or remove that file to begin as a new replica",
            url=url,
        )
    record = StoreRecord(os.urandom(STORE_ID_SIZE), peer, url)
    if watermark is not None:
        watermark.close()
    fresh = Watermark.create(path, _header(record.store, sync)) if path is not None else None
    try:
        engine.commit([Change(log=STORE_KEY, meta=store_record.encode(record))])
    except BaseException:
        if fresh is not None:
            fresh.close()
        raise
    return record, fresh


def _renew(
    engine: Engine,
    peer: bytes,
    url: str,
    sync: SyncMode,
    watermark: Watermark,
    path: Path | None,
) -> tuple[StoreRecord, Watermark]:
    """Makes the store a new one: what it held may be any mixture of old and new."""
    if path is None:
        raise InternalError("a watermark was read from nowhere")
    _logger.warning(
        '%s was open with sync="os" when the machine stopped; what it holds cannot be trusted, and it '
        "takes a new store id: this node joins its groups as a new replica",
        url,
    )
    record = StoreRecord(os.urandom(STORE_ID_SIZE), peer, url)
    emptied = [
        Change(log=key, drop=True, meta=_emptied(engine, key, record, url))
        for key in engine.logs()
        if key != STORE_KEY
    ]
    engine.commit([Change(log=STORE_KEY, meta=store_record.encode(record)), *emptied])
    engine.settle()
    # Until this is done the old header says that the store is to be made anew, and it will be.
    watermark.close()
    return record, Watermark.create(path, _header(record.store, sync))


def _emptied(engine: Engine, key: bytes, record: StoreRecord, url: str) -> bytes:
    """The record of a log without what it held; empty, so that it is removed, when it cannot be read."""
    try:
        old = log_record.decode(engine.meta(key) or b"", url=url)
    except StorageError as error:
        _logger.warning("%s: the record of log %s is removed: %s", url, short(key), error)
        return b""
    return log_record.encode(fresh_record(old.identity, record.store))


def fresh_record(identity: LogIdentity, store: bytes) -> LogRecord:
    """A log that never held anything, with a store id of its own."""
    hard_state = HardState(store=os.urandom(STORE_ID_SIZE))
    return LogRecord(store=store, identity=identity, hard_state=hard_state)


def _check_store(
    record: StoreRecord, peer: bytes, watermark: Watermark | None, path: Path | None, url: str
) -> None:
    if record.peer != peer:
        raise StorageMismatch(
            f"this store belongs to node {short(record.peer)}, not to {short(peer)}; give each node a "
            f"store of its own, or this node its old key",
            part="peer",
            url=url,
        )
    if path is None:
        return
    if watermark is None:
        raise CorruptEntry(
            0,
            f"its watermark {path} is missing, so what was acknowledged cannot be told; restore it "
            f"together with the store, or remove the store and let this node join as a new replica",
            url=url,
        )
    if watermark.header.store != record.store:
        raise StorageMismatch(
            f"the watermark {path} belongs to store {watermark.header.store.hex()}, not to "
            f"{record.store.hex()}; restore both from the same backup",
            part="store",
            url=url,
        )


def check_identity(identity: LogIdentity, record: StoreRecord, url: str) -> None:
    """Refuses a log of another node.

    Raises:
        StorageMismatch: the identity's peer is not the store's.
        ValueError: an id of the wrong length.
    """
    for name, value in (("group", identity.group), ("peer", identity.peer), ("key", identity.key)):
        if len(value) != DIGEST_SIZE:
            raise ValueError(f"the {name} of a log has {DIGEST_SIZE} bytes, not {len(value)}")
    if identity.group == STORE_KEY:
        raise ValueError("32 zero bytes are not a group")
    if identity.peer != record.peer:
        raise StorageMismatch(
            f"this store belongs to node {short(record.peer)}; node {short(identity.peer)} asks for a "
            f"log in it",
            part="peer",
            url=url,
        )


def check_parts(asked: LogIdentity, stored: LogIdentity, url: str) -> None:
    """Refuses to take one group for another: the same key with other parts is the old group, changed.

    Raises:
        StorageMismatch: names the part, the old and the new value, and the cure.
    """
    if asked.group == stored.group:
        if asked.key != stored.key:
            raise StorageMismatch(
                f"the log of group {short(asked.group)} was made with another key",
                part="key",
                url=url,
            )
        return
    if asked.key != stored.key:
        return
    part, old, new = _difference(stored.parts, asked.parts)
    if part == "machine":
        raise StorageMismatch(
            f"this store holds the log of group {short(stored.group)} under the same key and for another "
            f"state machine (signature {old[:10]}, now {new[:10]}). Another group needs another key; if this "
            f"machine is the old one's successor and reads its commands, run `mosaik log rebind` at every "
            f"node while it is stopped",
            part=part,
            url=url,
        )
    raise StorageMismatch(
        f"this store holds the log of group {short(stored.group)} under the same key, and {part} was "
        f"{old!r} and now is {new!r}. Put it back, or, if the change is wanted at every node, run "
        f"`mosaik log rebind` at each of them while it is stopped",
        part=part,
        url=url,
    )


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, str, str]:
    for part in [*old, *(name for name in new if name not in old)]:
        before, after = old.get(part, ""), new.get(part, "")
        if before != after:
            return part, before, after
    return "the group's id", "another", "not what these parts gave then"
