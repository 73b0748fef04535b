"""Opening an engine's store: find its place, lock it, connect, settle, recognise it.

The order matters. The lock comes before the engine looks at its files. `Engine.settle` comes before
anything is read, because pages of a commit whose sync failed may be clean in the kernel's cache and
absent on disk: what an opening shows must be durable before it is shown (rule 6).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from mosaik.primitives.errors import ConfigError, MosaikError, StorageFull, StorageUnavailable
from mosaik.storage.contract import StorageEnvironment, SyncMode
from mosaik.storage.directory import make_directory, sync_directory
from mosaik.storage.elsewhere import claim_elsewhere
from mosaik.storage.engine import CountsOpenings, Engine
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.identity import claim, read_owner, require_trusted
from mosaik.storage.lock import StoreLock
from mosaik.storage.plugin import EnginePlugin, Layout, Place, Schema
from mosaik.storage.record import FORMAT
from mosaik.storage.shared import share
from mosaik.storage.url import StorageURL
from mosaik.storage.watermark import Watermark

__all__ = [
    "Beside",
    "engine_environment",
    "engine_store_format",
    "engine_store_owner",
    "engine_store_size",
    "examine_engine_store",
    "open_engine_store",
]

O = TypeVar("O", bound=msgspec.Struct)  # noqa: E741  # options
_numbers: Final = count(1)


class Beside(NamedTuple):
    """The framework's own files of a store."""

    lock: Path
    watermark: Path

    @classmethod
    def of(cls, path: Path, layout: Layout) -> Beside:
        """Inside a store's directory, or beside its file."""
        if layout is Layout.DIRECTORY:
            return cls(path / "mosaik.lock", path / "mosaik.watermark")
        return cls(path.with_name(path.name + ".lock"), path.with_name(path.name + ".watermark"))

    @property
    def found(self) -> bool:
        """Whether one of them is there, as with every store that was opened once."""
        return self.lock.exists() or self.watermark.exists()


def open_engine_store(
    plugin: EnginePlugin[O],
    url: StorageURL,
    options: O,
    *,
    data_dir: Path | None,
    peer: bytes,
) -> StorageEnvironment:
    """See `EnginePlugin.open`."""
    notes = plugin.notes(url, data_dir)
    if plugin.layout is Layout.NOWHERE:
        place = Place(url=url)
        # Memory without a name is a store of its own; a server's database is known by its address.
        key = plugin.address(url) if url.host or url.path else f"{plugin.scheme}#{next(_numbers)}"
        beside = None
    else:
        path = _locate(plugin, url, data_dir)
        place = Place(url=StorageURL.of_path(plugin.scheme, path, url.query), path=path)
        key = f"{plugin.scheme}:{path}"
        beside = Beside.of(path, plugin.layout)
    shown = url.text() if place.path is None else f"{plugin.scheme}://{place.path}"

    def connect() -> Engine:
        return _connect(plugin, place, options, shown)

    def open_() -> StorageEnvironment:
        if beside is not None:
            _make_directory(beside.lock.parent)
        if notes is not None:
            _make_directory(notes.parent)
        try:
            return engine_environment(
                connect, key=key, url=shown, peer=peer, beside=beside, notes=notes
            )
        except MosaikError:
            raise
        except Exception as error:
            raise _refusal(error, shown) from error

    return share(key, options, open_, peer=peer)


def examine_engine_store(
    plugin: EnginePlugin[O], url: StorageURL, *, data_dir: Path | None
) -> None:
    """See `EnginePlugin.examine`."""
    if plugin.inspect is None or plugin.layout is Layout.NOWHERE:
        return
    path = _locate(plugin, url, data_dir)
    beside = Beside.of(path, plugin.layout)
    if not (path.exists() and beside.found):
        return
    lock = StoreLock(beside.lock)
    try:
        plugin.inspect(Place(url=url, path=path))
    except OSError as error:
        raise StorageUnavailable(f"the store cannot be read: {error}", url=str(url)) from error
    finally:
        lock.release()


def engine_store_owner(
    plugin: EnginePlugin[O], url: StorageURL, options: O, *, data_dir: Path | None
) -> bytes:
    """See `EnginePlugin.owner`."""
    with _held(plugin, url, data_dir) as (place, shown):
        engine = _connect(plugin, place, options, shown)
        try:
            return read_owner(engine, shown)
        finally:
            engine.close()


def engine_store_format(
    plugin: EnginePlugin[O], url: StorageURL, options: O, *, data_dir: Path | None
) -> Schema:
    """See `EnginePlugin.format`."""
    with _held(plugin, url, data_dir) as (place, _):
        if plugin.schema is not None:
            return plugin.schema(place, options)
        # An older one would have to be written anew; there is none yet.
        return Schema(str(FORMAT), str(FORMAT))


@contextmanager
def _held(
    plugin: EnginePlugin[O], url: StorageURL, data_dir: Path | None
) -> Generator[tuple[Place, str]]:
    """A closed store's place, and its URL for messages, while nobody else may open it.

    Raises:
        StorageUnavailable: there is no store.
        StorageLocked: it is open.
    """
    with ExitStack() as held:
        if plugin.layout is Layout.NOWHERE:
            place, shown = Place(url=url), url.text()
        else:
            path = _locate(plugin, url, data_dir)
            place, shown = Place(url=url, path=path), f"{plugin.scheme}://{path}"
            beside = Beside.of(path, plugin.layout)
            if not path.exists():
                raise StorageUnavailable("there is no store", url=shown)
            if not beside.found:
                raise StorageUnavailable(
                    f"this is not a store of mosaik: neither {beside.lock.name} nor "
                    f"{beside.watermark.name} lies there",
                    url=shown,
                )
            held.callback(StoreLock(beside.lock).release)
            require_trusted(beside.watermark, shown)
        try:
            yield place, shown
        except MosaikError:
            raise
        except Exception as error:
            raise _refusal(error, shown) from error


def engine_store_size(plugin: EnginePlugin[O], url: StorageURL, *, data_dir: Path | None) -> int:
    """See `EnginePlugin.size`."""
    if plugin.layout is Layout.NOWHERE:
        return 0
    path = _locate(plugin, url, data_dir)
    if plugin.layout is Layout.DIRECTORY:
        files = [each for each in path.rglob("*") if each.is_file()]
    else:
        # What engines put beside their file begins with its name, as ours do.
        files = [path, *path.parent.glob(f"{escape(path.name)}[-.]*")]
    return sum(each.stat().st_blocks * 512 for each in files if each.is_file())


def _connect(plugin: EnginePlugin[O], place: Place, options: O, shown: str) -> Engine:
    try:
        return plugin.connect(place, options)
    except ImportError as error:
        hint = f"; to add it: {plugin.install}" if plugin.install else ""
        raise StorageUnavailable(
            f"the {plugin.scheme} backend needs the module {error.name!r}, which cannot be imported"
            f"{hint}",
            url=shown,
        ) from error


def engine_environment(
    connect: Callable[[], Engine],
    *,
    key: str,
    url: str,
    peer: bytes,
    beside: Beside | None = None,
    notes: Path | None = None,
) -> EngineEnvironment:
    """An environment of an engine, without sharing it in the process.

    Args:
        connect: opens the engine; called once the lock is held.
        key, url: what the environment shows of itself.
        peer: the node's id.
        beside: where lock and watermark lie; None for a store without files.
        notes: where the watermark of a store that is elsewhere lies; None when there is to be none.
    """
    with ExitStack() as undo:
        lock = StoreLock(beside.lock) if beside is not None else None
        if lock is not None:
            undo.callback(lock.release)
        engine = connect()
        undo.callback(engine.close)
        engine.settle()
        watermark: Watermark | None
        if notes is not None and isinstance(engine, CountsOpenings):
            record, watermark = claim_elsewhere(engine, engine.epoch, peer, url, notes)
        else:
            path = beside.watermark if beside is not None else None
            record, watermark = claim(engine, peer, url, engine.describe().sync, path)
        if watermark is not None:
            undo.callback(watermark.close)
        environment = EngineEnvironment(
            engine,
            key=key,
            url=url,
            record=record,
            watermark=watermark,
            released=lambda clean: _release(clean, watermark, lock),
        )
        undo.pop_all()
    return environment


def _release(clean: bool, watermark: Watermark | None, lock: StoreLock | None) -> None:
    try:
        if watermark is not None:
            if clean and watermark.header.sync is SyncMode.OS:
                watermark.write_header(watermark.header._replace(clean=True))
            watermark.close()
    finally:
        if lock is not None:
            lock.release()


def _locate(plugin: EnginePlugin[O], url: StorageURL, data_dir: Path | None) -> Path:
    path = url.file_path()
    if path is None:
        if data_dir is None:
            raise ConfigError(
                f"{plugin.scheme!r} names a store without saying where; give the node a data_dir, or a "
                f"URL such as {plugin.scheme}:///var/lib/app/raft{plugin.suffix}"
            )
        path = data_dir / (plugin.scheme + plugin.suffix)
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise StorageUnavailable(f"{path} cannot be resolved: {error}", url=str(url)) from error


def _refusal(error: Exception, url: str) -> StorageUnavailable | StorageFull:
    """A failed write or sync of an opening, which is the kernel's error or the driver's own."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull("no space to open the store", url=url)
    return StorageUnavailable(f"the store cannot be opened: {error}", url=url)


def _make_directory(path: Path) -> None:
    try:
        make_directory(path)
        # It may be there only since a process made it that was killed before it could sync its name. Who
        # may not look into the directory above has made nothing in it.
        with suppress(PermissionError):
            sync_directory(path.parent)
    except OSError as error:
        raise StorageUnavailable(
            f"the directory {path} cannot be made: {error.strerror}; make it writable by this user, or "
            f"name another"
        ) from error
