"""What a backend shows of itself so that a URL can name it.

A package adds a backend by an entry point in the group ``mosaik.storage``. Its name is the scheme, its
value a `Plugin` object::

    [project.entry-points."mosaik.storage"]
    mything = "my_package.storage:plugin"

A backend that is an `Engine` gets everything else by wrapping its opener into an `EnginePlugin`::

    plugin = EnginePlugin("mything", MyOptions, open_engine, drivers=("mydriver",))

The module that holds the plugin object must import without the driver; ``open_engine`` imports it.
Then ``mosaik storage list`` can show a backend whose driver is missing, with the hint that adds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import msgspec

from mosaik.storage.contract import Capability, StorageEnvironment
from mosaik.storage.engine import Engine
from mosaik.storage.url import StorageURL

__all__ = [
    "API_VERSION",
    "ENTRY_POINTS",
    "EnginePlugin",
    "Layout",
    "Place",
    "Plugin",
    "Schema",
    "WrapperPlugin",
]

#: The version of the contract that this mosaik speaks; a plugin states the one it was written for.
API_VERSION: Final = 1
#: The entry-point group in which backends are found.
ENTRY_POINTS: Final = "mosaik.storage"

O = TypeVar("O", bound=msgspec.Struct)  # noqa: E741  # options


@runtime_checkable
class Plugin(Protocol[O]):
    """A backend, as an entry point names it."""

    @property
    def scheme(self) -> str:
        """The URL scheme; equal to the entry point's name."""
        ...

    @property
    def options(self) -> type[O]:
        """A frozen msgspec struct: what may stand in the URL's query, with types and defaults."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it claims to survive with its default options."""
        ...

    @property
    def drivers(self) -> Sequence[str]:
        """The modules that must be importable."""
        ...

    @property
    def install(self) -> str:
        """The command that adds the drivers; empty when there is nothing to add."""
        ...

    @property
    def api_version(self) -> int:
        """The `API_VERSION` it was written for."""
        ...

    def open(
        self, url: StorageURL, options: O, *, data_dir: Path | None, peer: bytes
    ) -> StorageEnvironment:
        """Opens the store, making it when it is not there.

        Args:
            url: where; only a scheme when the store belongs in ``data_dir``.
            options: the URL's query, checked.
            data_dir: the node's data directory, if it has one.
            peer: the node's id, 32 bytes.
        """
        ...


@runtime_checkable
class WrapperPlugin(Plugin[O], Protocol[O]):
    """A plugin that stands in front of another: ``slow`` in ``slow+lmdb:///…``.

    Its `open` gets the URL of the store behind it (``lmdb:///…``), without the options that are its own, and
    opens that by `mosaik.storage.open_storage`.
    """

    @property
    def wraps(self) -> bool:
        """True."""
        ...


class Layout(StrEnum):
    """Where a backend keeps its bytes, and with it where the framework's own two files lie.

    ``DIRECTORY``: a directory of its own, which also takes ``mosaik.lock`` and ``mosaik.watermark``;
    ``FILE``: one file, with the two beside it; ``NOWHERE``: no files here (memory, or a server that
    has a lock of its own).
    """

    DIRECTORY = "directory"
    FILE = "file"
    NOWHERE = "nowhere"


class Schema(NamedTuple):
    """Versions of a store.

    Attributes:
        found: the one that it has; empty when it has none.
        newest: the one that this mosaik writes.
    """

    found: str
    newest: str


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an engine is to open its store.

    Attributes:
        url: as it was given.
        path: the absolute directory or file; the directory (of the file) exists and is locked for
            this process. None for ``Layout.NOWHERE``.
    """

    url: StorageURL
    path: Path | None = None


class EnginePlugin(Generic[O]):
    """A plugin made of an engine: lock, watermark, identity and the contract come from the framework.

    Args:
        scheme: the URL scheme, and the name of the store within a data directory.
        options: the frozen struct of options. A field named ``sync`` of type `SyncMode` is customary.
        connect: opens the engine at a place with these options. Raises ``ImportError`` when the
            driver is missing, ``StorageUnavailable`` when the engine cannot be opened.
        layout: what ``Place.path`` is.
        capabilities: what it claims to survive with its default options.
        drivers: the modules that must be importable.
        install: the command that adds them.
        suffix: of the store's name within a data directory, such as ``.db``.
        schema: tells the version of a closed store's tables, for an engine whose tables are brought to the
            newest when it is opened; changes nothing.
        inspect: looks at a closed store's files without handing them to the engine, and raises
            ``CorruptEntry`` for what is damaged; for an engine that damage can make end the process.
    """

    def __init__(
        self,
        scheme: str,
        options: type[O],
        connect: Callable[[Place, O], Engine],
        *,
        layout: Layout = Layout.DIRECTORY,
        capabilities: frozenset[Capability] = frozenset(),
        drivers: Sequence[str] = (),
        install: str = "",
        suffix: str = "",
        inspect: Callable[[Place], None] | None = None,
        schema: Callable[[Place, O], Schema] | None = None,
    ) -> None:
        self.scheme: Final = scheme
        self.options: Final = options
        self.connect: Final = connect
        self.layout: Final = layout
        self.capabilities: Final = capabilities
        self.drivers: Final = tuple(drivers)
        self.install: Final = install
        self.suffix: Final = suffix
        self.inspect: Final = inspect
        self.schema: Final = schema
        self.api_version: Final = API_VERSION

    def open(
        self, url: StorageURL, options: O, *, data_dir: Path | None, peer: bytes
    ) -> StorageEnvironment:
        """Opens the store, or shares it when this process has it open with the same options.

        Raises:
            ConfigError: no path and no data directory, or open here with other options.
            StorageLocked: another process has it open.
            StorageUnavailable: no permission, or the engine cannot be opened.
            StorageMismatch: the store belongs to another node.
        """
        from mosaik.storage.opening import (
            open_engine_store,
        )  # it loads more than a plugin's table needs

        return open_engine_store(self, url, options, data_dir=data_dir, peer=peer)

    def examine(self, url: StorageURL, *, data_dir: Path | None) -> None:
        """Looks at a closed store in a way that no damage can make end the process; see ``inspect``.

        Raises:
            CorruptEntry: the engine's own structures are damaged.
            StorageLocked: it is open.
        """
        from mosaik.storage.opening import examine_engine_store

        examine_engine_store(self, url, data_dir=data_dir)

    def owner(self, url: StorageURL, options: O, *, data_dir: Path | None) -> bytes:
        """The id of the node that a closed store belongs to. Makes nothing that is not there.

        Raises:
            StorageUnavailable: there is no store.
            StorageLocked: it is open.
            CorruptEntry: whose it is cannot be read.
        """
        from mosaik.storage.opening import engine_store_owner

        return engine_store_owner(self, url, options, data_dir=data_dir)

    def format(self, url: StorageURL, options: O, *, data_dir: Path | None) -> Schema:
        """The version of what a closed store is written in, and the one that an opening makes of it.

        Raises:
            StorageUnavailable: there is no store.
            StorageLocked: it is open.
        """
        from mosaik.storage.opening import engine_store_format

        return engine_store_format(self, url, options, data_dir=data_dir)

    def size(self, url: StorageURL, *, data_dir: Path | None) -> int:
        """The bytes that a store's files take on the disk; 0 for one without files, or that is not there."""
        from mosaik.storage.opening import engine_store_size

        return engine_store_size(self, url, data_dir=data_dir)

    def notes(self, url: StorageURL, data_dir: Path | None) -> Path | None:
        """Where this node keeps the watermark of a store that is not in files; None when it keeps none."""
        del url, data_dir
        return None

    def address(self, url: StorageURL) -> str:
        """What all URLs of one store without files have in common, so that it is shared in a process."""
        return url.text()

    def __repr__(self) -> str:
        return f"EnginePlugin({self.scheme!r})"


#: For annotations where the type of the options does not matter.
AnyPlugin = Plugin[Any]
