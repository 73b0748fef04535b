"""A log store for mosaik in one append-only file: ``file:///var/lib/app/raft.log``."""

from __future__ import annotations

from typing import Final

from mosaik.storage import Capability, EnginePlugin, Layout, Place
from mosaik_storage_file.engine import FileEngine, FileOptions

__all__ = ["FileEngine", "FileOptions", "plugin"]


def _connect(place: Place, options: FileOptions) -> FileEngine:
    assert place.path is not None, "a store of this layout has one"
    return FileEngine(place.path, options, place.url.text())


#: What the entry point ``file`` in the group ``mosaik.storage`` names.
plugin: Final = EnginePlugin(
    "file",
    FileOptions,
    _connect,
    layout=Layout.FILE,
    capabilities=frozenset(Capability),
    suffix=".log",
)
