"""Reading the store of a node that does not run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from mosaik.primitives.codec import Codec
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import ConfigError
from mosaik.storage import open_storage
from mosaik.transport.identity import Identity

__all__ = ["read_log"]

#: So many entries are read at a time.
_SLICE: Final = 4096


def read_log(
    storage: str, *, data_dir: str | os.PathLike[str], command_type: Any = None
) -> list[Entry[Any]]:
    """Every entry that a stopped node's store holds, each verified. Blocks; changes nothing.

    Args:
        storage: the backend's name or URL, as the node was given it.
        data_dir: the node's data directory.
        command_type: the state machine's; needed for `Entry.command`.

    Raises:
        IdentityError: the node runs. ConfigError: the store holds another number of logs than one.
        CorruptEntry: an entry is damaged or missing.
    """
    identity = Identity.in_directory(Path(data_dir))
    try:
        environment = open_storage(storage, peer=identity.peer, data_dir=identity.data_dir)
        try:
            logs = environment.logs()
            if len(logs) != 1:
                raise ConfigError(
                    f"the store {storage} in {data_dir} holds {len(logs)} logs, not one"
                )
            decode = Codec[Any](command_type).decode if command_type is not None else None
            log = environment.log(logs[0], decode)
            start, end = log.available()
            entries: list[Entry[Any]] = []
            for first in range(start + 1, end + 1, _SLICE):
                entries += log.get_range(first, min(end, first + _SLICE - 1))
            return entries
        finally:
            environment.close()
    finally:
        identity.close()
