"""Where logs are kept: the contract, the framework around engines, and how backends are found.

`open_storage` opens a store, `StorageEnvironment.log` a group's log in it, `Writer` does what blocks off
the event loop. A backend is an `Engine` wrapped into an `EnginePlugin`, or implements `StorageEnvironment`
and `Storage` itself; ``docs/storage.md`` has the rules.
"""

from __future__ import annotations

from mosaik.storage.contract import (
    Capability,
    Description,
    LogIdentity,
    Storage,
    StorageEnvironment,
    SyncMode,
)
from mosaik.storage.engine import ROW_SIZE, Change, Engine
from mosaik.storage.plugin import EnginePlugin, Layout, Place, Plugin, WrapperPlugin
from mosaik.storage.registry import (
    Backend,
    examine_storage,
    list_backends,
    open_existing,
    open_storage,
)
from mosaik.storage.url import Seconds, Size, StorageURL
from mosaik.storage.writer import Writer

__all__ = [
    "ROW_SIZE",
    "Backend",
    "Capability",
    "Change",
    "Description",
    "Engine",
    "EnginePlugin",
    "Layout",
    "LogIdentity",
    "Place",
    "Plugin",
    "Seconds",
    "Size",
    "Storage",
    "StorageEnvironment",
    "StorageURL",
    "SyncMode",
    "WrapperPlugin",
    "Writer",
    "examine_storage",
    "list_backends",
    "open_existing",
    "open_storage",
]
