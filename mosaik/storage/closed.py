"""Closed stores in the hands of tools: opened without making anything, and looked at before an engine is
trusted with them.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing, contextmanager

from mosaik.primitives.errors import ConfigError
from mosaik.storage.contract import StorageEnvironment
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.registry import examine_storage, open_existing
from mosaik.storage.shared import SharedEnvironment
from mosaik.storage.url import StorageURL

__all__ = ["engine_of", "opened_closed"]


@contextmanager
def opened_closed(
    where: str | StorageURL, *, data_dir: str | os.PathLike[str] | None = None
) -> Generator[StorageEnvironment]:
    """A store that nobody has open, open for the time of a block.

    Raises:
        CorruptEntry: the engine's own structures are damaged; it was not handed to the engine.
        StorageUnavailable, StorageLocked, ConfigError: as `open_existing`.
    """
    examine_storage(where, data_dir=data_dir)
    with closing(open_existing(where, data_dir=data_dir)) as environment:
        yield environment


def engine_of(environment: StorageEnvironment) -> EngineEnvironment:
    """The environment over an engine behind this handle: what can be looked into and mended.

    Raises:
        ConfigError: it is of another kind.
    """
    inner = environment.shared if isinstance(environment, SharedEnvironment) else environment
    if not isinstance(inner, EngineEnvironment):
        raise ConfigError(
            f"{environment.describe().url} is not a store over an engine; if its URL names a store behind "
            f"another, name that one"
        )
    return inner
