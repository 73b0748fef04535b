"""Every error mosaik raises, in one tree.

::

    MosaikError
    ├── ConfigError                   a setting is missing, misspelt or out of range
    ├── CodecError                    bytes that do not decode, a value that does not encode
    │   └── FrameTooLarge             longer than the limit of the place it arrived at
    ├── StorageError                  carries ``url``, the store it happened in
    │   ├── UnknownScheme             no backend is registered for the URL's scheme
    │   ├── StorageUnavailable        missing driver, permission, directory or server
    │   ├── InvalidBatch              the batch does not fit the log; nothing was written
    │   ├── CorruptEntry              an entry is damaged or missing; carries ``index``, ``reason``
    │   ├── StorageFull               refused before anything was written; may be retried
    │   ├── StorageLocked             another opener holds the store
    │   ├── StorageMismatch           the store belongs to another node, group or parameters
    │   ├── StorageFormatTooNew       written by a newer mosaik
    │   ├── StoragePoisoned           a write or sync failed; this opening acknowledges nothing more
    │   └── StorageClosed             used after ``close()``
    ├── NetworkError
    │   ├── BindError                 the address is in use or not ours
    │   ├── DialError                 nobody answered, or somebody else did
    │   ├── LinkClosed                the other side closed; carries ``reason``
    │   └── ProtocolViolation         the peer sent what the protocol does not allow
    ├── IdentityError                 the node's key or data directory cannot be used
    ├── GroupError
    │   ├── CommandError              carries ``commands``, as they were given
    │   │   ├── NoCommands            an empty batch
    │   │   ├── Offline               certainly not done; may be sent again
    │   │   └── OutcomeUnknown        done or not done; nobody here can tell
    │   ├── SessionExpired            the replicas forgot the session; nothing of it is applied now
    │   ├── QueryError                carries ``query``
    │   │   └── QueryOffline          not answered; may be asked again
    │   ├── ApplyError                the state machine's handler raised
    │   ├── JoinConflict              this group is running here with other parts
    │   ├── LastVoter                 leaving would end the history
    │   ├── HistoryLost               a majority of a volatile group forgot
    │   └── GroupTerminated           the group has ended; ``__cause__`` says why
    └── InternalError                 a broken invariant: a bug in mosaik, please report it

A message names what happened, where, and the cure. Nothing here is raised for control flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "ApplyError",
    "BindError",
    "CodecError",
    "CommandError",
    "ConfigError",
    "CorruptEntry",
    "DialError",
    "FrameTooLarge",
    "GroupError",
    "GroupTerminated",
    "HistoryLost",
    "IdentityError",
    "InternalError",
    "InvalidBatch",
    "JoinConflict",
    "LastVoter",
    "LinkClosed",
    "MosaikError",
    "NetworkError",
    "NoCommands",
    "Offline",
    "OutcomeUnknown",
    "ProtocolViolation",
    "QueryError",
    "QueryOffline",
    "SessionExpired",
    "StorageClosed",
    "StorageError",
    "StorageFormatTooNew",
    "StorageFull",
    "StorageLocked",
    "StorageMismatch",
    "StoragePoisoned",
    "StorageUnavailable",
    "UnknownScheme",
]


class MosaikError(Exception):
    """The root of every error that mosaik raises on purpose."""


class ConfigError(MosaikError, ValueError):
    """A setting is missing, misspelt or out of range; the message names it and the nearest right one."""


class CodecError(MosaikError, ValueError):
    """Bytes that do not decode into what was expected, or a value that does not encode."""


class FrameTooLarge(CodecError):
    """A message is longer than the place it arrived at allows."""


class StorageError(MosaikError):
    """Something went wrong in or with a store.

    Attributes:
        url: the store, with any password hidden; empty where it is not known.
    """

    def __init__(self, message: str, *, url: str = "") -> None:
        super().__init__(f"{message} [{url}]" if url else message)
        self.url = url


class UnknownScheme(StorageError, ValueError):
    """No installed backend answers to the scheme of a storage URL."""


class StorageUnavailable(StorageError):
    """The store cannot be reached: a driver, permission, directory or server is missing."""


class InvalidBatch(StorageError, ValueError):
    """A batch does not fit the log it was written to. Nothing was written."""


class CorruptEntry(StorageError):
    """An acknowledged entry is damaged or missing.

    Attributes:
        index: the log index of the first entry that is not what was written; 0 when the store itself is
            damaged and nobody can tell which entries are.
        reason: what is wrong with it.
    """

    def __init__(self, index: int, reason: str, *, url: str = "") -> None:
        what = f"entry {index}" if index else "the store"
        super().__init__(f"{what} is damaged: {reason}", url=url)
        self.index = index
        self.reason = reason


class StorageFull(StorageError):
    """The disk, quota or map is full. Refused before anything was written; the write may be retried."""


class StorageLocked(StorageError):
    """Another process, or another opening in this one, holds the store."""


class StorageMismatch(StorageError):
    """The store belongs to another node, another group, or the same group under other parameters.

    Attributes:
        part: the named part that differs; empty when the whole store is somebody else's.
    """

    def __init__(self, message: str, *, part: str = "", url: str = "") -> None:
        super().__init__(message, url=url)
        self.part = part


class StorageFormatTooNew(StorageError):
    """The store was written by a newer version of mosaik than this one."""


class StoragePoisoned(StorageError):
    """A write or a sync failed, so what the disk holds is unknown until the store is opened again."""


class StorageClosed(StorageError):
    """The store was used after it was closed."""


class NetworkError(MosaikError):
    """Something went wrong between two nodes."""


class BindError(NetworkError):
    """The address to listen on is in use, or does not belong to this machine."""


class DialError(NetworkError):
    """Nobody answered at an address in time, or somebody other than the expected peer did."""


class LinkClosed(NetworkError):
    """A link has ended.

    Attributes:
        code: the close reason's number (see ``mosaik.transport.CloseReason``).
        reason: what the side that closed it said.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the link closed: {reason} ({code})")
        self.code = code
        self.reason = reason


class ProtocolViolation(NetworkError):
    """A peer sent something that the protocol does not allow; its link is closed."""


class IdentityError(MosaikError):
    """The node's key or data directory is missing, readable by others, or belongs to another node."""


class GroupError(MosaikError):
    """Something went wrong in a consensus group."""


class CommandError(GroupError):
    """Commands did not succeed.

    Attributes:
        commands: what was given, so that the caller may send it again.
    """

    def __init__(self, message: str, commands: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.commands = list(commands)


class NoCommands(CommandError, ValueError):
    """An empty batch of commands was given."""


class Offline(CommandError):
    """The commands were certainly not done and will not be; they may be sent again."""


class OutcomeUnknown(CommandError):
    """The leader changed or fell silent in flight: the commands may or may not have been applied."""


class SessionExpired(GroupError):
    """The replicas have forgotten a session; a command that was given in it now is not applied."""


class QueryError(GroupError):
    """A query was not answered.

    Attributes:
        query: the question as it was given.
    """

    def __init__(self, message: str, query: Any = None) -> None:
        super().__init__(message)
        self.query = query


class QueryOffline(QueryError):
    """No answer with the asked consistency could be had in time; the query may be repeated."""


class ApplyError(GroupError):
    """The state machine's own code raised while it applied a committed command.

    Attributes:
        index: the log index of the command.
    """

    def __init__(self, message: str, *, index: int) -> None:
        super().__init__(message)
        self.index = index


class JoinConflict(GroupError):
    """The group is already running on this node with another store or another state machine."""


class LastVoter(GroupError):
    """The only voter cannot leave: that would end the history. See ``leave(end_history=True)``."""


class HistoryLost(GroupError):
    """A majority of a volatile group forgot; what was acknowledged cannot be vouched for any more."""


class GroupTerminated(GroupError):
    """The group has ended on this node; ``__cause__`` holds the error that ended it, if one did."""


class InternalError(MosaikError, AssertionError):
    """An invariant of mosaik itself is broken. This is a bug; please report it with the message."""
