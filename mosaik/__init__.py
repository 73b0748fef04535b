"""Consensus groups for Python: durable, self-organising, with a log storage of your choice.

Names are loaded when they are first used, so that ``import mosaik`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mosaik.groups import ConsensusConfig as ConsensusConfig
    from mosaik.groups import Consistency as Consistency
    from mosaik.groups import Group as Group
    from mosaik.groups import GroupKey as GroupKey
    from mosaik.network import Network as Network
    from mosaik.primitives.cursor import Applied as Applied
    from mosaik.primitives.cursor import Cursor as Cursor
    from mosaik.primitives.cursor import Index as Index
    from mosaik.primitives.cursor import IndexRange as IndexRange
    from mosaik.primitives.cursor import Term as Term
    from mosaik.primitives.digest import Digest as Digest
    from mosaik.primitives.digest import PeerId as PeerId
    from mosaik.primitives.errors import ApplyError as ApplyError
    from mosaik.primitives.errors import ConfigError as ConfigError
    from mosaik.primitives.errors import GroupTerminated as GroupTerminated
    from mosaik.primitives.errors import MosaikError as MosaikError
    from mosaik.primitives.errors import NetworkError as NetworkError
    from mosaik.primitives.errors import Offline as Offline
    from mosaik.primitives.errors import OutcomeUnknown as OutcomeUnknown
    from mosaik.primitives.errors import QueryOffline as QueryOffline
    from mosaik.primitives.errors import SessionExpired as SessionExpired
    from mosaik.primitives.errors import StorageError as StorageError

__all__ = [
    "Applied",
    "ApplyError",
    "ConfigError",
    "ConsensusConfig",
    "Consistency",
    "Cursor",
    "Digest",
    "Group",
    "GroupKey",
    "GroupTerminated",
    "Index",
    "IndexRange",
    "MosaikError",
    "Network",
    "NetworkError",
    "Offline",
    "OutcomeUnknown",
    "PeerId",
    "QueryOffline",
    "SessionExpired",
    "StorageError",
    "Term",
    "__version__",
]

__version__ = "0.1.0"

_CURSOR = "mosaik.primitives.cursor"
_DIGEST = "mosaik.primitives.digest"
_ERRORS = "mosaik.primitives.errors"
_GROUPS = "mosaik.groups"
_HOMES = {
    "Applied": _CURSOR,
    "ApplyError": _ERRORS,
    "ConfigError": _ERRORS,
    "ConsensusConfig": _GROUPS,
    "Consistency": _GROUPS,
    "Cursor": _CURSOR,
    "Digest": _DIGEST,
    "Group": _GROUPS,
    "GroupKey": _GROUPS,
    "GroupTerminated": _ERRORS,
    "Index": _CURSOR,
    "IndexRange": _CURSOR,
    "MosaikError": _ERRORS,
    "Network": "mosaik.network",
    "NetworkError": _ERRORS,
    "Offline": _ERRORS,
    "OutcomeUnknown": _ERRORS,
    "PeerId": _DIGEST,
    "QueryOffline": _ERRORS,
    "SessionExpired": _ERRORS,
    "StorageError": _ERRORS,
    "Term": _CURSOR,
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mosaik' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
