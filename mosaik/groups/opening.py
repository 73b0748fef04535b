"""Opening a group's log, and what consensus needs to know of it to start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from mosaik.consensus import Recovered
from mosaik.groups.config import GroupConfig
from mosaik.groups.node import Node
from mosaik.primitives.codec import Codec
from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import ConfigError, CorruptEntry, StorageError, StoragePoisoned
from mosaik.primitives.membership import configuration_codec
from mosaik.storage import (
    Capability,
    Description,
    LogIdentity,
    Storage,
    StorageEnvironment,
    Writer,
    open_storage,
)

__all__ = ["OpenedLog", "StorageChoice", "open_log", "recover"]

T = TypeVar("T")

#: Newest entries that consensus starts with in memory, in sealed bytes.
_NEWEST_BYTES: Final = 256 * 1024
_NEWEST_ENTRIES: Final = 1024
MEMORY: Final = "memory://"


class StorageChoice:
    """Where a log is to be kept, as the application said it.

    Args:
        storage: a name or URL, an environment, a log of one, or None for what is configured.
        allow_volatile: take a store that does not survive this process.
    """

    __slots__ = ("allow_volatile", "storage")

    def __init__(
        self,
        storage: str | StorageEnvironment | Storage[Any] | None = None,
        *,
        allow_volatile: bool = False,
    ) -> None:
        self.storage = storage
        self.allow_volatile = allow_volatile

    def resolve(self, node: Node) -> StorageChoice:
        """This choice, with what the node's configuration says in the place of nothing.

        Raises:
            ConfigError: the store is durable and the node's identity is not.
        """
        storage = self.storage if self.storage is not None else node.storage_url
        if storage is None:
            storage = MEMORY
        if isinstance(storage, str) and not _in_memory(storage):
            _require_identity(node, storage)
        return StorageChoice(storage, allow_volatile=self.allow_volatile)

    def same_as(self, other: StorageChoice) -> bool:
        """Whether both name the same store in the same way."""
        mine, theirs = self.storage, other.storage
        return mine is theirs or (isinstance(mine, str) and mine == theirs)

    def __repr__(self) -> str:
        return self.storage if isinstance(self.storage, str) else type(self.storage).__name__


def _in_memory(url: str) -> bool:
    return url.partition(":")[0] == "memory"


def _require_identity(node: Node, storage: str) -> None:
    if not node.durable:
        raise ConfigError(
            f"the store {storage} is durable, but this node's identity ends with its process, so it "
            "would come back as a stranger to its own log; give Network(data_dir=...) a directory, "
            "or identity=... a key"
        )


def recover(log: Storage[Any], peer: bytes) -> Recovered:
    """What a log holds, as consensus starts from it. Reads a few entries and scans nothing.

    Raises:
        CorruptEntry: a configuration entry that the hard state names is missing or damaged.
    """
    hard, anchor, tail = log.hard_state, log.anchor, log.tail
    configurations: list[tuple[int, Any]] = []
    suspect = log.suspect
    for index in hard.configs:
        if suspect is not None and index in suspect:
            continue  # not in force until a leader supplies it again
        entry = log.get(index)
        if entry is None:
            raise CorruptEntry(index, "the configuration that the hard state names is missing")
        configurations.append((index, configuration_codec.decode(entry.payload)))
    return Recovered(
        peer=peer,
        hard_state=hard,
        anchor=anchor,
        tail=tail,
        term_starts=log.term_starts,
        configurations=configurations,
        newest=_newest(log),
        suspect=suspect.end if suspect is not None else 0,
        suspect_term=log.suspect_term,
    )


def _newest(log: Storage[Any]) -> list[Entry[Any]]:
    """Entries up to the last one, as many as fit. Halved until they do, since sizes are unknown."""
    last = log.tail.index
    count = min(_NEWEST_ENTRIES, last - log.anchor.index)
    while count > 0:
        entries = log.get_range(last - count + 1, last, limit=_NEWEST_BYTES)
        if entries and entries[-1].index == last:
            return entries
        count //= 2
    return []


class OpenedLog:
    """A group's log, opened. Its store's writer thread does what blocks."""

    def __init__(
        self,
        writer: Writer,
        log: Storage[Any],
        identity: LogIdentity,
        recovered: Recovered,
        checksum_at_applied: int,
    ) -> None:
        self._writer = writer
        self._log = log
        self.identity = identity
        self.recovered = recovered
        self.checksum_at_applied = checksum_at_applied
        """The checksum that the log holds at the index that was asked about at opening."""
        self.volatile = Capability.KILL_SAFE not in writer.environment.describe().capabilities
        """The store does not outlive this process."""

    @property
    def key(self) -> str:
        """Names the store that holds the log."""
        return self._writer.environment.key

    def write(self, batch: WriteBatch[Any], done: Callable[[StorageError | None], None]) -> None:
        """Commits a batch; ``done`` gets None, or why not."""
        self._writer.write(self._log, batch, done)

    def read(
        self,
        first: int,
        last: int,
        limit: int,
        done: Callable[[list[Entry[Any]] | StorageError], None],
    ) -> None:
        """Reads entries, after what was submitted before."""

        def answered(outcome: list[Entry[Any]] | Exception) -> None:
            done(_as_storage_error(outcome) if isinstance(outcome, Exception) else outcome)

        self._writer.run(lambda: self._log.get_range(first, last, limit=limit), answered)

    @property
    def storage(self) -> Storage[Any]:
        """The log itself; to be touched in a `call` only."""
        return self._log

    def describe(self) -> Description:
        """What the store gives."""
        return self._writer.environment.describe()

    async def call(self, work: Callable[[], T]) -> T:
        """Does something else that blocks, after what was submitted before."""
        return await self._writer.call(work)

    async def retire(self) -> None:
        """Forgets the log for good."""
        await self._writer.call(self._log.retire)

    async def close(self) -> None:
        """Finishes what was submitted and releases the store."""
        await self._writer.close()


def _as_storage_error(error: Exception) -> StorageError:
    if isinstance(error, StorageError):
        return error
    # A driver's own exception says nothing about what is on the disk.
    poisoned = StoragePoisoned(f"the storage backend failed: {error!r}")
    poisoned.__cause__ = error
    return poisoned


async def open_log(
    choice: StorageChoice, config: GroupConfig, node: Node, command: Any, applied: int
) -> OpenedLog:
    """Opens the log of a group, off the event loop.

    Args:
        command: the type that commands decode into.
        applied: an index whose checksum the caller wants to compare.

    Raises:
        StorageError: it cannot be opened. ConfigError: it is not fit for this group.
    """
    identity = LogIdentity(
        group=config.group_id, peer=node.peer, key=config.key.fingerprint, parts=config.parts
    )
    decode = Codec[Any](command).decode
    given: Storage[Any] | None = None
    chosen = choice.storage
    if chosen is None:
        raise ConfigError("no storage was chosen; resolve() the choice first")
    if isinstance(chosen, str):
        writer = await Writer.open(
            lambda: open_storage(chosen, peer=node.peer, data_dir=node.data_dir)
        )
    elif isinstance(chosen, Storage):
        given = chosen
        writer = Writer(given.environment)
    else:
        writer = Writer(chosen)

    def work() -> OpenedLog:
        environment = writer.environment
        _require_fitness(choice, node, environment)
        log = given if given is not None else environment.log(identity, decode)
        entry = log.get(applied) if applied else None
        recovered = recover(log, node.peer)
        return OpenedLog(writer, log, identity, recovered, entry.checksum if entry else 0)

    try:
        return await writer.call(work)
    except BaseException:
        await writer.close()
        raise


def _require_fitness(choice: StorageChoice, node: Node, environment: StorageEnvironment) -> None:
    described = environment.describe()
    if Capability.KILL_SAFE in described.capabilities:
        _require_identity(node, described.url)
    elif not choice.allow_volatile and not _in_memory(described.url):
        raise ConfigError(
            f"the store {described.url} does not survive the death of its process under these settings; "
            "choose others, or say with_log_storage(..., allow_volatile=True)"
        )
